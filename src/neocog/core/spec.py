"""The facts of a network, written beside its builder and recounted by the tests."""

from dataclasses import dataclass, field

MAX_CHANNELS = 64  # of a picture
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """From a decoded picture to a network's input: short side to `resize`, centre crop `size`, then
    (x / 255 - mean) / std per channel. Sizes are pixels; mean and std are on the 0..1 scale."""

    size: int = 224
    resize: int = 256
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: str = "bilinear"  # always with antialiasing


def figures_for(channels: int, values: tuple[float, ...]) -> tuple[float, ...]:
    """A mean or std for other channels: colour figures serve grey as their mean, grey serves all three."""
    return values if len(values) == channels else (sum(values) / len(values),) * channels


@dataclass(frozen=True)
class Weights:
    """Published weights: where they lie, how to know them, how to feed them.

    `sha256` may be a prefix of the digest (torchvision publishes eight digits in the file's name).
    `layout` names the key layout: "torchvision", "timm" or "neocog".
    `top1`, `top5`: the publisher's ImageNet validation accuracy, in percent.
    `knobs`: builder knobs these weights need, for instance {"padding": "same"}.
    `aliases`: other names of the same file, such as timm's "resnet50.tv2_in1k".
    """

    tag: str
    url: str
    sha256: str
    layout: str = "torchvision"
    preprocessing: Preprocessing = Preprocessing()
    categories: str = "imagenet-1k"
    licence: str = "BSD-3-Clause"
    top1: float | None = None
    top5: float | None = None
    knobs: dict[str, object] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()


def torchvision_v1(name: str, sha256: str, top1: float, top5: float, aliases: tuple[str, ...] = ()) -> Weights:
    """torchvision's first ImageNet weights of the network that it calls `name`; their file name holds the hash."""
    url = f"https://download.pytorch.org/models/{name}-{sha256}.pth"
    return Weights("imagenet1k_v1", url, sha256, top1=top1, top5=top5, aliases=aliases)


@dataclass(frozen=True)
class Spec:
    """A network's facts. `params` and `macs` (multiply-accumulates of convolutions and matrix products,
    one picture) are counted at `input_shape` (C, H, W) with `num_classes` outputs and without auxiliary heads.
    The first of `weights` is the default, the one that "imagenet" means."""

    name: str
    idea: str  # one sentence, for the zoo table
    title: str
    year: int
    link: str
    table: str  # which table of the paper the code's table is
    input_shape: tuple[int, ...]
    params: int
    macs: int
    num_classes: int = 1000
    task: str = "classification"
    weights: tuple[Weights, ...] = ()
    aliases: tuple[str, ...] = ()
