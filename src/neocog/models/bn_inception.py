"""BN-Inception (Inception v2): every layer's output is brought to mean 0 and variance 1 before it bends.

Batch norm lets the network learn at rates thirty times higher and makes dropout and response normalisation
unnecessary. The modules are GoogLeNet's with two 3x3 for each 5x5; in 3c and 4e they halve the grid themselves:
both kernels move by two, and the pool passes its map on as it is.

Paper: Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
Shift", ICML 2015, arXiv:1502.03167. ROWS below is Figure 5. The first layer is a separable convolution with eight
filters on every channel, as its appendix says.
Counts: section 4.2 says 13.6 million parameters; the figure's rows have 11.2.
Differs from the paper: the pools of 4c and 4d are projected to 96 channels, as in the authors' code
(https://github.com/tensorflow/models, slim/nets/inception_v2.py): with the figure's 128 their outputs would not have
its 576 channels. The figure puts 3c and 4e on the grid they read, here they have the one they make.

    image     3 x 224 x 224
    stem    192 x  28 x  28     conv7/2, pool/2, conv1, conv3, pool/2
    3a-3b   320 x  28 x  28
    3c-4d   576 x  14 x  14
    4e-5b  1024 x   7 x   7
    head   1024 -> classes
"""

from collections import OrderedDict
from functools import partial

from torch import nn

from neocog.core.contracts import Network
from neocog.core.registry import register
from neocog.core.spec import Spec
from neocog.layers.branches import Branches
from neocog.layers.conv import ConvNormAct
from neocog.layers.dropout import Dropout
from neocog.layers.init import initialise

#        1x1  3x3: reduce, out   double 3x3: reduce, out   pool, projection
ROWS = {
    "3a": ( 64,    64,  64,          64,  96,             "avg",  32),
    "3b": ( 64,    64,  96,          64,  96,             "avg",  64),
    "3c": (  0,   128, 160,          64,  96,             "max",   0),  # stride 2
    "4a": (224,    64,  96,          96, 128,             "avg", 128),
    "4b": (192,    96, 128,          96, 128,             "avg", 128),
    "4c": (160,   128, 160,         128, 160,             "avg",  96),
    "4d": ( 96,   128, 192,         160, 192,             "avg",  96),
    "4e": (  0,   128, 192,         192, 256,             "max",   0),  # stride 2
    "5a": (352,   192, 320,         160, 224,             "avg", 128),
    "5b": (352,   192, 320,         192, 224,             "max", 128),
}  # fmt: skip
MULTIPLIER = 8  # depthwise filters on every channel of the picture
DROPOUT = 0.0  # section 4.2.1: removed

# Not in the paper: the epsilon of the authors' code.
conv = partial(ConvNormAct, norm=partial(nn.BatchNorm2d, eps=1e-3))


def halve() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, stride=2, padding=1)


def separable(c_in: int, c_out: int, kernel_size: int, stride: int) -> nn.Sequential:
    """(B, c_in, H, W) -> (B, c_out, H / stride, W / stride): eight filters on each channel, then all are mixed."""
    wide = MULTIPLIER * c_in
    depthwise = ConvNormAct(c_in, wide, kernel_size, stride, groups=c_in, norm=None, act=None)
    return nn.Sequential(OrderedDict(depthwise=depthwise, pointwise=conv(wide, c_out, 1)))


def inception(
    c_in: int, one: int, r3: int, three: int, r33: int, double: int, kind: str, project: int
) -> tuple[Branches, int]:
    """A row of Figure 5, and how many channels come out. Children `one`, `three`, `twice` and `pool` ("double" is
    taken: every module has a method of that name)."""
    stride = 1 if one else 2
    branches = Branches()
    if one:
        branches.add_module("one", conv(c_in, one, 1))
    branches.add_module("three", nn.Sequential(OrderedDict(reduce=conv(c_in, r3, 1), conv=conv(r3, three, 3, stride))))
    branches.add_module(
        "twice",
        nn.Sequential(
            OrderedDict(reduce=conv(c_in, r33, 1), conv1=conv(r33, double, 3), conv2=conv(double, double, 3, stride))
        ),
    )
    if kind == "max":
        pool: nn.Module = nn.MaxPool2d(3, stride, padding=1)
    else:
        pool = nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
    branch = nn.Sequential(OrderedDict(pool=pool))
    if project:
        branch.add_module("project", conv(c_in, project, 1))
    branches.add_module("pool", branch)
    return branches, one + three + double + (project or c_in)


class BNInception(Network):
    """(B, C, H, W) -> (B, K)"""

    stage_strides = (8, 8, 16, 16, 16, 16, 16, 32, 32, 32)

    def __init__(self, num_classes: int, in_channels: int, dropout: float) -> None:
        super().__init__()
        self.num_classes, self.in_channels = num_classes, in_channels
        self.stem = nn.Sequential(
            OrderedDict(
                conv1=separable(in_channels, 64, 7, stride=2),
                pool1=halve(),
                conv2=conv(64, 64, 1),
                conv3=conv(64, 192, 3),
                pool2=halve(),
            )
        )
        self.stages = nn.Sequential()
        c, channels = 192, []
        for name, row in ROWS.items():
            stage, c = inception(c, *row)
            self.stages.add_module(name, stage)
            channels.append(c)
        self.stage_channels = tuple(channels)
        self.head = nn.Sequential(
            OrderedDict(
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                dropout=Dropout(dropout),
                fc=nn.Linear(c, num_classes),
            )
        )
        # The paper does not say how weights start; the authors' code, made for TensorFlow later: He's.
        initialise(self, "he_normal")


@register(
    Spec(
        name="bn_inception",
        idea="GoogLeNet with batch norm behind every convolution and two 3x3 for each 5x5.",
        title="Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift",
        year=2015,
        link="https://arxiv.org/abs/1502.03167",
        table="Figure 5",
        input_shape=(3, 224, 224),
        params=11_188_288,
        macs=1_934_857_216,
        aliases=("inception_v2",),
    )
)
def bn_inception(*, num_classes: int = 1000, in_channels: int = 3, dropout: float | None = None) -> BNInception:
    """`dropout` (none) stands in front of the classifier."""
    return BNInception(num_classes, in_channels, DROPOUT if dropout is None else dropout)
