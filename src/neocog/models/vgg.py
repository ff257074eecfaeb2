"""VGG: nothing but 3x3 convolutions. Two of them see as far as one 5x5, cost less and bend twice.

Paper: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
ICLR 2015, arXiv:1409.1556. COLUMNS below are columns A, B, D and E of Table 1: filters per stage, layers
per stage. Every stage ends, as the table's blocks do, in a 2x2 max pool; here it opens the next stage, so
that a stage's output is the map before it loses half its pixels.
Differs from the paper: the _bn networks have batch norm (Ioffe and Szegedy 2015) after every convolution;
an adaptive pool in front of the dense layers accepts other sizes than 224.

    image     3 x 224 x 224
    stage1   64 x 224 x 224
    stage2  128 x 112 x 112
    stage3  256 x  56 x  56
    stage4  512 x  28 x  28
    stage5  512 x  14 x  14  -> pool 512 x 7 x 7 -> 4096 -> 4096 -> classes
"""

from collections import OrderedDict

from torch import nn

from neocog.core.contracts import Network
from neocog.core.registry import KeyMap, register
from neocog.core.spec import Spec, torchvision_v1
from neocog.layers.conv import ConvNormAct
from neocog.layers.dropout import Dropout
from neocog.layers.init import initialise
from neocog.models.keys import rename

FILTERS = (64, 128, 256, 512, 512)

#         layers per stage
COLUMNS = {
    11: (1, 1, 2, 2, 2),  # A
    13: (2, 2, 2, 2, 2),  # B
    16: (2, 2, 3, 3, 3),  # D
    19: (2, 2, 4, 4, 4),  # E
}
GRID, WIDTH, DROPOUT = 7, 4096, 0.5


class VGG(Network):
    """(B, C, H, W) -> (B, K)"""

    stage_channels = FILTERS
    stage_strides = (1, 2, 4, 8, 16)
    min_size = 32
    classifier = "fc8"

    def __init__(self, depth: int, norm: bool, num_classes: int, in_channels: int, dropout: float) -> None:
        super().__init__()
        self.num_classes, self.in_channels = num_classes, in_channels
        self.stem = nn.Identity()
        self.stages = nn.Sequential()
        norms = nn.BatchNorm2d if norm else None
        c = in_channels
        for number, (filters, layers) in enumerate(zip(FILTERS, COLUMNS[depth], strict=True), start=1):
            stage = nn.Sequential()
            if number > 1:
                stage.add_module("pool", nn.MaxPool2d(2))
            for layer in range(1, layers + 1):
                # The bias in front of the norm does nothing, but the published weights have it.
                stage.add_module(f"conv{layer}", ConvNormAct(c, filters, 3, bias=True, norm=norms))
                c = filters
            self.stages.add_module(f"stage{number}", stage)
        self.head = nn.Sequential(
            OrderedDict(
                pool5=nn.MaxPool2d(2),
                grid=nn.AdaptiveAvgPool2d(GRID),  # identity at 224
                flatten=nn.Flatten(),  # (B, 512 * 7 * 7)
                fc6=nn.Linear(c * GRID**2, WIDTH),
                act6=nn.ReLU(inplace=True),
                drop6=Dropout(dropout),
                fc7=nn.Linear(WIDTH, WIDTH),
                act7=nn.ReLU(inplace=True),
                drop7=Dropout(dropout),
                fc8=nn.Linear(WIDTH, num_classes),
            )
        )
        # Section 3.1: from the shallow network's weights, or, as its footnote found later, Glorot and
        # Bengio's initialisation without any; the second is what a single network can do by itself.
        initialise(self, "xavier_uniform")


def _key_maps(depth: int, norm: bool) -> dict[str, KeyMap]:
    # The libraries number the layers of one Sequential: conv, (norm,) ReLU for each layer, then a pool.
    features, index = [], 0
    for number, layers in enumerate(COLUMNS[depth], start=1):
        for layer in range(1, layers + 1):
            ours = f"stages.stage{number}.conv{layer}."
            features.append((rf"features\.{index}\.", ours + "conv."))
            if norm:
                features.append((rf"features\.{index + 1}\.", ours + "norm."))
            index += 3 if norm else 2
        index += 1
    dense = [(r"classifier\.0\.", "head.fc6."), (r"classifier\.3\.", "head.fc7."), (r"classifier\.6\.", "head.fc8.")]
    timm = [(r"pre_logits\.fc1\.", "head.fc6."), (r"pre_logits\.fc2\.", "head.fc7."), (r"head\.fc\.", "head.fc8.")]
    return {"torchvision": rename(*features, *dense), "timm": rename(*features, *timm)}


def _register(depth: int, params: int, macs: int, sha256: str, top1: float, top5: float, norm: bool = False) -> None:
    name = f"vgg{depth}_bn" if norm else f"vgg{depth}"
    layers = f"{depth} layers of weights"

    def build(*, num_classes: int = 1000, in_channels: int = 3, dropout: float | None = None) -> VGG:
        """`dropout` (0.5) stands behind both hidden dense layers."""
        return VGG(depth, norm, num_classes, in_channels, DROPOUT if dropout is None else dropout)

    build.__name__ = build.__qualname__ = name
    spec = Spec(
        name=name,
        idea=f"Only 3x3 convolutions, {layers}" + (", each convolution with batch norm." if norm else "."),
        title="Very Deep Convolutional Networks for Large-Scale Image Recognition",
        year=2014,
        link="https://arxiv.org/abs/1409.1556",
        table="Table 1",
        input_shape=(3, 224, 224),
        params=params,
        macs=macs,
        weights=(torchvision_v1(name, sha256, top1, top5),),
    )
    register(spec, _key_maps(depth, norm))(build)


#           parameters            MACs  weights     top-1   top-5
_register(11, 132_863_336,  7_609_090_048, "8a719046", 69.020, 88.628)  # fmt: skip
_register(13, 133_047_848, 11_308_466_176, "19584684", 69.928, 89.246)
_register(16, 138_357_544, 15_470_264_320, "397923af", 71.592, 90.382)
_register(19, 143_667_240, 19_632_062_464, "dcbb9e9d", 72.376, 90.876)
_register(11, 132_868_840,  7_609_090_048, "6002323d", 70.370, 89.810, norm=True)  # fmt: skip
_register(13, 133_053_736, 11_308_466_176, "abd245e5", 71.586, 90.374, norm=True)
_register(16, 138_365_992, 15_470_264_320, "6c64b313", 73.360, 91.516, norm=True)
_register(19, 143_678_248, 19_632_062_464, "c79401a0", 74.218, 91.842, norm=True)
