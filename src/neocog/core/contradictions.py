"""Settings that are right one by one and wrong together."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from neocog.core.head import CLOSED

if TYPE_CHECKING:
    from neocog.core.config import TrainConfig


def contradictions(config: "TrainConfig") -> Iterator[tuple[set[str], str]]:
    """(keys, what is wrong) for settings that are right one by one and wrong together."""
    if config.val_fraction + config.test_fraction >= 1:
        yield (
            {"val_fraction", "test_fraction"},
            "val_fraction + test_fraction must be less than 1: nothing would be left to train on",
        )
    if config.regime not in ("auto", "scratch") and config.weights is None:
        yield (
            {"regime", "weights"},
            f"regime {config.regime} needs weights: give --weights imagenet or --weights FILE",
        )

    if config.head in CLOSED and config.regime not in ("auto", "features"):
        yield {"regime", "head"}, f"head {config.head} is fitted to embeddings: use regime features"
    if config.regime == "features" and config.cutmix:
        yield {"regime", "cutmix"}, "cutmix cuts pixels, of which regime features sees none: use mixup or regime probe"
    if config.regime == "features" and config.shard:
        yield {"regime", "shard"}, "regime features trains a head only, which is too small to be divided"
    if config.model == "auto" and (config.folds or config.repeats):
        yield {"model", "folds", "repeats"}, "folds and repeats judge one network: name it as model"
    if config.find_lr and config.head in CLOSED:
        yield {"find_lr", "head"}, f"head {config.head} is fitted at once and has no learning rate"
    if config.views is not None and config.unfreeze is not None:
        yield {"views", "unfreeze"}, "views goes with regime features, unfreeze with regime partial: give one"
    for name, regime in (("views", "features"), ("unfreeze", "partial")):
        open_one = config.regime == "auto" and config.weights is not None
        if getattr(config, name) is not None and not open_one and config.regime != regime:
            yield {"regime", name}, f"{name} goes with regime {regime}, which starts from weights"
    if config.model == "auto" and config.regime == "scratch":
        yield {"model", "regime"}, "model auto chooses between pretrained networks: name one for regime scratch"
