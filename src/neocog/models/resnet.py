"""ResNet: let every block add a correction to what came in, and a hundred layers learn as easily as ten.

Paper: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385.
BLOCKS below is Table 1; shortcuts are option B (a 1x1 convolution where the shape changes).
Differs from the paper: the bottleneck's stride stands on the 3x3 convolution ("v1.5"), where the published
weights of today have it: on the first 1x1, as in the paper (`stride_on="1x1"`), three quarters of the
pixels are never looked at. `dropout` in front of the classifier is an addition, off by default.

    image        3 x 224 x 224
    stem        64 x  56 x  56   conv7/2, pool/2
    conv2_x     64 x  56 x  56   (x 4 channels with bottlenecks)
    conv3_x    128 x  28 x  28
    conv4_x    256 x  14 x  14
    conv5_x    512 x   7 x   7   -> mean -> classes
"""

from collections import OrderedDict

from torch import nn

from neocog.core.contracts import Network
from neocog.core.registry import register
from neocog.core.spec import Preprocessing, Spec, Weights
from neocog.layers.conv import ConvNormAct
from neocog.layers.dropout import Dropout
from neocog.layers.init import he_fan_out
from neocog.layers.residual import EXPANSION, StrideOn, basic, bottleneck
from neocog.models.keys import rename

#         block        conv2_x conv3_x conv4_x conv5_x
BLOCKS = {
    18:  ("basic",      (2,      2,      2,      2)),
    34:  ("basic",      (3,      4,      6,      3)),
    50:  ("bottleneck", (3,      4,      6,      3)),
    101: ("bottleneck", (3,      4,     23,      3)),
    152: ("bottleneck", (3,      8,     36,      3)),
}  # fmt: skip
WIDTHS = (64, 128, 256, 512)


class ResNet(Network):
    """(B, C, H, W) -> (B, K). `widen` multiplies the channels of the bottlenecks' 3x3 (wide_resnet.py)."""

    stage_strides = (4, 8, 16, 32)

    def __init__(
        self,
        depth: int,
        num_classes: int,
        in_channels: int,
        dropout: float,
        stride_on: StrideOn = "3x3",
        widen: int = 1,
    ) -> None:
        super().__init__()
        if stride_on not in ("3x3", "1x1"):
            raise ValueError(f"stride_on = {stride_on!r} is neither '3x3' nor '1x1'")
        kind, blocks = BLOCKS[depth]
        self.num_classes, self.in_channels = num_classes, in_channels
        self.stage_channels = tuple(width * EXPANSION[kind] for width in WIDTHS)
        self.stem = nn.Sequential(
            OrderedDict(
                conv=ConvNormAct(in_channels, 64, 7, stride=2, act=None),
                # The paper's ReLU stands before the pool. They commute bit for bit (the padding never wins
                # a maximum), and behind the pool it touches a quarter of the values.
                pool=nn.MaxPool2d(3, stride=2, padding=1),
                act=nn.ReLU(inplace=True),
            )
        )
        self.stages = nn.Sequential()
        c = 64
        for number, (width, n) in enumerate(zip(WIDTHS, blocks, strict=True), start=2):
            stage = nn.Sequential()
            for i in range(n):
                stride = 2 if i == 0 and number > 2 else 1
                if kind == "basic":
                    stage.append(basic(c, width, stride))
                else:
                    stage.append(bottleneck(c, width, stride, stride_on, widen))
                c = width * EXPANSION[kind]
            self.stages.add_module(f"conv{number}_x", stage)
        self.head = nn.Sequential(
            OrderedDict(
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                dropout=Dropout(dropout),
                fc=nn.Linear(c, num_classes),
            )
        )
        # Section 3.4: He's initialisation (with the fan-out, as the authors' code has it). The paper says
        # nothing of the classifier, which keeps PyTorch's.
        he_fan_out(self)


# timm names the tensors of these networks as torchvision does.
FROM_TORCHVISION = rename(
    (r"conv1\.", "stem.conv.conv."),
    (r"bn1\.", "stem.conv.norm."),
    *((rf"layer{i}\.(\d+)\.conv(\d)\.", rf"stages.conv{i + 1}_x.\1.body.conv\2.conv.") for i in (1, 2, 3, 4)),
    *((rf"layer{i}\.(\d+)\.bn(\d)\.", rf"stages.conv{i + 1}_x.\1.body.conv\2.norm.") for i in (1, 2, 3, 4)),
    *((rf"layer{i}\.(\d+)\.downsample\.0\.", rf"stages.conv{i + 1}_x.\1.shortcut.conv.") for i in (1, 2, 3, 4)),
    *((rf"layer{i}\.(\d+)\.downsample\.1\.", rf"stages.conv{i + 1}_x.\1.shortcut.norm.") for i in (1, 2, 3, 4)),
    (r"fc\.", "head.fc."),
)


def _spec(
    depth: int, params: int, macs: int, *weights: tuple[str, float, float], a1: str, a1_top1: float | None = None
) -> Spec:
    """`weights`: (hash, top-1, top-5) of torchvision's sets, the latest and best first; `a1`: the hash of timm's
    (Wightman et al. 2021, arXiv:2110.00476, procedure A1)."""
    published = []
    for version, (sha256, top1, top5) in zip(range(len(weights), 0, -1), weights, strict=True):
        published.append(
            Weights(
                tag=f"imagenet1k_v{version}",
                url=f"https://download.pytorch.org/models/resnet{depth}-{sha256}.pth",
                sha256=sha256,
                # The second set was trained and tested with a tighter crop.
                preprocessing=Preprocessing(resize=256 if version == 1 else 232),
                top1=top1,
                top5=top5,
                aliases=(f"resnet{depth}.tv{'' if version == 1 else 2}_in1k",),
            )
        )
    published.append(
        Weights(
            tag=f"resnet{depth}.a1_in1k",
            url="https://github.com/huggingface/pytorch-image-models/releases/download/v0.1-rsb-weights/"
            f"resnet{depth}_a1_0-{a1}.pth",
            sha256=a1,
            preprocessing=Preprocessing(resize=235, interpolation="bicubic"),
            licence="Apache-2.0",
            top1=a1_top1,
        )
    )
    kind = BLOCKS[depth][0]
    return Spec(
        name=f"resnet{depth}",
        idea=f"{kind.capitalize()} blocks that add a correction to their input, {depth} layers deep.",
        title="Deep Residual Learning for Image Recognition",
        year=2015,
        link="https://arxiv.org/abs/1512.03385",
        table="Table 1",
        input_shape=(3, 224, 224),
        params=params,
        macs=macs,
        weights=tuple(published),
    )


@register(
    _spec(18, 11_689_512, 1_814_073_344, ("f37072fd", 69.758, 89.078), a1="d63eafa0"),
    {"torchvision": FROM_TORCHVISION},
)
def resnet18(*, num_classes: int = 1000, in_channels: int = 3, dropout: float | None = None) -> ResNet:
    return ResNet(18, num_classes, in_channels, dropout or 0.0)


@register(
    _spec(34, 21_797_672, 3_663_761_408, ("b627a593", 73.314, 91.420), a1="46f8f793"),
    {"torchvision": FROM_TORCHVISION},
)
def resnet34(*, num_classes: int = 1000, in_channels: int = 3, dropout: float | None = None) -> ResNet:
    return ResNet(34, num_classes, in_channels, dropout or 0.0)


@register(
    _spec(
        50,
        25_557_032,
        4_089_184_256,
        ("11ad3fa6", 80.858, 95.434),
        ("0676ba61", 76.130, 92.862),
        a1="14fe96d1",
        a1_top1=80.4,
    ),
    {"torchvision": FROM_TORCHVISION},
)
def resnet50(
    *, num_classes: int = 1000, in_channels: int = 3, dropout: float | None = None, stride_on: StrideOn = "3x3"
) -> ResNet:
    return ResNet(50, num_classes, in_channels, dropout or 0.0, stride_on)


@register(
    _spec(101, 44_549_160, 7_801_405_440, ("cd907fc2", 81.886, 95.780), ("63fe2227", 77.374, 93.546), a1="cdcb52a9"),
    {"torchvision": FROM_TORCHVISION},
)
def resnet101(
    *, num_classes: int = 1000, in_channels: int = 3, dropout: float | None = None, stride_on: StrideOn = "3x3"
) -> ResNet:
    return ResNet(101, num_classes, in_channels, dropout or 0.0, stride_on)


@register(
    _spec(152, 60_192_808, 11_513_626_624, ("f82ba261", 82.284, 96.002), ("394f9c45", 78.312, 94.046), a1="2eee8a7a"),
    {"torchvision": FROM_TORCHVISION},
)
def resnet152(
    *, num_classes: int = 1000, in_channels: int = 3, dropout: float | None = None, stride_on: StrideOn = "3x3"
) -> ResNet:
    return ResNet(152, num_classes, in_channels, dropout or 0.0, stride_on)
