"""Xception: Inception taken to its extreme, one branch per channel.

An Inception module looks at a few groups of channels with filters of their own. With as many groups as channels
it has become a separable convolution (layers/separable.py); Xception stacks 34 of them, with ResNet's shortcuts.

Paper: Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", CVPR 2017, arXiv:1610.02357.
ENTRY, MIDDLE and EXIT below are Figure 5, read along its arrows.
Differs from the paper: nothing that it says. It leaves padding open: here it stands on both sides, as in the
published PyTorch weights. `padding="same"` is the author's own network (https://keras.io/api/applications/xception)
with TensorFlow's padding, and brings his batch norm's epsilon, 1e-3, with it. The first two convolutions are not
padded in either.

    image     3 x 299 x 299
    stem     64 x 147 x 147   conv3/2, conv3
    entry1  128 x  74 x  74   separable, separable, pool/2, and a shortcut
    entry2  256 x  37 x  37
    entry3  728 x  19 x  19
    middle  728 x  19 x  19   8 times separable, separable, separable, and a shortcut
    exit   2048 x  10 x  10   as entry; then separable, separable  -> mean -> classes
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import Tensor, nn

from neocog.core.contracts import Network
from neocog.core.registry import register
from neocog.core.spec import Preprocessing, Spec, Weights
from neocog.layers.conv import ConvNormAct
from neocog.layers.dropout import Dropout
from neocog.layers.init import initialise
from neocog.layers.same_pool import SameMaxPool2d
from neocog.layers.separable import SeparableConv
from neocog.models.keys import rename

STEM = (32, 64)
#   stage: channels of its separable convolutions
ENTRY = {
    "entry1": (128, 128),
    "entry2": (256, 256),
    "entry3": (728, 728),
}
MIDDLE, REPEATS = (728, 728, 728), 8
EXIT = (728, 1024)
TAIL = (1536, 2048)
DROPOUT = 0.5  # section 4.4, for ImageNet


class Block(nn.Module):
    """(B, c_in, H, W) -> (B, widths[-1], H / 2, W / 2), or the same H and W without `shrink`: a row of separable
    convolutions, each behind a ReLU, plus what came in. Children of `body`: `unit1`, `unit2`, ..., `pool`."""

    def __init__(
        self,
        c_in: int,
        widths: tuple[int, ...],
        norm: Callable[[int], nn.Module],
        *,
        shrink: bool,
        same: bool,
        bend_first: bool,
    ) -> None:
        super().__init__()
        c_out = widths[-1]
        self.body = nn.Sequential()
        self.shortcut: nn.Module = nn.Identity()
        if shrink:
            self.shortcut = ConvNormAct(c_in, c_out, 1, stride=2, norm=norm, act=None)
        for number, width in enumerate(widths, start=1):
            unit = nn.Sequential()
            if number > 1 or bend_first:
                # Not in place at first: the shortcut reads the same input.
                unit.add_module("act", nn.ReLU(inplace=number > 1))
            unit.add_module("conv", SeparableConv(c_in, width))
            unit.add_module("norm", norm(width))
            self.body.add_module(f"unit{number}", unit)
            c_in = width
        if shrink:
            pool = SameMaxPool2d(3, stride=2) if same else nn.MaxPool2d(3, stride=2, padding=1)
            self.body.add_module("pool", pool)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x) + self.shortcut(x)
        return out


class Xception(Network):
    """(B, C, H, W) -> (B, K)"""

    stage_channels = (128, 256, 728, 728, 2048)
    stage_strides = (4, 8, 16, 16, 32)
    min_size = 7  # two convolutions without padding

    def __init__(self, num_classes: int, in_channels: int, padding: str, dropout: float) -> None:
        super().__init__()
        if padding not in ("torch", "same"):
            raise ValueError(f"padding = {padding!r} is neither 'torch' nor 'same'")
        same = padding == "same"
        norm = partial(nn.BatchNorm2d, eps=1e-3 if same else 1e-5)
        self.num_classes, self.in_channels = num_classes, in_channels
        self.stem = nn.Sequential(
            OrderedDict(
                conv1=ConvNormAct(in_channels, STEM[0], 3, stride=2, padding=0, norm=norm),
                conv2=ConvNormAct(STEM[0], STEM[1], 3, padding=0, norm=norm),
            )
        )
        self.stages = nn.Sequential()
        c = STEM[1]
        for name, widths in ENTRY.items():
            # The stem has already bent what comes into the first block.
            block = Block(c, widths, norm, shrink=True, same=same, bend_first=name != "entry1")
            self.stages.add_module(name, block)
            c = widths[-1]
        middle = (Block(c, MIDDLE, norm, shrink=False, same=same, bend_first=True) for _ in range(REPEATS))
        self.stages.add_module("middle", nn.Sequential(*middle))
        exit_flow = nn.Sequential(OrderedDict(block=Block(c, EXIT, norm, shrink=True, same=same, bend_first=True)))
        c = EXIT[-1]
        for number, width in enumerate(TAIL, start=1):
            parts: OrderedDict[str, nn.Module] = OrderedDict(
                conv=SeparableConv(c, width), norm=norm(width), act=nn.ReLU(inplace=True)
            )
            exit_flow.add_module(f"unit{number}", nn.Sequential(parts))
            c = width
        self.stages.add_module("exit", exit_flow)
        self.head = nn.Sequential(
            OrderedDict(
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                dropout=Dropout(dropout),
                fc=nn.Linear(c, num_classes),
            )
        )
        # The paper does not say how weights start; the author's code leaves it to Keras: Glorot's.
        initialise(self, "xavier_uniform")


def _unit(theirs: str, ours: str) -> tuple[tuple[str, str], ...]:
    return ((rf"{theirs}\.conv1\.", f"{ours}.conv.depthwise."), (rf"{theirs}\.pointwise\.", f"{ours}.conv.pointwise."))


def _block(theirs: str, ours: str, first: int) -> tuple[tuple[str, str], ...]:
    """timm counts ReLUs, convolutions and norms in one row; `first` is the place of the first convolution."""
    rules: list[tuple[str, str]] = [
        (rf"{theirs}\.skip\.", f"{ours}.shortcut.conv."),
        (rf"{theirs}\.skipbn\.", f"{ours}.shortcut.norm."),
    ]
    for number in (1, 2, 3):
        place = first + 3 * (number - 1)
        rules += _unit(rf"{theirs}\.rep\.{place}", f"{ours}.body.unit{number}")
        rules.append((rf"{theirs}\.rep\.{place + 1}\.", f"{ours}.body.unit{number}.norm."))
    return tuple(rules)


FROM_TIMM = rename(
    *((rf"conv{i}\.weight", f"stem.conv{i}.conv.weight") for i in (1, 2)),
    *((rf"bn{i}\.", f"stem.conv{i}.norm.") for i in (1, 2)),
    *(rule for i in (1, 2, 3) for rule in _block(f"block{i}", f"stages.entry{i}", 0 if i == 1 else 1)),
    *(rule for i in range(REPEATS) for rule in _block(f"block{4 + i}", f"stages.middle.{i}", 1)),
    *_block("block12", "stages.exit.block", 1),
    *(rule for i in (1, 2) for rule in _unit(f"conv{i + 2}", f"stages.exit.unit{i}")),
    *((rf"bn{i + 2}\.", f"stages.exit.unit{i}.norm.") for i in (1, 2)),
    (r"fc\.", "head.fc."),
)


@register(
    Spec(
        name="xception",
        idea="Inception's extreme: separable convolutions all the way, with ResNet's shortcuts.",
        title="Xception: Deep Learning with Depthwise Separable Convolutions",
        year=2016,
        link="https://arxiv.org/abs/1610.02357",
        table="Figure 5",
        input_shape=(3, 299, 299),
        params=22_855_952,
        macs=8_357_403_496,
        weights=(
            Weights(
                tag="legacy_xception.tf_in1k",
                url="https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-cadene/"
                "xception-43020ad28.pth",
                sha256="43020ad28",
                layout="timm",
                preprocessing=Preprocessing(299, 333, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic"),
                licence="Apache-2.0",
            ),
        ),
        aliases=("legacy_xception",),
    ),
    key_maps={"timm": FROM_TIMM},
)
def xception(
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    padding: Literal["torch", "same"] = "torch",
    dropout: float | None = None,
) -> Xception:
    return Xception(num_classes, in_channels, padding, DROPOUT if dropout is None else dropout)
