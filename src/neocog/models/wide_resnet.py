"""Wide ResNet: a few wide blocks learn more, and faster, than a thousand thin ones.

Paper: Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016, arXiv:1605.07146. GROUPS below is Table 1,
for pictures of 32 x 32; its blocks are pre-activation blocks (layers/preactivation.py), here with N = 4 of them
a group and k = 10 times the channels: WRN-28-10. The ImageNet networks are section 3's WRN-50-2-bottleneck,
ResNet-50 with twice the channels in each bottleneck's 3x3, and its sister of 101 layers, which only torchvision
has.
Differs from the paper: as in resnet.py, the bottleneck's stride stands on the 3x3.

    image      3 x 32 x 32
    stem      16 x 32 x 32   conv3
    conv2    160 x 32 x 32
    conv3    320 x 16 x 16
    conv4    640 x  8 x  8   -> norm, ReLU, mean -> classes
"""

from collections import OrderedDict

from torch import nn

from neocog.core.contracts import Network
from neocog.core.registry import register
from neocog.core.spec import Preprocessing, Spec, Weights
from neocog.layers.init import he_fan_out
from neocog.layers.preactivation import preact_basic
from neocog.models.resnet import FROM_TORCHVISION, ResNet

#         channels / k, stride of the first block
GROUPS = {
    "conv2": (16, 1),
    "conv3": (32, 2),
    "conv4": (64, 2),
}
STEM = 16

TITLE = "Wide Residual Networks"
LINK = "https://arxiv.org/abs/1605.07146"


class WideResNet(Network):
    """(B, C, H, W) -> (B, K)"""

    stage_strides = (1, 2, 4)

    def __init__(self, depth: int, k: int, num_classes: int, in_channels: int, dropout: float) -> None:
        super().__init__()
        n = (depth - 4) // 6  # two convolutions a block, three groups; stem and three projections are the rest
        self.num_classes, self.in_channels = num_classes, in_channels
        self.stage_channels = tuple(channels * k for channels, _ in GROUPS.values())
        self.stem = nn.Conv2d(in_channels, STEM, 3, padding=1, bias=False)
        self.stages = nn.Sequential()
        c = STEM
        for (name, (_, stride)), width in zip(GROUPS.items(), self.stage_channels, strict=True):
            stage = nn.Sequential()
            for i in range(n):
                stage.append(preact_basic(c, width, stride if i == 0 else 1, dropout))
                c = width
            self.stages.add_module(name, stage)
        self.head = nn.Sequential(
            OrderedDict(
                norm=nn.BatchNorm2d(c),
                act=nn.ReLU(inplace=True),
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                fc=nn.Linear(c, num_classes),
            )
        )
        # The paper does not say how weights start; He's, with the fan-out, as the authors' code has it.
        he_fan_out(self)


@register(
    Spec(
        name="wide_resnet28_10",
        idea="Four blocks a group, ten times as wide as ResNet's, for pictures of 32 x 32.",
        title=TITLE,
        year=2016,
        link=LINK,
        table="Table 1",
        input_shape=(3, 32, 32),
        num_classes=10,
        params=36_479_194,
        macs=5_243_328_768,
    )
)
def wide_resnet28_10(*, num_classes: int = 10, in_channels: int = 3, dropout: float | None = None) -> WideResNet:
    """`dropout` stands between a block's convolutions: off by default, 0.3 in the paper's section 3.3."""
    return WideResNet(28, 10, num_classes, in_channels, dropout or 0.0)


def _spec(depth: int, params: int, macs: int, idea: str, *weights: Weights) -> Spec:
    return Spec(
        name=f"wide_resnet{depth}_2",
        idea=idea,
        title=TITLE,
        year=2016,
        link=LINK,
        table="Table 1 of arXiv:1512.03385 with twice the inner channels",
        input_shape=(3, 224, 224),
        params=params,
        macs=macs,
        weights=weights,
    )


def _torchvision(depth: int, version: int, sha256: str, top1: float, top5: float) -> Weights:
    return Weights(
        tag=f"imagenet1k_v{version}",
        url=f"https://download.pytorch.org/models/wide_resnet{depth}_2-{sha256}.pth",
        sha256=sha256,
        # The second set was trained and tested with a tighter crop.
        preprocessing=Preprocessing(resize=256 if version == 1 else 232),
        top1=top1,
        top5=top5,
        aliases=(f"wide_resnet{depth}_2.{'tv' if version == 1 else 'tv2'}_in1k",),
    )


@register(
    _spec(
        50,
        68_883_240,
        11_398_021_120,
        "ResNet-50 with twice the channels inside each bottleneck.",
        _torchvision(50, 2, "9ba9bcbe", 81.602, 95.758),
        _torchvision(50, 1, "95faca4d", 78.468, 94.086),
        Weights(
            tag="wide_resnet50_2.racm_in1k",
            url="https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/"
            "wide_resnet50_racm-8234f177.pth",
            sha256="8234f177",
            preprocessing=Preprocessing(interpolation="bicubic"),
            licence="Apache-2.0",
        ),
    ),
    {"torchvision": FROM_TORCHVISION},
)
def wide_resnet50_2(*, num_classes: int = 1000, in_channels: int = 3, dropout: float | None = None) -> ResNet:
    """`dropout` in front of the classifier is an addition."""
    return ResNet(50, num_classes, in_channels, dropout or 0.0, widen=2)


@register(
    _spec(
        101,
        126_886_696,
        22_753_050_624,
        "ResNet-101 with twice the channels inside each bottleneck.",
        _torchvision(101, 2, "d733dc28", 82.510, 96.020),
        _torchvision(101, 1, "32ee1156", 78.848, 94.284),
    ),
    {"torchvision": FROM_TORCHVISION},
)
def wide_resnet101_2(*, num_classes: int = 1000, in_channels: int = 3, dropout: float | None = None) -> ResNet:
    """`dropout` in front of the classifier is an addition."""
    return ResNet(101, num_classes, in_channels, dropout or 0.0, widen=2)
