"""ConvNeXt: a plain convolutional network that borrows the transformer's habits and is as good.

Each block looks around with one large filter per channel (7x7) and then thinks at every pixel (an MLP four
times as wide): what attention and MLP are to a transformer. One norm and one activation per block, layer norm
for batch norm, GELU for ReLU; halving is a layer of its own between the stages.

Paper: Liu et al., "A ConvNet for the 2020s", CVPR 2022, arXiv:2201.03545. STAGES below is the list of variants
in section 3; Table 9 is ConvNeXt-T.

    image    3 x 224 x 224    (tiny)
    stem    96 x  56 x  56    4x4 patches
    res2    96 x  56 x  56
    res3   192 x  28 x  28
    res4   384 x  14 x  14
    res5   768 x   7 x   7    -> mean -> norm -> classes
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from neocog.core.contracts import Network
from neocog.core.registry import register
from neocog.core.spec import Preprocessing, Spec, Weights
from neocog.layers.drop_path import DropPath
from neocog.layers.layer_norm import LayerNorm2d
from neocog.models.keys import rename

#            channels of res2 to res5   blocks of res2 to res5
STAGES = {
    "tiny":  (( 96, 192,  384,  768), (3, 3,  9, 3)),
    "small": (( 96, 192,  384,  768), (3, 3, 27, 3)),
    "base":  ((128, 256,  512, 1024), (3, 3, 27, 3)),
    "large": ((192, 384,  768, 1536), (3, 3, 27, 3)),
}  # fmt: skip

# Table 5: the share of pictures for which the last block is left out in training.
DROP_PATH = {"tiny": 0.1, "small": 0.4, "base": 0.5, "large": 0.5}
LAYER_SCALE = 1e-6


class Block(nn.Module):
    """(B, c, H, W) -> the same shape: x + scale * MLP(norm(depthwise(x)))"""

    def __init__(self, c: int, drop_path: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(c, c, 7, padding=3, groups=c)
        # The 1x1 convolutions are dense layers on the channels, which then stand last. In channels_last memory
        # on a CPU that is 1 to 4 % faster than convolutions, at res5 11 % (forward and backward, one thread).
        self.norm = nn.LayerNorm(c, eps=1e-6)
        self.expand = nn.Linear(c, 4 * c)
        self.act = nn.GELU()
        self.project = nn.Linear(4 * c, c)
        # Layer scale (Touvron et al. 2021, arXiv:2103.17239): a block starts as almost nothing.
        self.scale = nn.Parameter(torch.full((c,), LAYER_SCALE))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(x).permute(0, 2, 3, 1)  # (B, H, W, c)
        y = self.scale * self.project(self.act(self.expand(self.norm(y))))
        out: Tensor = x + self.drop_path(y.permute(0, 3, 1, 2))
        return out


def halve(c_in: int, c_out: int) -> nn.Sequential:
    """(B, c_in, H, W) -> (B, c_out, H / 2, W / 2)"""
    return nn.Sequential(OrderedDict(norm=LayerNorm2d(c_in), conv=nn.Conv2d(c_in, c_out, 2, stride=2)))


class ConvNeXt(Network):
    """(B, C, H, W) -> (B, K)"""

    stage_strides = (4, 8, 16, 32)
    min_size = 32

    def __init__(self, size: str, num_classes: int, in_channels: int, drop_path: float) -> None:
        super().__init__()
        self.stage_channels, blocks = STAGES[size]
        self.num_classes, self.in_channels = num_classes, in_channels
        c = self.stage_channels[0]
        self.stem = nn.Sequential(
            OrderedDict(conv=nn.Conv2d(in_channels, c, 4, stride=4), norm=LayerNorm2d(c)),
        )
        self.stages = nn.Sequential()
        index, last = 0, sum(blocks) - 1
        for number, (c_out, n) in enumerate(zip(self.stage_channels, blocks, strict=True), start=2):
            stage = nn.Sequential()
            if number > 2:
                stage.add_module("halve", halve(c, c_out))
            for i in range(n):
                # The deeper, the more often dropped: from never to `drop_path`.
                stage.add_module(f"block{i}", Block(c_out, drop_path * index / last))
                index += 1
            self.stages.add_module(f"res{number}", stage)
            c = c_out
        self.head = nn.Sequential(
            OrderedDict(
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                norm=nn.LayerNorm(c, eps=1e-6),
                fc=nn.Linear(c, num_classes),
            )
        )
        # Normal with standard deviation 0.02, biases 0: the authors' code.
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # all have one


FROM_TORCHVISION = rename(
    (r"features\.0\.0\.", "stem.conv."),
    (r"features\.0\.1\.", "stem.norm."),
    *((rf"features\.{2 * number - 4}\.0\.", f"stages.res{number}.halve.norm.") for number in (3, 4, 5)),
    *((rf"features\.{2 * number - 4}\.1\.", f"stages.res{number}.halve.conv.") for number in (3, 4, 5)),
    *(
        (rf"features\.{2 * number - 3}\.(\d+)\.{theirs}", rf"stages.res{number}.block\1.{ours}")
        for number in (2, 3, 4, 5)
        for theirs, ours in (
            (r"block\.0\.", "depthwise."),
            (r"block\.2\.", "norm."),
            (r"block\.3\.", "expand."),
            (r"block\.5\.", "project."),
            ("layer_scale", "scale"),
        )
    ),
    (r"classifier\.0\.", "head.norm."),
    (r"classifier\.2\.", "head.fc."),
)

FROM_TIMM = rename(
    (r"stem\.0\.", "stem.conv."),
    (r"stem\.1\.", "stem.norm."),
    *((rf"stages\.{number - 2}\.downsample\.0\.", f"stages.res{number}.halve.norm.") for number in (3, 4, 5)),
    *((rf"stages\.{number - 2}\.downsample\.1\.", f"stages.res{number}.halve.conv.") for number in (3, 4, 5)),
    *(
        (rf"stages\.{number - 2}\.blocks\.(\d+)\.{theirs}", rf"stages.res{number}.block\1.{ours}")
        for number in (2, 3, 4, 5)
        for theirs, ours in (
            (r"conv_dw\.", "depthwise."),
            (r"norm\.", "norm."),
            (r"mlp\.fc1\.", "expand."),
            (r"mlp\.fc2\.", "project."),
            ("gamma", "scale"),
        )
    ),
)


def _register(size: str, params: int, macs: int, sha256: str, top1: float, top5: float, resize: int) -> None:
    name = f"convnext_{size}"
    (c, *_), blocks = STAGES[size]

    def build(*, num_classes: int = 1000, in_channels: int = 3, drop_path: float = DROP_PATH[size]) -> ConvNeXt:
        """`drop_path` is the share of pictures for which the last block is left out while training."""
        return ConvNeXt(size, num_classes, in_channels, drop_path)

    build.__name__ = build.__qualname__ = name
    spec = Spec(
        name=name,
        idea=f"A convolutional network with a transformer's habits: {sum(blocks)} blocks, from {c} channels on.",
        title="A ConvNet for the 2020s",
        year=2022,
        link="https://arxiv.org/abs/2201.03545",
        table="Table 9" if size == "tiny" else "Section 3",
        input_shape=(3, 224, 224),
        params=params,
        macs=macs,
        weights=(
            Weights(
                tag="imagenet1k_v1",
                url=f"https://download.pytorch.org/models/{name}-{sha256}.pth",
                sha256=sha256,
                preprocessing=Preprocessing(resize=resize),
                top1=top1,
                top5=top5,
            ),
        ),
    )
    register(spec, {"torchvision": FROM_TORCHVISION, "timm": FROM_TIMM})(build)


#                  parameters             MACs  weights     top-1   top-5  resize
_register("tiny",  28_589_128,  4_455_531_264, "983f1562", 82.520, 96.146, 236)  # fmt: skip
_register("small", 50_223_688, 8_683_712_256, "0c510722", 83.616, 96.650, 230)
_register("base",  88_591_464, 15_354_729_472, "6075fbad", 84.062, 96.870, 232)  # fmt: skip
_register("large", 197_767_336, 34_361_433_600, "ea097f82", 84.414, 96.976, 232)
