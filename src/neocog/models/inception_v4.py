"""Inception-v4: once more branches, uniform this time: three kinds of module, each repeated without change.

Its forerunners were tailored to the machines that trained them. Here every module of a grid size is the same,
wide kernels are split in two (1x7 and 7x1 cost 2/7 of 7x7), and the grid shrinks in modules of its own, where
convolutions and a pool run side by side so that nothing is squeezed.

Paper: Szegedy, Ioffe, Vanhoucke and Alemi, "Inception-v4, Inception-ResNet and the Impact of Residual
Connections on Learning", AAAI 2017, arXiv:1602.07261. The tables below are its figures, one string per column
(layers/towers.py reads them), the whole is Figure 9.
Differs from the paper: which of 1xN and Nx1 comes first, and the order in which branches are stacked, are the
published weights'.

    image         3 x 299 x 299
    stem        384 x  35 x  35
    inception_a 384 x  35 x  35
    reduction_a 1024 x 17 x  17
    inception_b 1024 x 17 x  17
    reduction_b 1536 x  8 x   8
    inception_c 1536 x  8 x   8   -> mean -> classes
"""

from collections import OrderedDict

from torch import nn

from neocog.core.contracts import Network
from neocog.core.registry import register
from neocog.core.spec import Spec
from neocog.layers.dropout import Dropout
from neocog.layers.init import initialise
from neocog.layers.towers import tower, towers
from neocog.models.keys import rename

# Figure 3, in its four parts; also the stem of Inception-ResNet-v2.
STEM = (
    ("3x3:32/2 3x3:32v 3x3:64",),
    ("max/2", "3x3:96/2"),
    ("1x1:64 3x3:96v", "1x1:64 1x7:64 7x1:64 3x3:96v"),
    ("3x3:192/2", "max/2"),
)
# Figure 4
INCEPTION_A = (
    "1x1:96",
    "1x1:64 3x3:96",
    "1x1:64 3x3:96 3x3:96",
    "avg 1x1:96",
)
# Figure 7, with the numbers of Table 1: k, l, m, n = 192, 224, 256, 384
REDUCTION_A = (
    "3x3:384/2",
    "1x1:192 3x3:224 3x3:256/2",
    "max/2",
)
# Figure 5
INCEPTION_B = (
    "1x1:384",
    "1x1:192 1x7:224 7x1:256",
    "1x1:192 7x1:192 1x7:224 7x1:224 1x7:256",
    "avg 1x1:128",
)
# Figure 8
REDUCTION_B = (
    "1x1:192 3x3:192/2",
    "1x1:256 1x7:256 7x1:320 3x3:320/2",
    "max/2",
)
# Figure 6
INCEPTION_C = (
    "1x1:256",
    "1x1:384 1x3:256|3x1:256",
    "1x1:384 3x1:448 1x3:512 1x3:256|3x1:256",
    "avg 1x1:256",
)
# Figure 9: stage, module, how often
STAGES = (
    ("inception_a", INCEPTION_A, 4),
    ("reduction_a", REDUCTION_A, 1),
    ("inception_b", INCEPTION_B, 7),
    ("reduction_b", REDUCTION_B, 1),
    ("inception_c", INCEPTION_C, 3),
)
DROPOUT = 0.2  # the figure's "keep 0.8"


def figure_3(c_in: int) -> tuple[nn.Sequential, int]:
    """(B, c_in, H, W) -> (B, 384, H / 8, W / 8) and its 384 channels. Children `part1` to `part4`."""
    stem, c = nn.Sequential(), c_in
    for number, part in enumerate(STEM, start=1):
        module, c = tower(c, part[0]) if len(part) == 1 else towers(c, part)
        stem.add_module(f"part{number}", module)
    return stem, c


class InceptionV4(Network):
    """(B, C, H, W) -> (B, K)"""

    stage_strides = (8, 16, 16, 32, 32)
    min_size = 75

    def __init__(self, num_classes: int, in_channels: int, dropout: float) -> None:
        super().__init__()
        self.num_classes, self.in_channels = num_classes, in_channels
        self.stem, c = figure_3(in_channels)
        self.stages = nn.Sequential()
        channels = []
        for name, figure, n in STAGES:
            stage = nn.Sequential()
            for _ in range(n):
                module, c = towers(c, figure)
                stage.append(module)
            self.stages.add_module(name, stage)
            channels.append(c)
        self.stage_channels = tuple(channels)
        fc = nn.Linear(c, num_classes)
        self.head = nn.Sequential(
            OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), dropout=Dropout(dropout), fc=fc)
        )
        # The paper does not say how weights start. The authors' code
        # (https://github.com/tensorflow/models, slim/nets/inception_utils.py): He's, and Glorot's for the classifier.
        initialise(self, "he_normal")
        nn.init.xavier_uniform_(fc.weight)


def module_rules(theirs: str, ours: str) -> tuple[tuple[str, str], ...]:
    """The towers of one module under timm's names: branch, then place, and letters where a tower forks."""
    return (
        (rf"{theirs}branch(\d)[._](\d)\.", rf"{ours}\1.\2."),
        (rf"{theirs}branch(\d)_(\d)a\.", rf"{ours}\1.\2.0."),
        (rf"{theirs}branch(\d)_(\d)b\.", rf"{ours}\1.\2.1."),
        (rf"{theirs}branch(\d)\.", rf"{ours}\1.0."),
    )


_MODULES = [f"stages.{name}.{i}." for name, _, n in STAGES for i in range(n)]
_rename = rename(
    (r"features\.([0-2])\.", r"stem.part1.\1."),
    (r"features\.3\.conv\.", "stem.part2.1.0."),
    *module_rules(r"features\.4\.", "stem.part3."),
    (r"features\.5\.conv\.", "stem.part4.0.0."),
    *(rule for number, ours in enumerate(_MODULES, start=6) for rule in module_rules(rf"features\.{number}\.", ours)),
    (r"last_linear\.", "head.fc."),
)


def from_timm(key: str) -> str:
    return _rename(key).replace(".bn.", ".norm.")


@register(
    Spec(
        name="inception_v4",
        idea="Three kinds of Inception module, each repeated without change, and two modules that shrink the grid.",
        title="Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning",
        year=2016,
        link="https://arxiv.org/abs/1602.07261",
        table="Figures 3 to 9 and Table 1",
        input_shape=(3, 299, 299),
        params=42_679_816,
        macs=12_253_974_624,
    ),
    key_maps={"timm": from_timm},
)
def inception_v4(*, num_classes: int = 1000, in_channels: int = 3, dropout: float | None = None) -> InceptionV4:
    return InceptionV4(num_classes, in_channels, DROPOUT if dropout is None else dropout)
