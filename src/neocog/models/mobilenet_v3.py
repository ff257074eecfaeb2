"""MobileNetV3: let a search find the blocks, then make the expensive ends cheap by hand.

The blocks are MobileNetV2's; some turn channels up and down by what the whole picture shows (squeeze and
excitation), and the deeper half bends with x * relu6(x + 3) / 6, a swish without an exponential. The last
wide layer stands behind the average, where it sees one position for 49.

Paper: Howard et al., "Searching for MobileNetV3", ICCV 2019, arXiv:1905.02244. LARGE and SMALL below are
Tables 1 and 2.
Differs from the paper: padding stands on both sides as in the published PyTorch weights; the authors'
TensorFlow weights need `padding="same"` (layers/same_pad.py). Table 2 marks a squeeze and excitation at the
last convolution of the small network, too, and early versions have 1280 units behind it: no published
weights do.

    image         3 x 224 x 224      large                small
    stem         16 x 112 x 112
    stage1                           16 x 112 x 112       16 x 56 x 56
    stage2                           24 x  56 x  56       24 x 28 x 28
    stage3                           40 x  28 x  28       40 x 14 x 14
    stage4                           80 x  14 x  14       48 x 14 x 14
    stage5                          112 x  14 x  14       96 x  7 x  7
    stage6                          160 x   7 x   7
    head        960 or 576 x 7 x 7 -> mean -> 1280 or 1024 -> classes
"""

from collections import OrderedDict
from functools import partial
from typing import Literal

from torch import nn

from neocog.core.contracts import Network
from neocog.core.registry import KeyMap, register
from neocog.core.spec import Preprocessing, Spec, Weights
from neocog.layers.conv import ConvNormAct
from neocog.layers.dropout import Dropout
from neocog.layers.init import he_fan_out
from neocog.layers.inverted_residual import InvertedResidual
from neocog.layers.squeeze_excite import SqueezeExcite
from neocog.layers.width import scaled
from neocog.models.inverted_residual_keys import timm_rules, torchvision_rules
from neocog.models.keys import rename

SE, __ = True, False
ACTS = {"RE": nn.ReLU, "HS": nn.Hardswish}

#  kernel  exp  out  SE   NL    s       a stage is what stands between two changes of `out`
LARGE = (
    (3,  16,  16, __, "RE", 1),
    (3,  64,  24, __, "RE", 2),
    (3,  72,  24, __, "RE", 1),
    (5,  72,  40, SE, "RE", 2),
    (5, 120,  40, SE, "RE", 1),
    (5, 120,  40, SE, "RE", 1),
    (3, 240,  80, __, "HS", 2),
    (3, 200,  80, __, "HS", 1),
    (3, 184,  80, __, "HS", 1),
    (3, 184,  80, __, "HS", 1),
    (3, 480, 112, SE, "HS", 1),
    (3, 672, 112, SE, "HS", 1),
    (5, 672, 160, SE, "HS", 2),
    (5, 960, 160, SE, "HS", 1),
    (5, 960, 160, SE, "HS", 1),
)  # fmt: skip
SMALL = (
    (3,  16,  16, SE, "RE", 2),
    (3,  72,  24, __, "RE", 2),
    (3,  88,  24, __, "RE", 1),
    (5,  96,  40, SE, "HS", 2),
    (5, 240,  40, SE, "HS", 1),
    (5, 240,  40, SE, "HS", 1),
    (5, 120,  48, SE, "HS", 1),
    (5, 144,  48, SE, "HS", 1),
    (5, 288,  96, SE, "HS", 2),
    (5, 576,  96, SE, "HS", 1),
    (5, 576,  96, SE, "HS", 1),
)  # fmt: skip
Row = tuple[int, int, int, bool, str, int]
STEM = 16
#          rows   last conv  dense
SIZES = {
    "large": (LARGE, 960, 1280),
    "small": (SMALL, 576, 1024),
}
DROPOUT = 0.2  # section 6.1.1's "0.8" is the share that stays
MOMENTUM = 0.01  # section 6.1.1: average decay 0.99


def stages_of(rows: tuple[Row, ...]) -> list[list[Row]]:
    """The rows of a table, in groups of the same output channels."""
    stages: list[list[Row]] = []
    for row in rows:
        if not stages or stages[-1][-1][2] != row[2]:
            stages.append([])
        stages[-1].append(row)
    return stages


class MobileNetV3(Network):
    """(B, C, H, W) -> (B, K)"""

    def __init__(
        self, size: str, num_classes: int, in_channels: int, width: float, padding: str, eps: float, dropout: float
    ) -> None:
        super().__init__()
        if padding not in ("torch", "same"):
            raise ValueError(f"padding = {padding!r} is neither 'torch' nor 'same'")
        if not 0 < width <= 8:
            raise ValueError(f"width = {width} must be above 0 and at most 8")
        rows, last, dense = SIZES[size]
        same, norm = padding == "same", partial(nn.BatchNorm2d, eps=eps, momentum=MOMENTUM)
        self.num_classes, self.in_channels = num_classes, in_channels
        c, c_table, stride = scaled(STEM, width), STEM, 2
        self.stem = ConvNormAct(in_channels, c, 3, stride, norm=norm, act=nn.Hardswish, same=same)
        self.stages = nn.Sequential()
        channels, strides = [], []
        for number, stage in enumerate(stages_of(rows), start=1):
            blocks = nn.Sequential()
            for kernel, exp, out, squeezes, act, step in stage:
                # The authors' code keeps each row's factor exp / c_in at every width.
                wide = scaled(c, exp / c_table)
                # A quarter of the expanded channels (section 5.3), and the gate is the swish's: relu6(x + 3) / 6.
                squeeze = SqueezeExcite(wide, scaled(wide, 0.25), gate=nn.Hardsigmoid) if squeezes else None
                c_out = scaled(out, width)
                blocks.append(
                    InvertedResidual(
                        c, wide, c_out, kernel, step, act=ACTS[act], norm=norm, squeeze_excite=squeeze, same=same
                    )
                )
                c, c_table, stride = c_out, out, stride * step
            self.stages.add_module(f"stage{number}", blocks)
            channels.append(c)
            strides.append(stride)
        self.stage_channels, self.stage_strides = tuple(channels), tuple(strides)
        wide = scaled(c, last / c_table)
        # As in MobileNetV2 the last layer is never narrowed.
        dense = scaled(dense, max(1.0, width))
        self.head = nn.Sequential(
            OrderedDict(
                conv=ConvNormAct(c, wide, 1, norm=norm, act=nn.Hardswish),
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                dense=nn.Linear(wide, dense),
                act=nn.Hardswish(inplace=True),
                dropout=Dropout(dropout),
                fc=nn.Linear(dense, num_classes),
            )
        )
        # The paper does not say how weights start; He's fan-out and small dense layers, as torchvision has it.
        he_fan_out(self)
        for layer in (self.head.get_submodule("dense"), self.head.get_submodule("fc")):
            assert isinstance(layer, nn.Linear)
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)


def _blocks(size: str) -> list[tuple[int, int, bool, bool]]:
    """Every block: its stage, its place there, whether it expands, whether it squeezes."""
    blocks, c = [], STEM
    for number, stage in enumerate(stages_of(SIZES[size][0]), start=1):
        for i, (_, exp, out, squeezes, _, _) in enumerate(stage):
            blocks.append((number, i, exp != c, squeezes))
            c = out
    return blocks


def _from_torchvision(size: str) -> KeyMap:
    # torchvision numbers the blocks through all stages.
    blocks = _blocks(size)
    last = len(blocks) + 1
    return rename(
        (r"features\.0\.0\.", "stem.conv."),
        (r"features\.0\.1\.", "stem.norm."),
        *(
            rule
            for index, (number, i, expands, squeezes) in enumerate(blocks, start=1)
            for rule in torchvision_rules(rf"features\.{index}", f"stages.stage{number}.{i}", expands, squeezes)
        ),
        (rf"features\.{last}\.0\.", "head.conv.conv."),
        (rf"features\.{last}\.1\.", "head.conv.norm."),
        (r"classifier\.0\.", "head.dense."),
        (r"classifier\.3\.", "head.fc."),
    )


def _from_timm(size: str) -> KeyMap:
    blocks = _blocks(size)
    last = blocks[-1][0]  # timm counts stages from 0 and has the last convolution as one more
    return rename(
        (r"conv_stem\.", "stem.conv."),
        (r"bn1\.", "stem.norm."),
        *(
            rule
            for number, i, expands, _ in blocks
            for rule in timm_rules(rf"blocks\.{number - 1}\.{i}", f"stages.stage{number}.{i}", expands)
        ),
        (rf"blocks\.{last}\.0\.conv\.", "head.conv.conv."),
        (rf"blocks\.{last}\.0\.bn1\.", "head.conv.norm."),
        (r"conv_head\.", "head.dense."),
        (r"classifier\.", "head.fc."),
    )


TORCHVISION = "https://download.pytorch.org/models/"
TIMM = "https://github.com/huggingface/pytorch-image-models/releases/download/"
HALF = (0.5, 0.5, 0.5)


def _timm(model: str, tag: str, file: str, **knobs: object) -> Weights:
    """timm's own weights, or with `padding="same"` the authors', whose pictures run from -1 to 1."""
    authors = Preprocessing(mean=HALF, std=HALF)
    return Weights(
        tag=f"{model}.{tag}",
        url=f"{TIMM}v0.1-weights/{file}.pth",
        sha256=file[-8:],
        layout="timm",
        preprocessing=authors if "padding" in knobs else Preprocessing(interpolation="bicubic"),
        licence="Apache-2.0",
        knobs=knobs,
    )


def _spec(size: str, table: str, params: int, macs: int, *weights: Weights) -> Spec:
    return Spec(
        name=f"mobilenet_v3_{size}",
        idea=f"Searched inverted residuals with squeeze and excitation and a cheap swish, the {size} one.",
        title="Searching for MobileNetV3",
        year=2019,
        link="https://arxiv.org/abs/1905.02244",
        table=table,
        input_shape=(3, 224, 224),
        params=params,
        macs=macs,
        weights=weights,
        aliases=(f"mobilenetv3_{size}_100",),
    )


@register(
    _spec(
        "large",
        "Table 1",
        5_483_032,
        216_589_760,
        Weights(
            tag="imagenet1k_v2",
            url=f"{TORCHVISION}mobilenet_v3_large-5c1a4163.pth",
            sha256="5c1a4163",
            preprocessing=Preprocessing(resize=232),
            top1=75.274,
            top5=92.566,
        ),
        Weights(
            tag="imagenet1k_v1",
            url=f"{TORCHVISION}mobilenet_v3_large-8738ca79.pth",
            sha256="8738ca79",
            top1=74.042,
            top5=91.340,
        ),
        _timm("mobilenetv3_large_100", "ra_in1k", "mobilenetv3_large_100_ra-f55367f5", eps=1e-5),
        Weights(
            tag="mobilenetv3_large_100.miil_in21k_ft_in1k",
            url=f"{TIMM}v0.1-tresnet/mobilenetv3_large_100_1k_miil_78_0-66471c13.pth",
            sha256="66471c13",
            layout="timm",
            preprocessing=Preprocessing(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
            licence="Apache-2.0",
            knobs={"eps": 1e-5},
        ),
        _timm("tf_mobilenetv3_large_100", "in1k", "tf_mobilenetv3_large_100-427764d5", padding="same"),
        _timm("tf_mobilenetv3_large_075", "in1k", "tf_mobilenetv3_large_075-150ee8b0", padding="same", width=0.75),
    ),
    {"torchvision": _from_torchvision("large"), "timm": _from_timm("large")},
)
def mobilenet_v3_large(
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    width: float = 1.0,
    padding: Literal["torch", "same"] = "torch",
    eps: float = 1e-3,
    dropout: float | None = None,
) -> MobileNetV3:
    """`width` multiplies all channels; `eps` is batch norm's, 1e-5 for timm's own weights; `dropout` (0.2)
    stands in front of the classifier."""
    return MobileNetV3("large", num_classes, in_channels, width, padding, eps, DROPOUT if dropout is None else dropout)


@register(
    _spec(
        "small",
        "Table 2",
        2_542_856,
        56_510_400,
        Weights(
            tag="imagenet1k_v1",
            url=f"{TORCHVISION}mobilenet_v3_small-047dcff4.pth",
            sha256="047dcff4",
            top1=67.668,
            top5=87.402,
        ),
        _timm("mobilenetv3_small_100", "lamb_in1k", "mobilenetv3_small_100_lamb-266a294c", eps=1e-5),
        _timm("mobilenetv3_small_075", "lamb_in1k", "mobilenetv3_small_075_lambc-384766db", eps=1e-5, width=0.75),
        _timm("tf_mobilenetv3_small_100", "in1k", "tf_mobilenetv3_small_100-37f49e2b", padding="same"),
        _timm("tf_mobilenetv3_small_075", "in1k", "tf_mobilenetv3_small_075-da427f52", padding="same", width=0.75),
    ),
    {"torchvision": _from_torchvision("small"), "timm": _from_timm("small")},
)
def mobilenet_v3_small(
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    width: float = 1.0,
    padding: Literal["torch", "same"] = "torch",
    eps: float = 1e-3,
    dropout: float | None = None,
) -> MobileNetV3:
    """`width` multiplies all channels; `eps` is batch norm's, 1e-5 for timm's own weights; `dropout` (0.2)
    stands in front of the classifier."""
    return MobileNetV3("small", num_classes, in_channels, width, padding, eps, DROPOUT if dropout is None else dropout)
