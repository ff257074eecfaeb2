"""MobileNet (v1): take a convolution apart, into one filter per channel and a mix of the channels.

A 3x3 convolution looks at places and mixes channels at once. Done one after the other (depthwise, then
pointwise), the same costs eight to nine times less; two knobs, width and resolution, trade the rest.

Paper: Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
2017, arXiv:1704.04861. STAGES below is Table 1.
Differs from the paper: the ReLU stops at 6 as in the authors' code
(https://github.com/tensorflow/models, slim/nets/mobilenet_v1.py); the last depthwise layer has stride 1,
which its output of 7 x 7 asks for where the table says 2; padding stands on both sides unless
`padding="same"`, TensorFlow's. `dropout` in front of the classifier is an addition, off by default.

    image      3 x 224 x 224
    stem      32 x 112 x 112
    stage1    64 x 112 x 112
    stage2   128 x  56 x  56
    stage3   256 x  28 x  28
    stage4   512 x  14 x  14
    stage5  1024 x   7 x   7  -> mean -> classes
"""

from collections import OrderedDict
from typing import Literal

from torch import nn

from neocog.core.contracts import Network
from neocog.core.registry import register
from neocog.core.spec import Spec
from neocog.layers.conv import ConvNormAct
from neocog.layers.dropout import Dropout
from neocog.layers.init import he_fan_out
from neocog.models.keys import rename

#          channels  blocks  stride of the first
STAGES = {
    "stage1": (  64,    1,     1),
    "stage2": ( 128,    2,     2),
    "stage3": ( 256,    2,     2),
    "stage4": ( 512,    6,     2),
    "stage5": (1024,    2,     2),
}  # fmt: skip
STEM = 32


def narrowed(channels: int, width: float) -> int:
    """Channels times the width multiplier, cut, at least 8: as the authors' code has it."""
    return max(8, int(channels * width))


def separable(c_in: int, c_out: int, stride: int, same: bool) -> nn.Sequential:
    """(B, c_in, H, W) -> (B, c_out, H / stride, W / stride), with a norm and a bend behind both halves."""
    return nn.Sequential(
        OrderedDict(
            depthwise=ConvNormAct(c_in, c_in, 3, stride, groups=c_in, act=nn.ReLU6, same=same),
            pointwise=ConvNormAct(c_in, c_out, 1, act=nn.ReLU6),
        )
    )


class MobileNetV1(Network):
    """(B, C, H, W) -> (B, K)"""

    stage_strides = (2, 4, 8, 16, 32)

    def __init__(self, num_classes: int, in_channels: int, width: float, padding: str, dropout: float) -> None:
        super().__init__()
        if padding not in ("torch", "same"):
            raise ValueError(f"padding = {padding!r} is neither 'torch' nor 'same'")
        if not 0 < width <= 8:
            raise ValueError(f"width = {width} must be above 0 and at most 8")
        same = padding == "same"
        self.num_classes, self.in_channels = num_classes, in_channels
        self.stage_channels = tuple(narrowed(channels, width) for channels, _, _ in STAGES.values())
        c = narrowed(STEM, width)
        self.stem = ConvNormAct(in_channels, c, 3, stride=2, act=nn.ReLU6, same=same)
        self.stages = nn.Sequential()
        for c_out, (name, (_, n, stride)) in zip(self.stage_channels, STAGES.items(), strict=True):
            stage = nn.Sequential()
            for i in range(n):
                stage.append(separable(c, c_out, stride if i == 0 else 1, same))
                c = c_out
            self.stages.add_module(name, stage)
        self.head = nn.Sequential(
            OrderedDict(
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                dropout=Dropout(dropout),
                fc=nn.Linear(c, num_classes),
            )
        )
        # The paper does not say how weights start; as MobileNetV2 here.
        he_fan_out(self)
        fc = self.head.get_submodule("fc")
        assert isinstance(fc, nn.Linear)
        nn.init.normal_(fc.weight, std=0.01)
        nn.init.zeros_(fc.bias)


FROM_TIMM = rename(
    (r"conv_stem\.", "stem.conv."),
    (r"bn1\.", "stem.norm."),
    *(
        (rf"blocks\.{number}\.(\d+)\.{theirs}\.", rf"stages.{name}.\1.{ours}.")
        for number, name in enumerate(STAGES)
        for theirs, ours in (
            ("conv_dw", "depthwise.conv"),
            ("bn1", "depthwise.norm"),
            ("conv_pw", "pointwise.conv"),
            ("bn2", "pointwise.norm"),
        )
    ),
    (r"classifier\.", "head.fc."),
)


@register(
    Spec(
        name="mobilenet_v1",
        idea="Convolutions taken apart: one filter per channel, then a mix of the channels.",
        title="MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
        year=2017,
        link="https://arxiv.org/abs/1704.04861",
        table="Table 1",
        input_shape=(3, 224, 224),
        params=4_231_976,
        macs=568_740_352,
        aliases=("mobilenetv1_100",),
    ),
    key_maps={"timm": FROM_TIMM},
)
def mobilenet_v1(
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    width: float = 1.0,
    padding: Literal["torch", "same"] = "torch",
    dropout: float | None = None,
) -> MobileNetV1:
    """`width` multiplies all channels."""
    return MobileNetV1(num_classes, in_channels, width, padding, dropout or 0.0)
