"""DenseNet: every layer reads what all layers before it have written, and adds a few pages of its own.

Features are never added up, only laid side by side: each layer gives `growth` new channels (few, as nothing has
to be learnt twice), and whatever has been found once stays in reach of everyone behind it.

Paper: Huang, Liu, van der Maaten and Weinberger, "Densely Connected Convolutional Networks", CVPR 2017,
arXiv:1608.06993. BLOCKS below is Table 1 (DenseNet-BC: bottlenecks of 4 times the growth, transitions that keep
half the channels); 161 layers with growth 48 stood in it in the paper's first versions on arXiv. Layers are norm,
ReLU, convolution.

    image          3 x 224 x 224
    stem          64 x  56 x  56   conv7/2, pool/2
    block1       256 x  56 x  56   (121 layers; a transition then halves channels, height and width)
    block2       512 x  28 x  28
    block3      1024 x  14 x  14
    block4      1024 x   7 x   7   -> norm, ReLU, mean -> classes
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from neocog.core.contracts import Network
from neocog.core.registry import register
from neocog.core.spec import Spec, torchvision_v1
from neocog.layers.conv import ConvNormAct
from neocog.layers.dropout import Dropout
from neocog.layers.init import initialise
from neocog.layers.preactivation import NormActConv
from neocog.models.keys import rename

#      growth  layers in block 1   2   3   4
BLOCKS = {
    121: (32, (6, 12, 24, 16)),
    161: (48, (6, 12, 36, 24)),
    169: (32, (6, 12, 32, 32)),
    201: (32, (6, 12, 48, 32)),
}
BOTTLENECK = 4  # channels of the 1x1 in front of each 3x3, times the growth


class DenseLayer(nn.Module):
    """(B, c_in, H, W) -> (B, c_in + growth, H, W): the input, and what two convolutions make of it."""

    def __init__(self, c_in: int, growth: int, dropout: float) -> None:
        super().__init__()
        self.body = nn.Sequential(
            OrderedDict(
                conv1=NormActConv(c_in, BOTTLENECK * growth, 1),
                dropout1=Dropout(dropout),
                conv2=NormActConv(BOTTLENECK * growth, growth, 3),
                dropout2=Dropout(dropout),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], dim=1)


class DenseNet(Network):
    """(B, C, H, W) -> (B, K). Every stage but the first begins with the transition that leads to it, so that its
    output is the map before it is halved."""

    stage_strides = (4, 8, 16, 32)
    min_size = 29

    def __init__(self, depth: int, num_classes: int, in_channels: int, dropout: float) -> None:
        super().__init__()
        growth, blocks = BLOCKS[depth]
        self.num_classes, self.in_channels = num_classes, in_channels
        c = 2 * growth
        self.stem = nn.Sequential(
            OrderedDict(
                conv=ConvNormAct(in_channels, c, 7, stride=2),
                pool=nn.MaxPool2d(3, stride=2, padding=1),
            )
        )
        self.stages = nn.Sequential()
        channels = []
        for number, n in enumerate(blocks, start=1):
            stage = nn.Sequential()
            if number > 1:
                stage.add_module("transition", NormActConv(c, c // 2, 1))
                stage.add_module("dropout", Dropout(dropout))
                stage.add_module("pool", nn.AvgPool2d(2))
                c //= 2
            for layer in range(1, n + 1):
                stage.add_module(f"layer{layer}", DenseLayer(c, growth, dropout))
                c += growth
            self.stages.add_module(f"block{number}", stage)
            channels.append(c)
        self.stage_channels = tuple(channels)
        self.head = nn.Sequential(
            OrderedDict(
                norm=nn.BatchNorm2d(c),
                act=nn.ReLU(inplace=True),
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                fc=nn.Linear(c, num_classes),
            )
        )
        # Section 4.2: He's initialisation.
        initialise(self, "he_normal")


# Today's files call a layer's parts norm1 and conv1, those published in 2017 norm.1 and conv.1.
_LAYER = r"features\.denseblock(\d)\.denselayer(\d+)\."
FROM_TORCHVISION = rename(
    (r"features\.conv0\.", "stem.conv.conv."),
    (r"features\.norm0\.", "stem.conv.norm."),
    (_LAYER + r"(norm|conv)\.?(\d)\.", r"stages.block\1.layer\2.body.conv\4.\3."),
    *((rf"features\.transition{i}\.(norm|conv)\.", rf"stages.block{i + 1}.transition.\1.") for i in (1, 2, 3)),
    (r"features\.norm5\.", "head.norm."),
    (r"classifier\.", "head.fc."),
)


def _register(depth: int, params: int, macs: int, sha256: str, top1: float, top5: float) -> None:
    name = f"densenet{depth}"
    growth = BLOCKS[depth][0]

    def build(*, num_classes: int = 1000, in_channels: int = 3, dropout: float | None = None) -> DenseNet:
        """`dropout` stands behind each convolution but the first: off by default, 0.2 in the paper's section 4.2
        for data that is not augmented."""
        return DenseNet(depth, num_classes, in_channels, dropout or 0.0)

    build.__name__ = build.__qualname__ = name
    spec = Spec(
        name=name,
        idea=f"Each layer sees the outputs of all layers before it, {growth} new channels a layer, {depth} layers.",
        title="Densely Connected Convolutional Networks",
        year=2016,
        link="https://arxiv.org/abs/1608.06993",
        table="Table 1",
        input_shape=(3, 224, 224),
        params=params,
        macs=macs,
        weights=(torchvision_v1(name, sha256, top1, top5, (f"{name}.tv_in1k",)),),
    )
    register(spec, {"torchvision": FROM_TORCHVISION})(build)


#          parameters           MACs  weights     top-1   top-5
_register(121, 7_978_856, 2_834_161_664, "a639ec97", 74.434, 91.972)
_register(161, 28_681_000, 7_727_907_072, "8d451a50", 77.138, 93.560)
_register(169, 14_149_480, 3_359_843_328, "b2777c0a", 75.600, 92.806)
_register(201, 20_013_928, 4_291_365_888, "c1103571", 76.896, 93.370)
