"""PyramidNet: grow a little in every block instead of doubling in a few.

In a ResNet the blocks that halve the map and double the channels carry more than the rest. Here every block adds
the same few channels, which its shortcut, having nothing to learn, fills with zeros.

Paper: Han, Kim and Kim, "Deep Pyramidal Residual Networks", CVPR 2017, arXiv:1610.02915. NETWORKS below are rows
of its results on the frame of Table 1; the k-th of N blocks has start + k alpha / N channels, cut to a whole number
(equation 2). Blocks are figure 6d: the first ReLU is gone, a norm closes the block.
Where a shortcut halves the map the paper does not say how; here by the mean over 2 x 2 pixels, as in the authors'
code (https://github.com/jhkim89/PyramidNet). That code rounds to the nearest number of channels; cutting gives the
paper's counts (1.7, 3.8 and 62.1 million), but for alpha 270, where nothing is left to cut, 28.5 for its 28.3.

    image         3 x 32 x 32     pyramidnet110_a270
    stem         16 x 32 x 32     conv3, norm
    conv2       106 x 32 x 32
    conv3       196 x 16 x 16
    conv4       286 x  8 x  8     -> norm, ReLU, mean -> classes
"""

from collections import OrderedDict
from typing import NamedTuple

from torch import Tensor, nn

from neocog.core.contracts import Network
from neocog.core.registry import register
from neocog.core.spec import Spec
from neocog.layers.conv import ConvNormAct
from neocog.layers.init import he_fan_out
from neocog.layers.residual import EXPANSION, ZeroPadShortcut, basic_body, bottleneck_body


class Row(NamedTuple):
    kind: str
    start: int  # channels of the stem
    alpha: int  # channels added from the first block to the last
    blocks: tuple[int, ...]  # of each stage


#                              block     start alpha  conv2 ...
NETWORKS = {
    "pyramidnet110_a48":  Row("basic",      16,  48, (18, 18, 18)),
    "pyramidnet110_a84":  Row("basic",      16,  84, (18, 18, 18)),
    "pyramidnet110_a270": Row("basic",      16, 270, (18, 18, 18)),
    "pyramidnet200_a300": Row("bottleneck", 64, 300, (3, 24, 36, 3)),  # ImageNet
}  # fmt: skip


class Pyramidal(nn.Module):
    """(B, c_in, H, W) -> (B, c_out, H / stride, W / stride): body(x) + x with zeros for the new channels, and
    nothing behind the sum."""

    def __init__(self, kind: str, c_in: int, width: int, stride: int) -> None:
        super().__init__()
        layers = basic_body(c_in, width, stride) if kind == "basic" else bottleneck_body(c_in, width, stride)
        self.body = nn.Sequential(OrderedDict(norm=nn.BatchNorm2d(c_in), layers=layers))
        # At the edge of an odd map the mean is taken of the pixels that there are.
        halve = nn.AvgPool2d(2, ceil_mode=True) if stride == 2 else nn.Identity()
        self.shortcut = nn.Sequential(
            OrderedDict(pool=halve, pad=ZeroPadShortcut(c_in, width * EXPANSION[kind], stride=1))
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x) + self.shortcut(x)
        return out


class PyramidNet(Network):
    """(B, C, H, W) -> (B, K)"""

    def __init__(self, row: Row, num_classes: int, in_channels: int) -> None:
        super().__init__()
        kind, start, alpha, blocks = row
        self.num_classes, self.in_channels = num_classes, in_channels
        small = kind == "basic"  # CIFAR's pictures
        self.stage_strides = tuple((1 if small else 4) * 2**i for i in range(len(blocks)))
        if small:
            self.stem: nn.Module = ConvNormAct(in_channels, start, 3, act=None)
        else:
            conv, pool = ConvNormAct(in_channels, start, 7, stride=2), nn.MaxPool2d(3, stride=2, padding=1)
            self.stem = nn.Sequential(OrderedDict(conv=conv, pool=pool))
        self.stages = nn.Sequential()
        channels, c, k, total = [], start, 0, sum(blocks)
        for number, n in enumerate(blocks, start=2):
            stage = nn.Sequential()
            for i in range(n):
                k += 1
                width = start + k * alpha // total
                stage.append(Pyramidal(kind, c, width, 2 if i == 0 and number > 2 else 1))
                c = width * EXPANSION[kind]
            self.stages.add_module(f"conv{number}", stage)
            channels.append(c)
        self.stage_channels = tuple(channels)
        self.head = nn.Sequential(
            OrderedDict(
                norm=nn.BatchNorm2d(c),
                act=nn.ReLU(inplace=True),
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                fc=nn.Linear(c, num_classes),
            )
        )
        # Section 4: He's initialisation (with the fan-out, as the authors' code has it).
        he_fan_out(self)


def _register(name: str, params: int, macs: int) -> None:
    row = NETWORKS[name]
    small = row.kind == "basic"

    def build(*, num_classes: int = 10 if small else 1000, in_channels: int = 3) -> PyramidNet:
        return PyramidNet(row, num_classes, in_channels)

    build.__name__ = build.__qualname__ = name
    spec = Spec(
        name=name,
        idea=f"Every one of {sum(row.blocks)} blocks adds a few channels, {row.alpha} in all"
        + (", for pictures of 32 x 32." if small else "."),
        title="Deep Pyramidal Residual Networks",
        year=2016,
        link="https://arxiv.org/abs/1610.02915",
        table="Table 1 and equation 2",
        input_shape=(3, 32, 32) if small else (3, 224, 224),
        num_classes=10 if small else 1000,
        params=params,
        macs=macs,
    )
    register(spec)(build)


#                     parameters            MACs
_register("pyramidnet110_a48", 1_739_730, 393_528_448)  # fmt: skip
_register("pyramidnet110_a84", 3_855_054, 757_846_504)
_register("pyramidnet110_a270", 28_485_477, 4_717_983_724)
_register("pyramidnet200_a300", 62_152_030, 16_465_774_157)
