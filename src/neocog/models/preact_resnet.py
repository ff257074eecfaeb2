"""Pre-activation ResNet: nothing stands in the way of the sum, from the first block to the last.

Paper: He, Zhang, Ren and Sun, "Identity Mappings in Deep Residual Networks", ECCV 2016, arXiv:1603.05027.
The blocks are figure 4e (layers/preactivation.py); stages are those of ResNet (resnet.py, Table 1 of
arXiv:1512.03385). The paper trains 152 and 200 layers on ImageNet; the smaller depths follow its predecessor.
Differs from the paper: the first block's norm stands behind the stem's pool, and its identity shortcut (18 and 34
layers) in front of that norm, as in timm's networks; the bottleneck's stride stands on the 3x3.
`dropout` in front of the classifier is an addition, off by default.

    image        3 x 224 x 224
    stem        64 x  56 x  56   conv7/2, pool/2
    conv2_x     64 x  56 x  56   (x 4 channels with bottlenecks)
    conv3_x    128 x  28 x  28
    conv4_x    256 x  14 x  14
    conv5_x    512 x   7 x   7   -> norm, ReLU, mean -> classes
"""

from collections import OrderedDict

from torch import nn

from neocog.core.contracts import Network
from neocog.core.registry import register
from neocog.core.spec import Spec
from neocog.layers.dropout import Dropout
from neocog.layers.init import he_fan_out
from neocog.layers.preactivation import preact_basic, preact_bottleneck
from neocog.layers.residual import EXPANSION
from neocog.models.keys import rename
from neocog.models.resnet import BLOCKS, WIDTHS


class PreactResNet(Network):
    """(B, C, H, W) -> (B, K)"""

    stage_strides = (4, 8, 16, 32)

    def __init__(self, depth: int, num_classes: int, in_channels: int, dropout: float) -> None:
        super().__init__()
        kind, blocks = BLOCKS[depth]
        block = preact_basic if kind == "basic" else preact_bottleneck
        self.num_classes, self.in_channels = num_classes, in_channels
        self.stage_channels = tuple(width * EXPANSION[kind] for width in WIDTHS)
        self.stem = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False),
                pool=nn.MaxPool2d(3, stride=2, padding=1),
            )
        )
        self.stages = nn.Sequential()
        c = 64
        for number, (width, n) in enumerate(zip(WIDTHS, blocks, strict=True), start=2):
            stage = nn.Sequential()
            for i in range(n):
                stage.append(block(c, width, 2 if i == 0 and number > 2 else 1))
                c = width * EXPANSION[kind]
            self.stages.add_module(f"conv{number}_x", stage)
        self.head = nn.Sequential(
            OrderedDict(
                norm=nn.BatchNorm2d(c),
                act=nn.ReLU(inplace=True),
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                dropout=Dropout(dropout),
                fc=nn.Linear(c, num_classes),
            )
        )
        # Appendix: as in ResNet, He's initialisation (with the fan-out, as in resnet.py).
        he_fan_out(self)


# timm's first norm of a block is the block's own, its second and third those in front of conv2 and conv3.
_BLOCK = r"stages\.{}\.blocks\.(\d+)\."
FROM_TIMM = rename(
    (r"stem\.conv\.", "stem.conv."),
    *(
        (_BLOCK.format(i) + theirs, rf"stages.conv{i + 2}_x.\1." + ours)
        for i in range(4)
        for theirs, ours in (
            (r"norm1\.", "norm."),
            (r"norm(\d)\.", r"body.conv\2.norm."),
            (r"conv1\.", "body.conv1."),
            (r"conv(\d)\.", r"body.conv\2.conv."),
            (r"downsample\.conv\.", "shortcut."),
        )
    ),
    (r"norm\.", "head.norm."),
    (r"head\.fc\.", "head.fc."),
)


def _register(depth: int, params: int, macs: int) -> None:
    name = f"preact_resnet{depth}"

    def build(*, num_classes: int = 1000, in_channels: int = 3, dropout: float | None = None) -> PreactResNet:
        return PreactResNet(depth, num_classes, in_channels, dropout or 0.0)

    build.__name__ = build.__qualname__ = name
    spec = Spec(
        name=name,
        idea=f"Norm and ReLU in front of each convolution keep the path of sums clean, {depth} layers deep.",
        title="Identity Mappings in Deep Residual Networks",
        year=2016,
        link="https://arxiv.org/abs/1603.05027",
        table="figure 4e; Table 1 of arXiv:1512.03385",
        input_shape=(3, 224, 224),
        params=params,
        macs=macs,
        aliases=(f"resnetv2_{depth}",),
    )
    register(spec, {"timm": FROM_TIMM})(build)


#         parameters             MACs
_register(18, 11_687_720, 1_814_073_344)  # fmt: skip
_register(34, 21_795_880, 3_663_761_408)
_register(50, 25_549_352, 4_089_184_256)
_register(101, 44_541_480, 7_801_405_440)
_register(152, 60_185_128, 11_513_626_624)
