"""ShuffleNet V2: count memory accesses, not only operations, and a fast network looks different.

Each unit splits its channels in two: one half passes untouched, the other goes through a 1x1, a depthwise
3x3 and a 1x1 of equal width (the cheapest in memory); concatenation joins them without an addition, and a
shuffle lets the halves meet in the next unit. No grouped 1x1, no bottleneck, which the clock dislikes.

Paper: Ma et al., "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design", ECCV 2018,
arXiv:1807.11164. STAGES and CHANNELS below are Table 5.

    image                        3 x 224 x 224    (x1.0)
    stem                        24 x  56 x  56    conv3/2, pool/2
    stage2                     116 x  28 x  28
    stage3                     232 x  14 x  14
    stage4                     464 x   7 x   7
    head (Conv5)              1024 x   7 x   7    -> mean -> classes
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from neocog.core.contracts import Network
from neocog.core.registry import register
from neocog.core.spec import Preprocessing, Spec, Weights
from neocog.layers.conv import ConvNormAct
from neocog.layers.init import he_fan_out
from neocog.layers.shuffle import ChannelShuffle
from neocog.models.keys import rename

#         units, the first with stride 2
STAGES = {"stage2": 4, "stage3": 8, "stage4": 4}
STEM = 24
#          stage2 stage3 stage4 conv5
CHANNELS = {
    "0.5": ( 48,    96,   192,  1024),
    "1.0": (116,   232,   464,  1024),
    "1.5": (176,   352,   704,  1024),
    "2.0": (244,   488,   976,  2048),
}  # fmt: skip


def branch(c_in: int, c_out: int, stride: int) -> nn.Sequential:
    """1x1, depthwise 3x3 (without a bend behind it), 1x1."""
    return nn.Sequential(
        OrderedDict(
            pointwise1=ConvNormAct(c_in, c_out, 1),
            depthwise=ConvNormAct(c_out, c_out, 3, stride, groups=c_out, act=None),
            pointwise2=ConvNormAct(c_out, c_out, 1),
        )
    )


class Unit(nn.Module):
    """(B, c, H, W) -> the same shape; half of the channels pass by (Figure 3c)."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.right = branch(c // 2, c // 2, 1)
        self.shuffle = ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=1)
        out: Tensor = self.shuffle(torch.cat([left, self.right(right)], dim=1))
        return out


class DownUnit(nn.Module):
    """(B, c_in, H, W) -> (B, c_out, H / 2, W / 2); both branches see all channels (Figure 3d)."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.left = nn.Sequential(
            OrderedDict(
                depthwise=ConvNormAct(c_in, c_in, 3, stride=2, groups=c_in, act=None),
                pointwise=ConvNormAct(c_in, c_out // 2, 1),
            )
        )
        self.right = branch(c_in, c_out // 2, 2)
        self.shuffle = ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.shuffle(torch.cat([self.left(x), self.right(x)], dim=1))
        return out


class ShuffleNetV2(Network):
    """(B, C, H, W) -> (B, K)"""

    stage_strides = (8, 16, 32)

    def __init__(self, width: str, num_classes: int, in_channels: int) -> None:
        super().__init__()
        *channels, last = CHANNELS[width]
        self.stage_channels = tuple(channels)
        self.num_classes, self.in_channels = num_classes, in_channels
        self.stem = nn.Sequential(
            OrderedDict(
                conv=ConvNormAct(in_channels, STEM, 3, stride=2),
                pool=nn.MaxPool2d(3, stride=2, padding=1),
            )
        )
        self.stages = nn.Sequential()
        c = STEM
        for c_out, (name, n) in zip(self.stage_channels, STAGES.items(), strict=True):
            self.stages.add_module(name, nn.Sequential(DownUnit(c, c_out), *(Unit(c_out) for _ in range(n - 1))))
            c = c_out
        self.head = nn.Sequential(
            OrderedDict(
                conv5=ConvNormAct(c, last, 1),
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                fc=nn.Linear(last, num_classes),
            )
        )
        # The paper does not say how weights start: He's fan-out; the classifier keeps PyTorch's.
        he_fan_out(self)


FROM_TORCHVISION = rename(
    (r"conv1\.0\.", "stem.conv.conv."),
    (r"conv1\.1\.", "stem.conv.norm."),
    *(
        (rf"(stage\d)\.(\d+)\.{theirs}\.", rf"stages.\1.\2.{ours}.")
        for theirs, ours in (
            (r"branch1\.0", "left.depthwise.conv"),
            (r"branch1\.1", "left.depthwise.norm"),
            (r"branch1\.2", "left.pointwise.conv"),
            (r"branch1\.3", "left.pointwise.norm"),
            (r"branch2\.0", "right.pointwise1.conv"),
            (r"branch2\.1", "right.pointwise1.norm"),
            (r"branch2\.3", "right.depthwise.conv"),
            (r"branch2\.4", "right.depthwise.norm"),
            (r"branch2\.5", "right.pointwise2.conv"),
            (r"branch2\.6", "right.pointwise2.norm"),
        )
    ),
    (r"conv5\.0\.", "head.conv5.conv."),
    (r"conv5\.1\.", "head.conv5.norm."),
    (r"fc\.", "head.fc."),
)


def _register(width: str, params: int, macs: int, file: str, top1: float, top5: float, resize: int = 256) -> None:
    def build(*, num_classes: int = 1000, in_channels: int = 3) -> ShuffleNetV2:
        return ShuffleNetV2(width, num_classes, in_channels)

    name = f"shufflenet_v2_x{width.replace('.', '_')}"
    build.__name__ = build.__qualname__ = name
    spec = Spec(
        name=name,
        idea=f"Half of the channels pass by, the other half works, and a shuffle mixes them; width {width}.",
        title="ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design",
        year=2018,
        link="https://arxiv.org/abs/1807.11164",
        table="Table 5",
        input_shape=(3, 224, 224),
        params=params,
        macs=macs,
        weights=(
            Weights(
                tag="imagenet1k_v1",
                url=f"https://download.pytorch.org/models/{file}.pth",
                sha256=file.split("-")[1],
                preprocessing=Preprocessing(resize=resize),
                top1=top1,
                top5=top5,
            ),
        ),
    )
    register(spec, {"torchvision": FROM_TORCHVISION})(build)


#                parameters         MACs  file                            top-1   top-5
_register("0.5", 1_366_792,  40_476_448, "shufflenetv2_x0.5-f707e7126e", 60.552, 81.746)  # fmt: skip
_register("1.0", 2_278_604, 144_907_992, "shufflenetv2_x1-5666bf0f80", 69.362, 88.316)
_register("1.5", 3_503_624, 295_759_392, "shufflenetv2_x1_5-3c479a10", 72.996, 91.086, resize=232)
_register("2.0", 7_393_996, 583_253_464, "shufflenetv2_x2_0-8be3c8ee", 76.230, 93.006, resize=232)
