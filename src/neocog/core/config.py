"""The settings of a training run: one flat TOML file that a person can read and a program can replay.

Every key has a type, a range and a default; `auto` is resolved once, before training, and the value
chosen stands in the run's own `config.toml`. Unknown keys are errors. No value names a Python object.
Order of precedence: defaults < file < command line.
"""

import json
import stat
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from neocog.core.contradictions import contradictions
from neocog.core.errors import UsageError
from neocog.core.noise import Noise
from neocog.core.problems import problems
from neocog.core.setting_types import Channels, Name, NoiseText, Pattern, Sparse

Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, le=1e3)]
# The complete settings take about 2,000; and tomllib's time grows with the square of the parts of a dotted key.
MAX_CONFIG_BYTES = 20_000


class TrainConfig(BaseModel):
    """All settings of `neocog train`. The description of a field is its help text on the command line."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)

    data: Name = Field(description="a folder of class folders, a folder with train/ val/ test/, a CSV, or a named set")
    model: str = Field(
        "resnet18",
        max_length=100,
        description="a network of `neocog models`; auto: the one of the pretrained ones at hand that fits best",
    )
    knobs: dict[str, bool | int | float | str] = Field({}, description="the network's own options, as NAME=VALUE")
    task: Literal["auto", "classification", "reconstruction"] = Field(
        "auto",
        description="what is learned: each picture's class, or to give the picture back; auto: what the network is for",
    )
    regime: Literal["auto", "scratch", "features", "probe", "partial", "full", "gradual"] = Field(
        "auto",
        description="scratch; features: a head on embeddings computed once; probe: frozen backbone, new head; partial: "
        "head first, then the last stages too; full: then everything; gradual: one more stage after the other",
    )
    weights: Name | None = Field(
        None, description="imagenet, a published tag, a .safetensors / .pth file, or a run's folder"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="every random choice follows from it")

    # transfer
    head: Literal["linear", "mlp", "svm", "knn", "prototype"] = Field(
        "linear",
        description="what the features are classified with; svm, knn (nearest pictures) and prototype (class means) "
        "are fitted at once and go with regime features",
    )
    hidden: int = Field(256, ge=1, le=65_536, description="head mlp: width of its hidden layer")
    stage: str | None = Field(
        None,
        max_length=100,
        description="the network ends after this stage, averaged, and the head follows (default: its own end)",
    )
    views: int | None = Field(
        None,
        ge=0,
        le=1000,
        description="regime features: augmented views of each picture that are embedded once (0: the picture itself; "
        "default: 10, or what fits into --time)",
    )
    unfreeze: int | None = Field(
        None, ge=1, le=1000, description="regime partial: stages that learn, counted from the last (default: 2)"
    )
    stage_epochs: int = Field(
        1, ge=1, le=10_000, description="regime gradual: epochs between one stage that begins to learn and the next"
    )
    layer_decay: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="regimes partial, full, gradual: rate of a stage as a share of the next one's towards the head"
    )

    # autoencoders
    latent: int | None = Field(
        None, ge=1, le=65_536, description="numbers of the code, or its maps (default: the network's)"
    )
    sparse: Sparse | None = Field(
        None,
        description="how codes are kept sparse: k:16, of each code the 16 highest activations stay; l1:0.1, weight of "
        "the mean activation in the loss; kl:0.05, what each unit's mean activation should be",
    )
    contractive: float = Field(
        0.0, ge=0, le=1000, description="weight in the loss of how much the code moves with the picture"
    )
    beta: float = Field(1.0, ge=0, le=1000, description="variational codes: weight of the divergence from the prior")
    annealed: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="variational codes: share of the training in which that weight grows from 0"
    )
    cd_steps: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="Boltzmann machines: steps of Gibbs sampling of contrastive divergence (default: 1)",
    )
    persistent: bool = Field(False, description="Boltzmann machines: these steps go on from those of the batch before")

    # data
    val_fraction: Fraction = Field(0.15, description="share of the pictures for validation where the data has no split")
    test_fraction: Fraction = Field(0.15, description="share of the pictures for the test where the data has no split")
    image_size: int | None = Field(
        None,
        ge=8,
        le=2048,
        description="pixels of the network's square input (default: the weights', the network's or the data's)",
    )
    channels: Channels = Field(
        "auto",
        description="the network's input: auto, rgb, grey, or a number of bands, 2 to 64, taken as they are stored "
        "(.npy, TIFF, RGBA, ...); auto: grey where every picture is grey and no weights ask for colour",
    )
    background: str = Field(
        "white",
        pattern=r"^(white|black|grey|#[0-9a-fA-F]{6})$",
        examples=["white", "black", "grey", "#00ff7f"],
        description="colour behind transparent pixels",
    )
    max_pixels: int = Field(64_000_000, ge=1, le=10**9, description="pictures with more pixels are excluded")
    max_excluded: Fraction = Field(0.01, description="share of excluded pictures above which the run fails")
    strict: bool = Field(False, description="fail on the first excluded picture")
    allow_empty_classes: bool = Field(
        False, description="class folders without pictures are left out instead of refused"
    )
    frames: Literal["first", "error"] = Field(
        "first", description="animations and files of several pages; first: the first frame is used; error: left out"
    )
    follow_links: bool = Field(False, description="follow symbolic links inside the data folder")
    threads: int = Field(0, ge=0, le=256, description="threads that decode pictures (0: one per core)")

    group_by: Pattern | None = Field(
        None,
        description="regular expression on file names: pictures of which it matches the same text (its first group, "
        "such as a patient's number) stay in one set",
    )
    folds: int | None = Field(
        None,
        ge=2,
        le=100,
        description="cross-validation: the pictures are divided into so many parts, each the test once; a test "
        "set that the data itself has stays aside",
    )
    fold: int | None = Field(
        None, ge=1, le=100_000, description="of folds or repeats this one alone (default: all, one after the other)"
    )
    repeats: int | None = Field(
        None,
        ge=2,
        le=1000,
        description="as many independent splits (with folds: as many divisions), each a run of its own",
    )

    # length
    epochs: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="passes over the training pictures (default: what fits into --time; without it 20, for regime "
        "features 100, and more where there are few pictures)",
    )
    time: str | None = Field(
        None,
        pattern=r"^[0-9]{1,6}(\.[0-9]{1,6})?(s|m|h)$",
        examples=["90s", "10m", "2h"],
        description="time budget of the whole run, report included: 90s, 10m, 2h",
    )
    batch_size: Annotated[int, Field(ge=1, le=65_536)] | None = Field(
        None, description="pictures per step (default: 64; 32, 16 or 8 where an epoch would have fewer than 20 steps)"
    )
    accumulate: int = Field(1, ge=1, le=4096, description="steps whose gradients are added before the weights move")
    patience: int | None = Field(
        None, ge=1, le=100_000, description="stop after this many epochs without a better validation loss"
    )

    watch: bool = Field(
        False,
        description="look at the training from inside: gradients and updates of every layer, dead units, activations, "
        "and the loss around the weights at the end; takes room for one more copy of the weights",
    )

    # optimizer
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop"] = Field("adamw", description="the update rule")
    lr: Annotated[float, Field(gt=0, le=100)] | None = Field(
        None, description="peak learning rate (default: 0.001, for sgd 0.05)"
    )
    find_lr: bool = Field(
        False, description="look for the rate first, in a short training with rising rates that leaves no trace"
    )
    momentum: Fraction = Field(0.9, description="of sgd (Nesterov) and rmsprop")
    weight_decay: float = Field(0.01, ge=0, le=10, description="not applied to biases and norms")
    schedule: Literal["constant", "step", "plateau", "cosine", "one_cycle"] = Field(
        "cosine", description="how the learning rate moves"
    )
    warmup_epochs: float = Field(0.5, ge=0, le=1000, description="linear rise to the peak rate, in epochs")
    step_epochs: int = Field(
        10, ge=1, le=100_000, description="schedule step: epochs between drops; plateau: epochs without improvement"
    )
    gamma: float = Field(0.1, gt=0, lt=1, description="schedule step and plateau: factor of a drop")
    head_epochs: int = Field(
        2, ge=0, le=10_000, description="regimes partial, full, gradual: epochs in which only the head learns"
    )
    finetune_lr: float = Field(
        0.1, gt=0, le=1, description="these regimes: the rate of everything after that, as a share of the head's"
    )
    batch_statistics: bool = Field(
        False, description="these regimes: batch norm learns its statistics from the batches, as from nothing"
    )
    clip_norm: Positive | None = Field(None, description="largest norm of the gradient")
    ema: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="decay of an average of the weights, which is then what is evaluated and kept"
    )

    # loss and regularisation
    loss: Literal["auto", "cross_entropy", "margin", "squared", "absolute", "ssim"] = Field(
        "auto",
        description="what is minimised; auto: margin for capsule networks, squared for autoencoders (variational ones "
        "cross_entropy), else cross_entropy. squared, absolute and ssim are for autoencoders",
    )
    label_smoothing: Fraction = Field(0.0, description="share of the target given to all classes")
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="balanced: rare classes weigh more in the loss"
    )
    dropout: Fraction | None = Field(None, description="dropout before the classifier (default: the paper's)")
    l1: float = Field(0.0, ge=0, le=10, description="weight of the sum of absolute weights in the loss")
    init: Literal[
        "paper",
        "pytorch",
        "uniform",
        "normal",
        "constant",
        "xavier_uniform",
        "xavier_normal",
        "he_uniform",
        "he_normal",
    ] = Field("paper", description="how weights that are not loaded start")

    # augmentation (training pictures only)
    augment: Literal["auto", "none", "light", "photo"] = Field(
        "auto",
        description="preset; light: small shifts; photo: random crop, flip, colour. Single settings below override it",
    )
    crop: Literal["none", "padded", "resized"] | None = Field(
        None, description="random crop: of the padded picture, or of a random part resized"
    )
    crop_pad: int | None = Field(None, ge=0, le=512, description="padded crop: pixels of padding")
    crop_scale: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="resized crop: smallest share of the picture's area"
    )
    flip: bool | None = Field(None, description="mirror left and right, every second picture")
    rotation: float | None = Field(None, ge=0, le=180, description="largest rotation in degrees")
    colour: float | None = Field(
        None, ge=0, le=1, description="strength of brightness, contrast and saturation changes"
    )
    noise: NoiseText | None = Field(
        None,
        description="noise on the pictures, KIND:STRENGTH: gaussian:0.1 (or 0.1), its standard deviation on the 0..1 "
        "scale; adversarial:0.03, each pixel moved so far in the direction that makes the loss worse (classification "
        "learns both, the picture with and without it). Autoencoders, which give back the picture without it: also "
        "salt_pepper:0.2, mask:0.5, patches:0.75, low_resolution:4, grey, binary",
    )
    erasing: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="probability that a rectangle is erased"
    )
    mixup: float | None = Field(None, ge=0, le=10, description="alpha of MixUp (0: off)")
    cutmix: float | None = Field(None, ge=0, le=10, description="alpha of CutMix (0: off)")

    # machine
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:[0-9]{1,3})?)$",
        examples=["auto", "cpu", "cuda", "cuda:0", "mps"],
        description="auto, cpu, cuda, cuda:N or mps",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 where the hardware has it")
    layout: Literal["auto", "channels_last", "contiguous"] = Field(
        "auto", description="memory layout of pictures and weights"
    )
    shard: bool = Field(False, description="several processes: divide weights and optimizer between them (FSDP2)")
    sync_batch_norm: bool = Field(
        False, description="several processes: batch norm learns from the batches of all, not each from its own"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "TrainConfig":
        found = [text for _, text in contradictions(self)]
        if found:
            raise ValueError(" | ".join(found))
        return self

    @property
    def batch(self) -> int:
        """Pictures per step, once that is decided."""
        assert self.batch_size is not None
        return self.batch_size

    @property
    def adversarial(self) -> float:
        """Largest change of a pixel on the 0..1 scale by the adversarial step; 0 without it."""
        noise = Noise.parse(str(self.noise or "none"))  # a number where nothing was validated yet
        return noise.strength if noise.kind == "adversarial" else 0.0

    @property
    def bands(self) -> int | None:
        """How many are taken as they are stored; None for colour and grey."""
        return int(self.channels) if self.channels.isdecimal() else None

    def to_toml(self, comment: str = "") -> str:
        """The complete settings as TOML; keys that are unset (None) are left out."""
        lines = [f"# {line}" for line in comment.splitlines()]
        values = self.model_dump(exclude_none=True)
        knobs = values.pop("knobs")
        lines += [f"{key} = {_toml(value)}" for key, value in values.items()]
        if knobs:
            lines += ["", "[knobs]", *(f"{key} = {_toml(value)}" for key, value in knobs.items())]
        return "\n".join(lines) + "\n"


def seconds(text: str) -> float:
    """ "90s", "10m", "2h" -> seconds."""
    return float(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]]


def load_config(path: Path | None, overrides: dict[str, Any]) -> TrainConfig:
    """Defaults < the file < `overrides` (values of None are not overrides). All errors at once."""
    values: dict[str, Any] = read_toml(path) if path is not None else {}
    values |= {key: value for key, value in overrides.items() if value is not None}
    return validate(values, str(path) if path is not None else "settings")


def read_toml(path: Path) -> dict[str, Any]:
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):  # reading a FIFO would wait for ever
            raise UsageError(f"{path} is no regular file", "give the path of a TOML file")
        if facts.st_size > MAX_CONFIG_BYTES:
            raise UsageError(
                f"{path} has more than {MAX_CONFIG_BYTES:,} bytes, which no configuration has",
                "give a TOML file of settings",
            )
        text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
        values = tomllib.loads(text)
        # A path may hold bytes that are no UTF-8, and a run must be able to read its own settings. Nothing else may.
        paths = "".join(str(values.get(key, "")) for key in ("data", "weights"))
        if _undecoded(text) > _undecoded(paths):
            path.read_bytes().decode("utf-8-sig")
        return values
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})", "give the path of a TOML file") from None
    except (ValueError, RecursionError) as error:  # tomllib's own error is a ValueError, and so are some of Python's
        raise UsageError(f"{path} is not valid TOML ({error})", "correct that place") from None


def _undecoded(text: str) -> int:
    return sum("\udc80" <= character <= "\udcff" for character in text)


def validate(values: dict[str, Any], where: str) -> TrainConfig:
    """UsageError that lists every wrong key, with what is allowed and, for unknown keys, the nearest valid one."""
    values = {key: _with_point(key, value) for key, value in values.items()}
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        found = problems(error, TrainConfig)
        wrong = {str(item["loc"][0]) for item in error.errors() if item["loc"]}
        if wrong:  # pydantic compares settings only where each of them is right
            rest = TrainConfig.model_construct(**{k: v for k, v in values.items() if k not in wrong})
            found += [text for keys, text in contradictions(rest) if not keys & wrong]
        more = f" ({len(found)} errors)" if len(found) > 1 else ""
        raise UsageError(f"{where}{more}: " + " | ".join(found), "`neocog train --help` lists every setting") from None


def _with_point(key: str, value: Any) -> Any:
    """TOML and Python write 1 for 1.0: whole numbers are welcome where a fraction is asked for, true is not."""
    field = TrainConfig.model_fields.get(key)
    whole = type(value) is int and field is not None and "float" in str(field.annotation)
    return float(value) if whole and abs(value) < 2**53 else value


def _toml(value: Any) -> str:
    # JSON's strings, numbers and booleans are valid TOML; a float keeps its point.
    return repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
