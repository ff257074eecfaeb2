"""ShuffleNet (v1): group the 1x1 convolutions, too, and shuffle, so that the groups hear of each other.

In small networks the 1x1 convolutions cost most. Split into groups they get cheap enough for more channels;
the shuffle behind the first one deals every group's channels to all groups of the next.

Paper: Zhang et al., "ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices",
CVPR 2018, arXiv:1707.01083. CHANNELS and STAGES below are Table 1.
Where the paper is silent: a number of channels that the groups do not divide, as there are at other widths
than 1, is rounded up to the next that they do.

    image     3 x 224 x 224    (3 groups)
    stem     24 x  56 x  56    conv3/2, pool/2
    stage2  240 x  28 x  28
    stage3  480 x  14 x  14
    stage4  960 x   7 x   7    -> mean -> classes
"""

import math
from collections import OrderedDict

import torch
from torch import Tensor, nn

from neocog.core.contracts import Network
from neocog.core.registry import register
from neocog.core.spec import Spec
from neocog.layers.conv import ConvNormAct
from neocog.layers.init import he_fan_out
from neocog.layers.shuffle import ChannelShuffle

#  groups: channels of stage2, stage3, stage4
CHANNELS = {
    1: (144, 288,  576),
    2: (200, 400,  800),
    3: (240, 480,  960),
    4: (272, 544, 1088),
    8: (384, 768, 1536),
}  # fmt: skip
#         units, the first with stride 2
STAGES = {"stage2": 4, "stage3": 8, "stage4": 4}
STEM = 24
BOTTLENECK = 1 / 4  # section 3.3: of the unit's output


def whole(channels: float, groups: int) -> int:
    """The next multiple of `groups`."""
    return math.ceil(channels / groups) * groups


class Unit(nn.Module):
    """(B, c_in, H, W) -> (B, c_out, H / stride, W / stride)

    Stride 1 adds the shortcut (Figure 2b); stride 2 stacks it, averaged, in front of the branch (Figure 2c),
    which then makes only the channels that are missing.
    """

    def __init__(self, c_in: int, c_out: int, stride: int, groups: int, first_groups: int) -> None:
        super().__init__()
        narrow = whole(c_out * BOTTLENECK, groups)
        made = c_out - c_in if stride == 2 else c_out
        self.branch = nn.Sequential(
            OrderedDict(
                pointwise1=ConvNormAct(c_in, narrow, 1, groups=first_groups),
                shuffle=ChannelShuffle(groups),
                depthwise=ConvNormAct(narrow, narrow, 3, stride, groups=narrow, act=None),
                pointwise2=ConvNormAct(narrow, made, 1, groups=groups, act=None),
            )
        )
        self.pool = nn.AvgPool2d(3, stride=2, padding=1) if stride == 2 else None
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        made = self.branch(x)
        out: Tensor = self.act(x + made if self.pool is None else torch.cat([self.pool(x), made], dim=1))
        return out


class ShuffleNetV1(Network):
    """(B, C, H, W) -> (B, K)"""

    stage_strides = (8, 16, 32)

    def __init__(self, num_classes: int, in_channels: int, groups: int, width: float) -> None:
        super().__init__()
        if groups not in CHANNELS:
            raise ValueError(f"groups = {groups} is none of {', '.join(map(str, CHANNELS))}")
        if not 0 < width <= 8:
            raise ValueError(f"width = {width} must be above 0 and at most 8")
        self.num_classes, self.in_channels = num_classes, in_channels
        self.stage_channels = tuple(whole(c * width, groups) for c in CHANNELS[groups])
        c = whole(STEM * width, groups)
        self.stem = nn.Sequential(
            OrderedDict(
                conv=ConvNormAct(in_channels, c, 3, stride=2),
                pool=nn.MaxPool2d(3, stride=2, padding=1),
            )
        )
        self.stages = nn.Sequential()
        for c_out, (name, n) in zip(self.stage_channels, STAGES.items(), strict=True):
            stage = nn.Sequential()
            for i in range(n):
                # The stem has too few channels to be grouped.
                first_groups = 1 if name == "stage2" and i == 0 else groups
                stage.append(Unit(c, c_out, 2 if i == 0 else 1, groups, first_groups))
                c = c_out
            self.stages.add_module(name, stage)
        self.head = nn.Sequential(
            OrderedDict(
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                fc=nn.Linear(c, num_classes),
            )
        )
        # The paper does not say how weights start: He's fan-out; the classifier keeps PyTorch's.
        he_fan_out(self)


@register(
    Spec(
        name="shufflenet_v1",
        idea="Grouped 1x1 convolutions with a shuffle of the channels between the groups.",
        title="ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices",
        year=2017,
        link="https://arxiv.org/abs/1707.01083",
        table="Table 1",
        input_shape=(3, 224, 224),
        params=1_865_728,
        macs=137_460_672,
    )
)
def shufflenet_v1(
    *, num_classes: int = 1000, in_channels: int = 3, groups: int = 3, width: float = 1.0
) -> ShuffleNetV1:
    """`groups` (1, 2, 3, 4 or 8) is the table's column, `width` the paper's scale factor s."""
    return ShuffleNetV1(num_classes, in_channels, groups, width)
