"""`auto` becomes a value: every open setting is decided here, once, from the data, the weights and the machine.

The decided configuration is what a run writes to its `config.toml`, so a replay decides nothing again.
"""

import math
from typing import Any

from neocog.core.config import TrainConfig
from neocog.core.head import CLOSED
from neocog.core.spec import Preprocessing, Spec
from neocog.training.contracts import Recipe, Regime
from neocog.training.optimizer import DEFAULT_LR
from neocog.training.schedule import Schedule
from neocog.transfer.regimes import FineTune, Probe, Scratch

# (epochs, steps): whichever is more. In regime features an epoch takes milliseconds.
EPOCHS = 20, 400
HEAD_EPOCHS = 100, 1000
BATCHES = 8, 16, 32, 64
STEPS = 20
UNFREEZE = 2
SMALL = 64  # pixels: up to here a picture is a digit or a thumbnail, above it a photograph

# crop, pad as a share of the size, smallest area, flip, rotation (degrees), colour
PRESETS: dict[str, dict[str, Any]] = {
    "none":  {"crop": "none", "crop_pad": 0, "crop_scale": 1.0, "flip": False, "rotation": 0.0, "colour": 0.0},
    "light": {"crop": "padded", "crop_pad": 2, "crop_scale": 1.0, "flip": False, "rotation": 0.0, "colour": 0.0},
    "photo": {"crop": "resized", "crop_pad": 0, "crop_scale": 0.35, "flip": True, "rotation": 0.0, "colour": 0.2},
}  # fmt: skip
NEVER_BY_PRESET = {"noise": "none", "erasing": 0.0, "mixup": 0.0, "cutmix": 0.0}


def channels(config: TrainConfig, own: Preprocessing | None) -> int | None:
    """What pictures are decoded to; None: grey where every picture is, else colour. Weights ask for colour."""
    return config.bands or {"auto": None if own is None else 3, "rgb": 3, "grey": 1}[config.channels]


def largest_side(config: TrainConfig, spec: Spec, own: Preprocessing | None) -> int:
    """The short side up to which pictures are kept when they are read, before anything is known about them."""
    if config.image_size is not None:
        return stored_side(config.image_size)
    return own.resize if own is not None else stored_side(spec.input_shape[-1])


def decide_size(
    config: TrainConfig, spec: Spec, own: Preprocessing | None, equal_size: tuple[int, int] | None
) -> tuple[int, int]:
    """(short side after resizing, side of the square crop), in pixels. `own`: the weights' preprocessing;
    `equal_size`: (H, W) where all pictures agree."""
    if config.image_size is not None:
        return stored_side(config.image_size), config.image_size
    if own is not None:
        return own.resize, own.size
    size = spec.input_shape[-1]
    if equal_size is not None and max(equal_size) <= SMALL:
        size = min(equal_size)
    return stored_side(size), size


def stored_side(size: int) -> int:
    """The short side that a crop of `size` pixels is cut from: the field's 256 for 224; small pictures whole."""
    return size if size <= SMALL else round(size * 256 / 224)


def decide(config: TrainConfig, channels: int, size: int, pictures: int) -> TrainConfig:
    """The configuration with every `auto` and every preset resolved. `pictures`: for training."""
    photo = size > SMALL
    usual = "none" if config.task == "reconstruction" else "photo" if photo else "light"
    preset = config.augment if config.augment != "auto" else usual
    values: dict[str, Any] = {
        "augment": preset,
        "channels": {1: "grey", 3: "rgb"}.get(channels, str(channels)),
        "image_size": size,
    }
    preset_values = PRESETS[preset] | NEVER_BY_PRESET
    values |= {key: value for key, value in preset_values.items() if getattr(config, key) is None}
    if config.batch_size is None:
        values["batch_size"] = default_batch(pictures)
    if config.lr is None and not config.find_lr:
        values["lr"] = DEFAULT_LR[config.optimizer]
    if config.regime == "auto":
        values["regime"] = only_regime(config)
    return config.model_copy(update=values)


def only_regime(config: TrainConfig) -> str:
    """The regime that other settings leave possible, or auto."""
    if config.weights is None:
        return "scratch"
    if config.head in CLOSED or config.views is not None:
        return "features"
    if config.unfreeze is not None:
        return "partial"
    return "full" if config.cutmix or config.adversarial or config.shard else "auto"


def settle(config: TrainConfig, pictures: int) -> TrainConfig:
    """What depends on the regime, and on the number of training pictures."""
    values: dict[str, Any] = {}
    if config.regime == "features" and config.head in CLOSED and config.views is None:
        values["views"] = 0
    if config.regime == "partial" and config.unfreeze is None:
        values["unfreeze"] = UNFREEZE
    if config.epochs is None and (config.time is None or config.regime == "features"):  # a head is soon done
        values["epochs"] = default_epochs(config.regime, pictures, config.batch)
    return config.model_copy(update=values)


def default_batch(pictures: int) -> int:
    """The largest of BATCHES that leaves an epoch STEPS steps: a network learns by steps, not by pictures."""
    return max((batch for batch in BATCHES if batch * STEPS <= pictures), default=BATCHES[0])


def default_epochs(regime: str, pictures: int, batch_size: int) -> int:
    """EPOCHS, and more of few pictures: a network learns by steps."""
    epochs, steps = HEAD_EPOCHS if regime == "features" else EPOCHS
    return max(epochs, math.ceil(steps / math.ceil(pictures / batch_size)))


def make_recipe(config: TrainConfig, *, bf16: bool) -> Recipe:
    rate = config.lr or DEFAULT_LR[config.optimizer]  # one that is looked for begins from it
    # Where a time budget decides on the length, the loop fills it in.
    schedule = Schedule(config.schedule, config.epochs or 1, config.warmup_epochs, config.step_epochs, config.gamma)
    return Recipe(
        epochs=config.epochs, optimizer=config.optimizer, lr=rate, schedule=schedule, momentum=config.momentum,
        weight_decay=config.weight_decay, accumulate=config.accumulate, clip_norm=config.clip_norm, l1=config.l1,
        ema=config.ema, patience=config.patience, seed=config.seed, bf16=bf16,
        sync_batch_norm=config.sync_batch_norm, shard=config.shard,
    )  # fmt: skip


def make_regime(config: TrainConfig) -> Regime:
    match config.regime:
        case "probe":
            return Probe()
        case "partial" | "full" | "gradual":
            return FineTune(
                config.head_epochs, config.finetune_lr, config.batch_statistics, config.layer_decay,
                unfreeze=config.unfreeze if config.regime == "partial" else None,
                stage_epochs=config.stage_epochs if config.regime == "gradual" else 0,
            )  # fmt: skip
        case _:  # from nothing, or a head by itself
            return Scratch()
