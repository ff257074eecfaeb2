"""Settings that are right one by one and wrong together."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from neocog.core.head import CLOSED
from neocog.core.noise import Noise

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
    embedded = config.regime == "features" or config.head in CLOSED or config.views is not None
    if embedded and config.adversarial:
        why = "noise adversarial changes pixels, of which regime features sees none: use regime probe"
        yield {"regime", "head", "views", "noise"}, why
    if config.regime == "features" and config.shard:
        yield {"regime", "shard"}, "regime features trains a head only, which is too small to be divided"
    if config.model == "auto" and (config.folds or config.repeats):
        yield {"model", "folds", "repeats"}, "folds and repeats judge one network: name it as model"
    if config.find_lr and config.head in CLOSED:
        yield {"find_lr", "head"}, f"head {config.head} is fitted at once and has no learning rate"
    if config.watch and config.head in CLOSED:
        yield {"watch", "head"}, f"head {config.head} is fitted at once: there are no steps to watch"
    if config.watch and config.shard:
        yield {"watch", "shard"}, "shard leaves no process a whole layer to watch: give one of the two"
    if config.views is not None and config.unfreeze is not None:
        yield {"views", "unfreeze"}, "views goes with regime features, unfreeze with regime partial: give one"
    for name, regime in (("views", "features"), ("unfreeze", "partial")):
        open_one = config.regime == "auto" and config.weights is not None
        if getattr(config, name) is not None and not open_one and config.regime != regime:
            yield {"regime", name}, f"{name} goes with regime {regime}, which starts from weights"
    if config.model == "auto" and config.regime == "scratch":
        yield {"model", "regime"}, "model auto chooses between pretrained networks: name one for regime scratch"
    yield from of_reconstruction(config)


AUTOENCODERS: dict[str, object] = {"contractive": 0.0, "beta": 1.0, "cd_steps": None, "persistent": False}
CLASSES: dict[str, object] = {
    "head": "linear", "stage": None, "views": None, "unfreeze": None, "label_smoothing": 0.0, "class_weights": "none",
    "mixup": None, "cutmix": None, "erasing": None,
}  # fmt: skip


def of_reconstruction(config: "TrainConfig") -> Iterator[tuple[set[str], str]]:
    noise = Noise.parse(str(config.noise or "none"))  # a number where other settings are wrong
    if config.task == "classification":
        for name, usual in AUTOENCODERS.items():
            if getattr(config, name) != usual:
                yield {"task", name}, f"{name} is for autoencoders: use task reconstruction"
        if noise.kind not in ("none", "gaussian", "adversarial"):
            yield (
                {"task", "noise"},
                f"noise {noise} is for autoencoders; gaussian:N and adversarial:N go with classification",
            )
        if config.loss in ("squared", "absolute", "ssim"):
            yield {"task", "loss"}, f"loss {config.loss} compares pictures: use task reconstruction"
    if config.task == "reconstruction":
        for name, usual in CLASSES.items():
            if getattr(config, name) not in (usual, 0.0 if usual is None else usual):
                yield {"task", name}, f"{name} is for classification, and task is reconstruction"
        if config.loss == "margin":
            yield {"task", "loss"}, "the margin loss compares classes, and task is reconstruction"
        if config.regime not in ("auto", "scratch"):
            yield {"task", "regime"}, f"regime {config.regime} is for classification: an autoencoder learns as a whole"
        if config.folds or config.repeats:
            yield {"task", "folds", "repeats"}, "folds and repeats compare classifiers: leave them out"
        if config.shard:
            yield {"task", "shard"}, "an autoencoder is not divided between processes: leave shard out"
