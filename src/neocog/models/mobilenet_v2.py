"""MobileNetV2: think wide, remember narrow.

Each block expands its few channels sixfold, filters every channel by itself (a depthwise 3x3, nine weights
a channel), and projects back to few channels without a bend, which in so narrow a place would destroy
information. Shortcuts join the narrow ends.

Paper: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018,
arXiv:1801.04381. ROWS below is Table 2.
Differs from the paper: padding stands on both sides as in the published PyTorch weights; the authors'
TensorFlow weights need `padding="same"` (layers/same_pad.py) or lose ten points of accuracy.

    image      3 x 224 x 224
    stem      32 x 112 x 112
    row1      16 x 112 x 112
    row2      24 x  56 x  56
    row3      32 x  28 x  28
    row4-5    64 and 96 x 14 x 14
    row6-7   160 and 320 x 7 x 7
    head    1280 x   7 x   7  -> mean -> classes
"""

from collections import OrderedDict
from typing import Literal

from torch import nn

from neocog.core.contracts import Network
from neocog.core.registry import register
from neocog.core.spec import Preprocessing, Spec, Weights
from neocog.layers.conv import ConvNormAct
from neocog.layers.dropout import Dropout
from neocog.layers.init import he_fan_out
from neocog.layers.inverted_residual import InvertedResidual
from neocog.layers.width import scaled
from neocog.models.inverted_residual_keys import timm_rules
from neocog.models.keys import rename

#  t: expansion  c: channels  n: blocks  s: stride of the first
ROWS = (
    (1,  16, 1, 1),
    (6,  24, 2, 2),
    (6,  32, 3, 2),
    (6,  64, 4, 2),
    (6,  96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)  # fmt: skip
STEM, LAST, DROPOUT = 32, 1280, 0.2


class MobileNetV2(Network):
    """(B, C, H, W) -> (B, K)"""

    stage_strides = (2, 4, 8, 16, 16, 32, 32)

    def __init__(self, num_classes: int, in_channels: int, width: float, padding: str, dropout: float) -> None:
        super().__init__()
        if padding not in ("torch", "same"):
            raise ValueError(f"padding = {padding!r} is neither 'torch' nor 'same'")
        if not 0 < width <= 8:
            raise ValueError(f"width = {width} must be above 0 and at most 8")
        same = padding == "same"
        self.num_classes, self.in_channels = num_classes, in_channels
        self.stage_channels = tuple(scaled(c, width) for _, c, _, _ in ROWS)
        c = scaled(STEM, width)
        self.stem = ConvNormAct(in_channels, c, 3, stride=2, act=nn.ReLU6, same=same)
        self.stages = nn.Sequential()
        for number, ((expansion, _, n, stride), c_out) in enumerate(
            zip(ROWS, self.stage_channels, strict=True), start=1
        ):
            stage = nn.Sequential()
            for i in range(n):
                step = stride if i == 0 else 1
                stage.append(InvertedResidual(c, c * expansion, c_out, stride=step, act=nn.ReLU6, same=same))
                c = c_out
            self.stages.add_module(f"row{number}", stage)
        # The last convolution is never narrowed: a small network profits most from a wide classifier.
        last = scaled(LAST, max(1.0, width))
        self.head = nn.Sequential(
            OrderedDict(
                conv=ConvNormAct(c, last, 1, act=nn.ReLU6),
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                dropout=Dropout(dropout),
                fc=nn.Linear(last, num_classes),
            )
        )
        # The paper does not say how weights start; He's fan-out and a small classifier, as torchvision has it.
        he_fan_out(self)
        fc = self.head.get_submodule("fc")
        assert isinstance(fc, nn.Linear)
        nn.init.normal_(fc.weight, std=0.01)
        nn.init.zeros_(fc.bias)


# torchvision numbers the blocks through all rows (features.1 to .17) and the layers through a block;
# the first block has no expansion.
_NAMES = [f"row{number}.{i}" for number, (_, _, n, _) in enumerate(ROWS, start=1) for i in range(n)]
FROM_TORCHVISION = rename(
    (r"features\.0\.0\.", "stem.conv."),
    (r"features\.0\.1\.", "stem.norm."),
    (r"features\.1\.conv\.0\.0\.", "stages.row1.0.body.depthwise.conv."),
    (r"features\.1\.conv\.0\.1\.", "stages.row1.0.body.depthwise.norm."),
    (r"features\.1\.conv\.1\.", "stages.row1.0.body.project.conv."),
    (r"features\.1\.conv\.2\.", "stages.row1.0.body.project.norm."),
    *(
        (rf"features\.{index}\.conv\.{theirs}\.", f"stages.{block}.body.{ours}.")
        for index, block in enumerate(_NAMES[1:], start=2)
        for theirs, ours in (
            (r"0\.0", "expand.conv"),
            (r"0\.1", "expand.norm"),
            (r"1\.0", "depthwise.conv"),
            (r"1\.1", "depthwise.norm"),
            (r"2", "project.conv"),
            (r"3", "project.norm"),
        )
    ),
    (r"features\.18\.0\.", "head.conv.conv."),
    (r"features\.18\.1\.", "head.conv.norm."),
    (r"classifier\.1\.", "head.fc."),
)

# timm counts rows from 0.
FROM_TIMM = rename(
    (r"conv_stem\.", "stem.conv."),
    (r"bn1\.", "stem.norm."),
    *(
        rule
        for row, (expansion, _, n, _) in enumerate(ROWS)
        for i in range(n)
        for rule in timm_rules(rf"blocks\.{row}\.{i}", f"stages.row{row + 1}.{i}", expansion != 1)
    ),
    (r"conv_head\.", "head.conv.conv."),
    (r"bn2\.", "head.conv.norm."),
    (r"classifier\.", "head.fc."),
)


@register(
    Spec(
        name="mobilenet_v2",
        idea="Inverted residuals: wide depthwise filters between narrow, linear bottlenecks.",
        title="MobileNetV2: Inverted Residuals and Linear Bottlenecks",
        year=2018,
        link="https://arxiv.org/abs/1801.04381",
        table="Table 2",
        input_shape=(3, 224, 224),
        params=3_504_872,
        macs=300_774_272,
        weights=(
            Weights(
                tag="imagenet1k_v2",
                url="https://download.pytorch.org/models/mobilenet_v2-7ebf99e0.pth",
                sha256="7ebf99e0",
                preprocessing=Preprocessing(resize=232),
                top1=72.154,
                top5=90.822,
            ),
            Weights(
                tag="imagenet1k_v1",
                url="https://download.pytorch.org/models/mobilenet_v2-b0353104.pth",
                sha256="b0353104",
                top1=71.878,
                top5=90.286,
            ),
        ),
        aliases=("mobilenetv2_100",),
    ),
    key_maps={"torchvision": FROM_TORCHVISION, "timm": FROM_TIMM},
)
def mobilenet_v2(
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    width: float = 1.0,
    padding: Literal["torch", "same"] = "torch",
    dropout: float | None = None,
) -> MobileNetV2:
    """`width` multiplies all channels; `dropout` (0.2) stands in front of the classifier."""
    return MobileNetV2(num_classes, in_channels, width, padding, DROPOUT if dropout is None else dropout)
