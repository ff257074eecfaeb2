"""ZFNet: AlexNet after its authors had looked inside. Finer filters, moved in smaller steps.

Pictures of what each filter answers to showed that AlexNet's first layer had few filters for the middle
frequencies, and its second aliases from the stride of four. With 7x7 filters and a stride of two both went away.

Paper: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, arXiv:1311.2901.
ROWS below is Figure 3, read from left to right. Padding follows from its sizes: one pixel makes 110 of 224, and a
last window of the pools that reaches over the edge makes 55 of 110 and 13 of 26.
Differs from the paper: the constants of the contrast normalisation, which it does not give, are AlexNet's; an
adaptive pool in front of the dense layers accepts other sizes than 224. Its rule that no filter's root mean square
may exceed 0.1 belongs to training.

    image    3 x 224 x 224
    conv1   96 x 110 x 110   -> pool, norm
    conv2  256 x  26 x  26   -> pool, norm
    conv3-5     13 x  13     -> pool 256 x 6 x 6 -> 4096 -> 4096 -> classes
"""

from collections import OrderedDict

from torch import nn

from neocog.core.contracts import Network
from neocog.core.registry import register
from neocog.core.spec import Spec
from neocog.layers.dropout import Dropout
from neocog.layers.local_response import LocalResponseNorm

#           filters  kernel  stride  pad  pool and norm in front
ROWS = {
    "conv1": ( 96,      7,     2,     1,  False),
    "conv2": (256,      5,     2,     0,  True),
    "conv3": (384,      3,     1,     1,  True),
    "conv4": (384,      3,     1,     1,  False),
    "conv5": (256,      3,     1,     1,  False),
}  # fmt: skip
GRID, WIDTH, DROPOUT = 6, 4096, 0.5


def halve() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)


class ZFNet(Network):
    """(B, C, H, W) -> (B, K)"""

    stage_channels = tuple(filters for filters, *_ in ROWS.values())
    stage_strides = (2, 8, 16, 16, 16)
    min_size = 47
    classifier = "fc8"

    def __init__(self, num_classes: int, in_channels: int, dropout: float) -> None:
        super().__init__()
        self.num_classes, self.in_channels = num_classes, in_channels
        self.stem = nn.Identity()
        self.stages = nn.Sequential()
        c = in_channels
        for name, (filters, kernel, stride, pad, pool) in ROWS.items():
            stage = nn.Sequential()
            if pool:
                # A pool opens the next stage, so that a stage's output is the finer map.
                stage.add_module("pool", halve())
                stage.add_module("norm", LocalResponseNorm())
            stage.add_module("conv", nn.Conv2d(c, filters, kernel, stride, pad))
            stage.add_module("act", nn.ReLU(inplace=True))
            self.stages.add_module(name, stage)
            c = filters
        self.head = nn.Sequential(
            OrderedDict(
                pool5=halve(),
                grid=nn.AdaptiveAvgPool2d(GRID),  # identity at 224
                flatten=nn.Flatten(),  # (B, 256 * 6 * 6)
                fc6=nn.Linear(c * GRID**2, WIDTH),
                act6=nn.ReLU(inplace=True),
                drop6=Dropout(dropout),
                fc7=nn.Linear(WIDTH, WIDTH),
                act7=nn.ReLU(inplace=True),
                drop7=Dropout(dropout),
                fc8=nn.Linear(WIDTH, num_classes),
            )
        )
        # Section 3: "weights initialized to 10^-2", biases 0. One number for all would keep all filters alike, so
        # it is read as AlexNet's N(0, 0.01^2).
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.normal_(layer.weight, std=0.01)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)


@register(
    Spec(
        name="zfnet",
        idea="AlexNet with finer filters in front, found by looking at what each filter answers to.",
        title="Visualizing and Understanding Convolutional Networks",
        year=2013,
        link="https://arxiv.org/abs/1311.2901",
        table="Figure 3",
        input_shape=(3, 224, 224),
        params=62_357_608,
        macs=1_168_032_896,
    )
)
def zfnet(*, num_classes: int = 1000, in_channels: int = 3, dropout: float | None = None) -> ZFNet:
    """`dropout` (0.5) stands behind both hidden dense layers."""
    return ZFNet(num_classes, in_channels, DROPOUT if dropout is None else dropout)
