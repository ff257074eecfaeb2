"""EfficientNet: scale depth, width and resolution together, each by its own constant.

A search finds one small network of inverted residuals with squeeze and excitation, B0. For 2^phi times the
operations it gets 1.2^phi times as deep, 1.1^phi times as wide and 1.15^phi times as fine a picture
(1.2 * 1.1^2 * 1.15^2 is about 2): none of the three alone pays as much.

Paper: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019,
arXiv:1905.11946. ROWS below is Table 1; SCALES is the authors' code
(https://github.com/tensorflow/tpu, models/official/efficientnet), as the paper gives only the rule.
Differs from the paper: padding stands on both sides as in torchvision's weights, and up to B4 batch norm's
epsilon is 1e-5 as there; the authors' own weights need `padding="same"` (layers/same_pad.py), which brings
their epsilon, 1e-3, with it.

    image     3 x 224 x 224    (B0)
    stem     32 x 112 x 112
    stage2   16 x 112 x 112
    stage3   24 x  56 x  56
    stage4   40 x  28 x  28
    stage5   80 x  14 x  14
    stage6  112 x  14 x  14
    stage7  192 x   7 x   7
    stage8  320 x   7 x   7
    head   1280 x   7 x   7  -> mean -> classes
"""

import math
from collections import OrderedDict
from functools import partial
from typing import Literal

from torch import nn

from neocog.core.contracts import Network
from neocog.core.registry import KeyMap, register
from neocog.core.spec import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, Spec, Weights
from neocog.layers.conv import ConvNormAct
from neocog.layers.dropout import Dropout
from neocog.layers.init import he_fan_out
from neocog.layers.inverted_residual import InvertedResidual
from neocog.layers.squeeze_excite import SqueezeExcite
from neocog.layers.width import scaled
from neocog.models.inverted_residual_keys import timm_rules, torchvision_rules
from neocog.models.keys import rename

#           expansion  kernel  channels  layers  stride of the first
ROWS = {
    "stage2": (1,        3,       16,       1,      1),
    "stage3": (6,        3,       24,       2,      2),
    "stage4": (6,        5,       40,       2,      2),
    "stage5": (6,        3,       80,       3,      2),
    "stage6": (6,        5,      112,       3,      1),
    "stage7": (6,        5,      192,       4,      2),
    "stage8": (6,        3,      320,       1,      1),
}  # fmt: skip
STEM, LAST = 32, 1280

#    width  depth  resolution  dropout
SCALES = {
    0: (1.0,  1.0,   224,        0.2),
    1: (1.0,  1.1,   240,        0.2),
    2: (1.1,  1.2,   260,        0.3),
    3: (1.2,  1.4,   300,        0.3),
    4: (1.4,  1.8,   380,        0.4),
    5: (1.6,  2.2,   456,        0.4),
    6: (1.8,  2.6,   528,        0.5),
    7: (2.0,  3.1,   600,        0.5),
}  # fmt: skip
DROP_PATH = 0.2  # section 5.2: survival probability 0.8
MOMENTUM = 0.01  # section 5.2: batch norm momentum 0.99

Padding = Literal["torch", "same"]


def layers(row: str, phi: int) -> int:
    """How many blocks a row has in B`phi`."""
    return math.ceil(ROWS[row][3] * SCALES[phi][1])


class EfficientNet(Network):
    """(B, C, H, W) -> (B, K)"""

    stage_strides = (2, 4, 8, 16, 16, 32, 32)

    def __init__(
        self, phi: int, num_classes: int, in_channels: int, padding: str, dropout: float | None, drop_path: float
    ) -> None:
        super().__init__()
        if padding not in ("torch", "same"):
            raise ValueError(f"padding = {padding!r} is neither 'torch' nor 'same'")
        width, _, _, papers_dropout = SCALES[phi]
        same = padding == "same"
        # torchvision's B0 to B4 were trained in PyTorch with its epsilon, its B5 to B7 are the authors'.
        norm = partial(nn.BatchNorm2d, eps=1e-3 if same or phi >= 5 else 1e-5, momentum=MOMENTUM)
        self.num_classes, self.in_channels = num_classes, in_channels
        self.stage_channels = tuple(scaled(channels, width) for _, _, channels, _, _ in ROWS.values())
        c = scaled(STEM, width)
        self.stem = ConvNormAct(in_channels, c, 3, stride=2, norm=norm, act=nn.SiLU, same=same)
        self.stages = nn.Sequential()
        depth, index = sum(layers(row, phi) for row in ROWS), 0
        for c_out, (name, (expansion, kernel, _, _, stride)) in zip(self.stage_channels, ROWS.items(), strict=True):
            stage = nn.Sequential()
            for i in range(layers(name, phi)):
                wide = c * expansion
                stage.append(
                    InvertedResidual(
                        c, wide, c_out, kernel, stride if i == 0 else 1, act=nn.SiLU, norm=norm,
                        # A quarter of what comes into the block, as in MnasNet.
                        squeeze_excite=SqueezeExcite(wide, c // 4, act=nn.SiLU),
                        # The deeper, the more often dropped.
                        drop_path=drop_path * index / depth, same=same,
                    )
                )  # fmt: skip
                c, index = c_out, index + 1
            self.stages.add_module(name, stage)
        last = scaled(LAST, width)
        self.head = nn.Sequential(
            OrderedDict(
                conv=ConvNormAct(c, last, 1, norm=norm, act=nn.SiLU),
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                dropout=Dropout(papers_dropout if dropout is None else dropout),
                fc=nn.Linear(last, num_classes),
            )
        )
        # The paper does not say how weights start. The authors' code: He's fan-out, and for the classifier a
        # uniform distribution with bound 1 / sqrt(classes).
        he_fan_out(self)
        fc = self.head.get_submodule("fc")
        assert isinstance(fc, nn.Linear)
        nn.init.uniform_(fc.weight, -(num_classes**-0.5), num_classes**-0.5)
        nn.init.zeros_(fc.bias)


def _from_torchvision(phi: int) -> KeyMap:
    return rename(
        (r"features\.0\.0\.", "stem.conv."),
        (r"features\.0\.1\.", "stem.norm."),
        *(
            rule
            for number, (name, row) in enumerate(ROWS.items(), start=1)
            for i in range(layers(name, phi))
            for rule in torchvision_rules(rf"features\.{number}\.{i}", f"stages.{name}.{i}", row[0] != 1, True)
        ),
        (r"features\.8\.0\.", "head.conv.conv."),
        (r"features\.8\.1\.", "head.conv.norm."),
        (r"classifier\.1\.", "head.fc."),
    )


def _from_timm(phi: int) -> KeyMap:
    return rename(
        (r"conv_stem\.", "stem.conv."),
        (r"bn1\.", "stem.norm."),
        *(
            rule
            for number, (name, row) in enumerate(ROWS.items())
            for i in range(layers(name, phi))
            for rule in timm_rules(rf"blocks\.{number}\.{i}", f"stages.{name}.{i}", row[0] != 1)
        ),
        (r"conv_head\.", "head.conv.conv."),
        (r"bn2\.", "head.conv.norm."),
        (r"classifier\.", "head.fc."),
    )


#    torchvision's files: tag, file, size, resize, interpolation, top-1, top-5
TORCHVISION = {
    0: (("imagenet1k_v1", "b0_rwightman-7f5810bc", 224, 256, "bicubic", 77.692, 93.532),),
    1: (
        ("imagenet1k_v2", "b1-c27df63c", 240, 255, "bilinear", 79.838, 94.934),
        ("imagenet1k_v1", "b1_rwightman-bac287d4", 240, 256, "bicubic", 78.642, 94.186),
    ),
    2: (("imagenet1k_v1", "b2_rwightman-c35c1473", 288, 288, "bicubic", 80.608, 95.310),),
    3: (("imagenet1k_v1", "b3_rwightman-b3899882", 300, 320, "bicubic", 82.008, 96.054),),
    4: (("imagenet1k_v1", "b4_rwightman-23ab8bcd", 380, 384, "bicubic", 83.384, 96.594),),
    5: (("imagenet1k_v1", "b5_lukemelas-1a07897c", 456, 456, "bicubic", 83.444, 96.628),),
    6: (("imagenet1k_v1", "b6_lukemelas-24a108a5", 528, 528, "bicubic", 84.008, 96.916),),
    7: (("imagenet1k_v1", "b7_lukemelas-c5b4e57e", 600, 600, "bicubic", 84.122, 96.908),),
}

#    timm's own files: tag, file, size, resize
TIMM = {
    0: ("ra_in1k", "b0_ra-3dd342df", 224, 256),
    1: ("ft_in1k", "b1-533bc792", 224, 256),
    2: ("ra_in1k", "b2_ra-bcdf34b7", 256, 292),
    3: ("ra2_in1k", "b3_ra2-cf984f9c", 288, 329),
    4: ("ra2_in1k", "b4_ra2_320-7eb33cd5", 320, 365),
}

# The authors' files, converted by timm: the resize of all, and the hash of each. Trained with the paper's recipe,
# AutoAugment, AdvProp's adversarial examples (whose pictures run from -1 to 1), noisy students, RandAugment.
RECIPES = ("in1k", "aa_in1k", "ap_in1k", "ns_jft_in1k", "ra_in1k")
AUTHORS: dict[int, tuple[int, str, str, str, str, str]] = {
    0: (256, "0af12548", "827b6e33", "f262efe1", "c0e6a31c",         ""),
    1: (272, "5c1377c4", "ea7a6ee0", "44ef0a3d", "99dd0c41",         ""),
    2: (292, "e393ef04", "60c94f97", "2f8e7636", "00306e48",         ""),
    3: (331, "e3bd6955", "84b4657e", "aad25bdd", "9d44bf68",         ""),
    4: (412, "74ee3bed", "818f208c", "dedb23e6", "d6313a46",         ""),
    5: (488, "c6949ce9", "99018a74", "9e82fae8", "6f26d0cf", "9a3e5369"),
    6: (560,         "", "80ba17e4", "4ffb161f", "51548356",         ""),
    7: (632,         "", "076e3472", "ddb28fec", "1dbc32de", "6c08e654"),
}  # fmt: skip
RELEASE = "https://github.com/huggingface/pytorch-image-models/releases/download/v0.1-weights/"


def _weights(phi: int) -> tuple[Weights, ...]:
    published = []
    for tag, file, size, resize, interpolation, top1, top5 in TORCHVISION[phi]:
        published.append(
            Weights(
                tag=tag,
                url=f"https://download.pytorch.org/models/efficientnet_{file}.pth",
                sha256=file[-8:],
                preprocessing=Preprocessing(size=size, resize=resize, interpolation=interpolation),
                top1=top1,
                top5=top5,
            )
        )
    if phi in TIMM:
        tag, file, size, resize = TIMM[phi]
        published.append(
            Weights(
                tag=f"efficientnet_b{phi}.{tag}",
                url=f"{RELEASE}efficientnet_{file}.pth",
                sha256=file[-8:],
                layout="timm",
                preprocessing=Preprocessing(size=size, resize=resize, interpolation="bicubic"),
                licence="Apache-2.0",
            )
        )
    resize, *hashes = AUTHORS[phi]
    for recipe, sha256 in zip(RECIPES, hashes, strict=True):
        if not sha256:
            continue
        mean, std = ((0.5, 0.5, 0.5),) * 2 if recipe == "ap_in1k" else (IMAGENET_MEAN, IMAGENET_STD)
        # "ap_in1k" is "_ap-" in a file's name, and the paper's recipe is nothing.
        short = "" if recipe == "in1k" else "_" + recipe.split("_")[0]
        published.append(
            Weights(
                tag=f"tf_efficientnet_b{phi}.{recipe}",
                url=f"{RELEASE}tf_efficientnet_b{phi}{short}-{sha256}.pth",
                sha256=sha256,
                layout="timm",
                preprocessing=Preprocessing(SCALES[phi][2], resize, mean, std, "bicubic"),
                licence="Apache-2.0",
                knobs={"padding": "same"},
            )
        )
    return tuple(published)


#      parameters  multiply-accumulates
COSTS = {
    0: ( 5_288_548,    385_814_752),
    1: ( 7_794_184,    686_802_832),
    2: ( 9_109_994,    993_561_872),
    3: (12_233_232,  1_827_141_392),
    4: (19_341_616,  4_393_771_024),
    5: (30_389_784, 10_266_384_752),
    6: (43_040_704, 19_067_593_536),
    7: (66_347_960, 37_745_884_192),
}  # fmt: skip


def _register(phi: int) -> None:
    width, depth, size, _ = SCALES[phi]
    params, macs = COSTS[phi]
    spec = Spec(
        name=f"efficientnet_b{phi}",
        idea="A searched small network of inverted residuals with squeeze and excitation, the base of a family."
        if phi == 0
        else f"EfficientNet-B0 made {width} times as wide, {depth} times as deep, for pictures of {size} pixels.",
        title="EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
        year=2019,
        link="https://arxiv.org/abs/1905.11946",
        table="Table 1" if phi == 0 else "Table 1, scaled by section 3.3",
        input_shape=(3, size, size),
        params=params,
        macs=macs,
        weights=_weights(phi),
    )

    def build(
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        padding: Padding = "torch",
        dropout: float | None = None,
        drop_path: float = DROP_PATH,
    ) -> EfficientNet:
        """`dropout` (0.2 to 0.5, more in larger networks) stands in front of the classifier; `drop_path` is the
        share of pictures for which the last blocks are left out while training."""
        return EfficientNet(phi, num_classes, in_channels, padding, dropout, drop_path)

    build.__name__ = build.__qualname__ = spec.name
    register(spec, {"torchvision": _from_torchvision(phi), "timm": _from_timm(phi)})(build)


for _phi in SCALES:
    _register(_phi)
