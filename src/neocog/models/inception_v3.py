"""Inception v3: wide kernels factorised into narrow ones, and a grid that shrinks without a bottleneck.

Two 3x3 see as far as a 5x5, a 1x7 and a 7x1 as far as a 7x7, each for a fraction of the bill. Where the grid
halves, convolutions and a pool do so side by side, so that no layer has to squeeze the map first. One auxiliary
head with batch norm behind the last 17 x 17 module regularises; it exists in training only.

Paper: Szegedy, Vanhoucke, Ioffe, Shlens and Wojna, "Rethinking the Inception Architecture for Computer Vision",
CVPR 2016, arXiv:1512.00567. The figures are the paper's; their filters, which it leaves to a supplement, and the
stages' names are the authors' code's (https://github.com/tensorflow/models, slim/nets/inception_v3.py).
Differs from the paper's Table 1, as that code and all published weights do: the stem ends with a 1x1 convolution to
80 channels, a 3x3 to 192 and a pool where the table has 3x3 to 80, 3x3/2 to 192 and 3x3 to 288; each 35 x 35 module
keeps one 5x5, of which figure 5 makes two 3x3; of the table's five 17 x 17 modules the first is the reduction.

    image     3 x 299 x 299
    stem    192 x  35 x  35
    5b-5d   288 x  35 x  35     figure 5
    6a-6e   768 x  17 x  17     figure 10, then figure 6; auxiliary head behind 6e
    7a     1280 x   8 x   8     figure 10
    7b-7c  2048 x   8 x   8     figure 7
    head   2048 -> classes
"""

from collections import OrderedDict

from torch import nn

from neocog.core.contracts import Network
from neocog.core.registry import register
from neocog.core.spec import Preprocessing, Spec, Weights
from neocog.layers.auxiliary_pool import AuxiliaryPool
from neocog.layers.dropout import Dropout
from neocog.layers.init import initialise
from neocog.layers.towers import tower, towers
from neocog.models.keys import rename

STEM = "3x3:32/2 3x3:32v 3x3:64 max/2 1x1:80 3x3:192v max/2"


def figure_5(pool: int) -> tuple[str, ...]:
    return ("1x1:64", "1x1:48 5x5:64", "1x1:64 3x3:96 3x3:96", f"avg 1x1:{pool}")


def figure_6(n: int) -> tuple[str, ...]:
    return (
        "1x1:192",
        f"1x1:{n} 1x7:{n} 7x1:192",
        f"1x1:{n} 7x1:{n} 1x7:{n} 7x1:{n} 1x7:192",
        "avg 1x1:192",
    )


FIGURE_7 = (
    "1x1:320",
    "1x1:384 1x3:384|3x1:384",
    "1x1:448 3x3:384 1x3:384|3x1:384",
    "avg 1x1:192",
)
ROWS = {
    "5b": figure_5(32),
    "5c": figure_5(64),
    "5d": figure_5(64),
    "6a": ("3x3:384/2", "1x1:64 3x3:96 3x3:96/2", "max/2"),
    "6b": figure_6(128),
    "6c": figure_6(160),
    "6d": figure_6(160),
    "6e": figure_6(192),
    "7a": ("1x1:192 3x3:320/2", "1x1:192 1x7:192 7x1:192 3x3:192/2", "max/2"),
    "7b": FIGURE_7,
    "7c": FIGURE_7,
}
AUXILIARY = "6e"
# Neither is in the paper; both are the authors' code's.
DROPOUT, AUXILIARY_WEIGHT = 0.2, 0.4


class InceptionV3(Network):
    """(B, C, H, W) -> (B, K)"""

    stage_channels = (256, 288, 288, 768, 768, 768, 768, 768, 1280, 2048, 2048)
    stage_strides = (8, 8, 8, 16, 16, 16, 16, 16, 32, 32, 32)
    min_size = 75
    auxiliary_weight = AUXILIARY_WEIGHT

    def __init__(self, num_classes: int, in_channels: int, auxiliary: bool, dropout: float) -> None:
        super().__init__()
        self.num_classes, self.in_channels = num_classes, in_channels
        self.stem, c = tower(in_channels, STEM)
        self.stages = nn.Sequential()
        for name, figure in ROWS.items():
            stage, c = towers(c, figure)
            self.stages.add_module(name, stage)
        for layer in self.stages.modules():
            if isinstance(layer, nn.AvgPool2d):
                # The published PyTorch weights were measured with the zeros around the picture in the mean; the
                # authors' TensorFlow leaves them out.
                layer.count_include_pad = True
        self.head = nn.Sequential(
            OrderedDict(
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                dropout=Dropout(dropout),
                fc=nn.Linear(c, num_classes),
            )
        )
        # The paper does not say how weights start; the authors' code: He's.
        initialise(self, "he_normal")
        if auxiliary:
            c = self.stage_channels[list(ROWS).index(AUXILIARY)]
            self.auxiliary = nn.ModuleDict({AUXILIARY: auxiliary_head(c, num_classes)})


def auxiliary_head(c_in: int, num_classes: int) -> nn.Sequential:
    """(B, c_in, 17, 17) -> (B, K)"""
    convs, c = tower(c_in, "1x1:128 5x5:768v")
    fc = nn.Linear(c, num_classes)
    initialise(convs, "he_normal")
    # The authors' code: close to nothing at the end, so that at first all pictures are answered alike.
    wide = convs[1].get_submodule("conv")
    assert isinstance(wide, nn.Conv2d)
    nn.init.normal_(wide.weight, std=0.01)
    nn.init.normal_(fc.weight, std=0.001)
    nn.init.zeros_(fc.bias)
    return nn.Sequential(OrderedDict(pool=AuxiliaryPool(5), convs=convs, flatten=nn.Flatten(), fc=fc))


# The libraries name the boxes of a module by what they are, and count them where a branch has several.
_BRANCHES = {
    "5": ("branch1x1", "branch5x5", "branch3x3dbl", "branch_pool"),
    "6a": ("branch3x3", "branch3x3dbl"),
    "6": ("branch1x1", "branch7x7", "branch7x7dbl", "branch_pool"),
    "7a": ("branch3x3", "branch7x7x3"),
    "7": ("branch1x1", "branch3x3", "branch3x3dbl", "branch_pool"),
}


def _module_rules(name: str) -> list[tuple[str, str]]:
    rules = []
    for i, (branch, words) in enumerate(zip(_BRANCHES.get(name, _BRANCHES[name[0]]), ROWS[name], strict=False)):
        boxes = words.split()
        first = 1 if boxes[0] == "avg" else 0  # a pool has no tensors
        for place, word in enumerate(boxes[first:], start=first):
            number = "" if len(boxes) - first == 1 else f"_{place + 1 - first}"
            for letter, side in (("a", ".0"), ("b", ".1")) if "|" in word else (("", ""),):
                rules.append((rf"Mixed_{name}\.{branch}{number}{letter}\.", f"stages.{name}.{i}.{place}{side}."))
    return rules


_rename = rename(
    (r"Conv2d_1a_3x3\.", "stem.0."),
    (r"Conv2d_2a_3x3\.", "stem.1."),
    (r"Conv2d_2b_3x3\.", "stem.2."),
    (r"Conv2d_3b_1x1\.", "stem.4."),
    (r"Conv2d_4a_3x3\.", "stem.5."),
    *(rule for name in ROWS for rule in _module_rules(name)),
    (r"AuxLogits\.conv(\d)\.", rf"auxiliary.{AUXILIARY}.convs.\1."),
    (r"AuxLogits\.fc\.", f"auxiliary.{AUXILIARY}.fc."),
    (r"fc\.", "head.fc."),
)


def from_torchvision(key: str) -> str:
    """timm's names are the same."""
    return _rename(key).replace(".bn.", ".norm.")


@register(
    Spec(
        name="inception_v3",
        idea="Inception modules whose wide kernels are factorised: 7x7 into 1x7 and 7x1.",
        title="Rethinking the Inception Architecture for Computer Vision",
        year=2015,
        link="https://arxiv.org/abs/1512.00567",
        table="Table 1 and figures 5 to 7 and 10",
        input_shape=(3, 299, 299),
        params=23_834_568,
        macs=5_713_216_096,
        weights=(
            Weights(
                tag="imagenet1k_v1",
                url="https://download.pytorch.org/models/inception_v3_google-0cc3c7bd.pth",
                sha256="0cc3c7bd",
                # torchvision's network turns ImageNet's mean and deviation back into these (transform_input).
                preprocessing=Preprocessing(size=299, resize=342, mean=(0.5,) * 3, std=(0.5,) * 3),
                top1=77.294,
                top5=93.450,
            ),
            # The same library's older file, which timm reads, with timm's preprocessing.
            Weights(
                tag="inception_v3.tv_in1k",
                url="https://download.pytorch.org/models/inception_v3_google-1a9a5a14.pth",
                sha256="1a9a5a14",
                preprocessing=Preprocessing(
                    size=299, resize=341, mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bicubic"
                ),
                licence="Apache-2.0",
            ),
        ),
    ),
    key_maps={"torchvision": from_torchvision},
)
def inception_v3(
    *, num_classes: int = 1000, in_channels: int = 3, auxiliary: bool = True, dropout: float | None = None
) -> InceptionV3:
    """`auxiliary`: the head of training behind 6e; `dropout` (0.2) stands in front of the classifier."""
    return InceptionV3(num_classes, in_channels, auxiliary, DROPOUT if dropout is None else dropout)
