"""Residual Attention Network: beside every stretch of features runs a small hourglass that says which of them count.

An attention module lets a trunk T of residual units work on the map, while the mask branch M shrinks the same
map until one glance sees all of it, grows it back, and squeezes it into 0..1. The output is (1 + M) T: a mask
can only stress, never erase, so dozens of modules can follow each other without the signal fading.

Paper: Wang, Jiang, Qian, Yang, Li, Zhang, Wang and Tang, "Residual Attention Network for Image Classification",
CVPR 2017, arXiv:1704.06904. ROWS below is Table 2, the module is Figure 2 with p = 1, t = 2, r = 1; units are
pre-activated bottlenecks.
Counts: 31.8 and 52.5 million parameters, 6.27 and 10.5 billion MACs, for the 31.9 and 51.3 million, 6.2 and 10.4
billion of Table 2; the paper gives no account layer by layer from which the rest could be explained.
Differs from the paper: the masks grow back by bilinear interpolation to exactly the size they had (not by a
fixed factor), so that any input size works.

    image        3 x 224 x 224
    stem        64 x  56 x  56   conv7/2, pool/2
    stage1     256 x  56 x  56   unit, attention (masks down to 7 x 7)
    stage2     512 x  28 x  28
    stage3    1024 x  14 x  14
    stage4    2048 x   7 x   7   three units -> mean -> classes
"""

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional as F

from neocog.core.contracts import Network
from neocog.core.registry import register
from neocog.core.spec import Spec
from neocog.layers.conv import ConvNormAct
from neocog.layers.init import he_fan_out

#        channels  halvings in the mask  attention modules: 56  92
ROWS = (
    (     256,               3,                        {56: 1, 92: 1}),
    (     512,               2,                        {56: 1, 92: 2}),
    (    1024,               1,                        {56: 1, 92: 3}),
)  # fmt: skip
LAST, LAST_UNITS, STEM = 2048, 3, 64


def norm_act_conv(c_in: int, c_out: int, kernel_size: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.BatchNorm2d(c_in),
        nn.ReLU(),
        nn.Conv2d(c_in, c_out, kernel_size, stride, kernel_size // 2, bias=False),
    )


class Unit(nn.Module):
    """(B, c_in, H, W) -> (B, c_out, H / stride, W / stride): 1x1, 3x3, 1x1, each behind norm and ReLU, plus x."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__()
        narrow = c_out // 4
        self.body = nn.Sequential(
            OrderedDict(
                conv1=norm_act_conv(c_in, narrow, 1),
                conv2=norm_act_conv(narrow, narrow, 3, stride),
                conv3=norm_act_conv(narrow, c_out, 1),
            )
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or c_in != c_out:
            self.shortcut = nn.Conv2d(c_in, c_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x) + self.shortcut(x)
        return out


class Hourglass(nn.Module):
    """(B, C, H, W) -> (B, C, H, W): half the size, units, half again if `halvings` > 1, and back."""

    def __init__(self, channels: int, halvings: int) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.down = Unit(channels, channels)
        if halvings > 1:
            self.inner: Hourglass | None = Hourglass(channels, halvings - 1)
            self.skip: Unit | None = Unit(channels, channels)
        else:
            self.inner = self.skip = None
        self.up = Unit(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        x = self.down(self.pool(x))
        if self.inner is not None and self.skip is not None:
            x = self.inner(x) + self.skip(x)
        return F.interpolate(self.up(x), size=size, mode="bilinear")


class Attention(nn.Module):
    """(B, C, H, W) -> (B, C, H, W): a unit, then (1 + mask) * trunk, then a unit."""

    def __init__(self, channels: int, halvings: int) -> None:
        super().__init__()
        self.first = Unit(channels, channels)
        self.trunk = nn.Sequential(Unit(channels, channels), Unit(channels, channels))
        self.mask = nn.Sequential(
            OrderedDict(
                hourglass=Hourglass(channels, halvings),
                conv1=norm_act_conv(channels, channels, 1),
                conv2=norm_act_conv(channels, channels, 1),
                gate=nn.Sigmoid(),
            )
        )
        self.last = Unit(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        out: Tensor = self.last((1 + self.mask(x)) * self.trunk(x))
        return out


class ResidualAttention(Network):
    """(B, C, H, W) -> (B, K)"""

    stage_channels = (256, 512, 1024, 2048)
    stage_strides = (4, 8, 16, 32)

    def __init__(self, depth: int, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.num_classes, self.in_channels = num_classes, in_channels
        self.stem = nn.Sequential(
            OrderedDict(
                conv=ConvNormAct(in_channels, STEM, 7, stride=2),
                pool=nn.MaxPool2d(3, stride=2, padding=1),
            )
        )
        self.stages = nn.Sequential()
        c = STEM
        for number, (c_out, halvings, modules) in enumerate(ROWS, start=1):
            stage = nn.Sequential(OrderedDict(unit=Unit(c, c_out, stride=1 if number == 1 else 2)))
            for i in range(modules[depth]):
                stage.add_module(f"attention{i + 1}", Attention(c_out, halvings))
            self.stages.add_module(f"stage{number}", stage)
            c = c_out
        units = [Unit(c, LAST, stride=2), *(Unit(LAST, LAST) for _ in range(LAST_UNITS - 1))]
        self.stages.add_module("stage4", nn.Sequential(*units))
        self.head = nn.Sequential(
            OrderedDict(
                norm=nn.BatchNorm2d(LAST),  # the units leave their sum without a norm
                act=nn.ReLU(),
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                fc=nn.Linear(LAST, num_classes),
            )
        )
        # The paper does not say how weights start; as the residual networks it builds on.
        he_fan_out(self)


def _spec(depth: int, params: int, macs: int) -> Spec:
    return Spec(
        name=f"residual_attention{depth}",
        idea=f"Hourglass masks stress what counts, {depth} layers deep along the trunk.",
        title="Residual Attention Network for Image Classification",
        year=2017,
        link="https://arxiv.org/abs/1704.06904",
        table="Table 2 and Figure 2",
        input_shape=(3, 224, 224),
        params=params,
        macs=macs,
    )


@register(_spec(56, 31_810_728, 6_270_836_736))
def residual_attention56(*, num_classes: int = 1000, in_channels: int = 3) -> ResidualAttention:
    return ResidualAttention(56, num_classes, in_channels)


@register(_spec(92, 52_466_344, 10_533_789_696))
def residual_attention92(*, num_classes: int = 1000, in_channels: int = 3) -> ResidualAttention:
    return ResidualAttention(92, num_classes, in_channels)
