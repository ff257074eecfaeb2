"""ResNets for small pictures, and their plain twins: the experiment that shows what a shortcut is worth.

A plain network of 56 layers trains worse than one of 20, although it could copy the 20 and leave the rest idle:
degradation. With shortcuts, which add not one parameter here, depth helps again.

Paper: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385,
section 4.2. STAGES below is its table; n blocks a stage make 6n + 2 layers. Shortcuts are option A: a stage's new
channels start as zeros. The paper does not say on which side; here half on each, as the published weights
(https://github.com/akamaster/pytorch_resnet_cifar10) have it.

    image     3 x 32 x 32
    stem     16 x 32 x 32   conv3
    stage1   16 x 32 x 32
    stage2   32 x 16 x 16
    stage3   64 x  8 x  8   -> mean -> classes
"""

from collections import OrderedDict

from torch import nn

from neocog.core.contracts import Network
from neocog.core.registry import register
from neocog.core.spec import Preprocessing, Spec, Weights
from neocog.layers.conv import ConvNormAct
from neocog.layers.init import he_fan_out
from neocog.layers.residual import Residual, ZeroPadShortcut, basic_body
from neocog.models.keys import rename

#          filters, stride of the first block
STAGES = {
    "stage1": (16, 1),
    "stage2": (32, 2),
    "stage3": (64, 2),
}
STEM = 16


def residual(c_in: int, width: int, stride: int) -> nn.Module:
    """(B, c_in, H, W) -> (B, width, H / stride, W / stride), with a shortcut that has nothing to learn."""
    shortcut: nn.Module = nn.Identity()
    if stride != 1 or c_in != width:
        shortcut = ZeroPadShortcut(c_in, width, stride, before=(width - c_in) // 2)
    return Residual(basic_body(c_in, width, stride), shortcut)


def plain(c_in: int, width: int, stride: int) -> nn.Module:
    """The same two layers under the same names, so that both can start from the same weights; no shortcut."""
    return nn.Sequential(OrderedDict(body=basic_body(c_in, width, stride), act=nn.ReLU(inplace=True)))


class CifarResNet(Network):
    """(B, C, H, W) -> (B, K)"""

    stage_channels = tuple(width for width, _ in STAGES.values())
    stage_strides = (1, 2, 4)

    def __init__(self, depth: int, shortcuts: bool, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.num_classes, self.in_channels = num_classes, in_channels
        self.stem = ConvNormAct(in_channels, STEM, 3)
        self.stages = nn.Sequential()
        block = residual if shortcuts else plain
        c = STEM
        for name, (width, stride) in STAGES.items():
            stage = nn.Sequential()
            for i in range((depth - 2) // 6):
                stage.append(block(c, width, stride if i == 0 else 1))
                c = width
            self.stages.add_module(name, stage)
        self.head = nn.Sequential(
            OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=nn.Linear(c, num_classes))
        )
        # Section 4.2: He's initialisation (with the fan-out, as in resnet.py).
        he_fan_out(self)


FROM_AKAMASTER = rename(
    (r"conv1\.", "stem.conv."),
    (r"bn1\.", "stem.norm."),
    *((rf"layer{i}\.(\d+)\.conv(\d)\.", rf"stages.stage{i}.\1.body.conv\2.conv.") for i in (1, 2, 3)),
    *((rf"layer{i}\.(\d+)\.bn(\d)\.", rf"stages.stage{i}.\1.body.conv\2.norm.") for i in (1, 2, 3)),
    (r"linear\.", "head.fc."),
)


def _register(depth: int, params: int, macs: int, sha256: str, shortcuts: bool) -> None:
    name = f"{'resnet' if shortcuts else 'plain'}{depth}"

    def build(*, num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
        return CifarResNet(depth, shortcuts, num_classes, in_channels)

    build.__name__ = build.__qualname__ = name
    published = Weights(
        tag="cifar10",
        url=f"https://github.com/akamaster/pytorch_resnet_cifar10/raw/master/pretrained_models/{name}-{sha256}.th",
        sha256=sha256,
        layout="akamaster",
        preprocessing=Preprocessing(size=32, resize=32),
        categories="cifar10",
        licence="BSD-2-Clause",
    )
    what = "with shortcuts that cost nothing" if shortcuts else "without shortcuts, to see depth do harm"
    spec = Spec(
        name=name,
        idea=f"{depth} layers for pictures of 32 x 32, {what}.",
        title="Deep Residual Learning for Image Recognition",
        year=2015,
        link="https://arxiv.org/abs/1512.03385",
        table="section 4.2",
        input_shape=(3, 32, 32),
        num_classes=10,
        params=params,
        macs=macs,
        weights=(published,) if shortcuts else (),
    )
    register(spec, {"akamaster": FROM_AKAMASTER} if shortcuts else {})(build)


#    depth  parameters         MACs  weights of the residual one: error on CIFAR-10's test set, their author says
ROWS = (
    (20,   269_722,  40_551_040, "12fca82f"),  # 8.27 %
    (32,   464_154,  68_862_592, "d509ac18"),  # 7.37 %
    (44,   658_586,  97_174_144, "014dd654"),  # 6.90 %
    (56,   853_018, 125_485_696, "4bfd9763"),  # 6.61 %
    (110, 1_727_962, 252_887_680, "1d1ed7c2"),  # 6.32 %
)  # fmt: skip
for _row in ROWS:
    _register(*_row, shortcuts=True)
for _row in ROWS:
    _register(*_row, shortcuts=False)
