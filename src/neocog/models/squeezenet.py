"""SqueezeNet: AlexNet's accuracy with fifty times fewer parameters, by squeezing before every wide kernel.

Each fire module first squeezes the channels with 1x1 filters and then expands them with cheap 1x1 and
costly 3x3 filters side by side, so that the 3x3 see few channels. No dense layer: a 1x1 convolution
scores the classes at every position and an average decides.

Paper: Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model
size", 2016, arXiv:1602.07360. The rows are Table 1; version 1.1 is the authors' later release, with a
smaller stem and earlier pools: 2.4 times fewer operations at the same accuracy.
Differs from the paper: the first convolution has no padding (the authors' code and the published weights;
the paper's 111 x 111 is the same).

    image    3 x 224 x 224           1.0                          1.1
    stem    96 or 64 x 55 x 55       conv7/2, pool/2              conv3/2, pool/2
    stage1     x 55 x 55             fire2 fire3 fire4            fire2 fire3
    stage2     x 27 x 27             fire5 fire6 fire7 fire8      fire4 fire5
    stage3     x 13 x 13             fire9                        fire6 fire7 fire8 fire9
    head    1000 x 13 x 13           conv10 -> mean
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from neocog.core.contracts import Network
from neocog.core.registry import KeyMap, register
from neocog.core.spec import Spec, torchvision_v1
from neocog.layers.conv import replace_conv_classifier
from neocog.layers.dropout import Dropout
from neocog.models.keys import rename

#         squeeze  expand (as many 1x1 as 3x3)
FIRES = {
    "fire2": (16,  64),
    "fire3": (16,  64),
    "fire4": (32, 128),
    "fire5": (32, 128),
    "fire6": (48, 192),
    "fire7": (48, 192),
    "fire8": (64, 256),
    "fire9": (64, 256),
}  # fmt: skip

#            stem: filters, kernel   last fire of each stage
VERSIONS = {
    "1.0": (96, 7, ("fire4", "fire8", "fire9")),
    "1.1": (64, 3, ("fire3", "fire5", "fire9")),
}
DROPOUT = 0.5


def halve() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)


class Fire(nn.Module):
    """(B, c_in, H, W) -> (B, 2 * expand, H, W)"""

    def __init__(self, c_in: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(c_in, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.squeeze(x))
        out: Tensor = self.act(torch.cat([self.expand1x1(x), self.expand3x3(x)], dim=1))
        return out


class SqueezeNet(Network):
    """(B, C, H, W) -> (B, K)"""

    stage_strides = (4, 8, 16)
    classifier = "conv10"

    def __init__(self, version: str, num_classes: int, in_channels: int, dropout: float) -> None:
        super().__init__()
        c, kernel, last = VERSIONS[version]
        self.num_classes, self.in_channels = num_classes, in_channels
        self.stage_channels = tuple(2 * FIRES[name][1] for name in last)
        # The smallest input whose maps, halved three times from the stem on, keep one pixel.
        self.min_size = 14 + kernel
        self.stem = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(in_channels, c, kernel, stride=2),
                # Pool before ReLU: they commute bit for bit, and ReLU then touches a quarter of the values.
                pool=halve(),
                act=nn.ReLU(inplace=True),
            )
        )
        self.stages = nn.Sequential()
        stage = nn.Sequential()
        for name, (squeeze, expand) in FIRES.items():
            stage.add_module(name, Fire(c, squeeze, expand))
            c = 2 * expand
            if name in last:
                self.stages.add_module(f"stage{len(self.stages) + 1}", stage)
                stage = nn.Sequential(OrderedDict(pool=halve()))
        self.head = nn.Sequential(
            OrderedDict(
                dropout=Dropout(dropout),
                conv10=nn.Conv2d(c, num_classes, 1),
                act=nn.ReLU(inplace=True),
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
            )
        )
        self._initialise()

    def _initialise(self) -> None:
        # The authors' Caffe files: "xavier", there uniform with variance 1 / fan_in, and N(0, 0.01^2) for conv10.
        for name, layer in self.named_modules():
            if isinstance(layer, nn.Conv2d):
                if name == "head.conv10":
                    nn.init.normal_(layer.weight, std=0.01)
                else:
                    nn.init.kaiming_uniform_(layer.weight, nonlinearity="linear")
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)

    def embed(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 512): the mean of what conv10 sees at every position."""
        return self.stages(self.stem(x)).mean(dim=(2, 3))  # type: ignore[no-any-return]

    def reset_head(self, num_classes: int) -> None:
        replace_conv_classifier(self.head, self.classifier, num_classes)
        self.num_classes = num_classes


def _from_torchvision(version: str) -> KeyMap:
    # torchvision numbers conv, ReLU, pool (0, 1, 2), then the fires, with the pools between the stages.
    last = VERSIONS[version][2]
    rules, index, stage = [(r"features\.0\.", "stem.conv.")], 3, 1
    for name in FIRES:
        rules.append((rf"features\.{index}\.", f"stages.stage{stage}.{name}."))
        index += 1
        if name in last:
            index += 1
            stage += 1
    return rename(*rules, (r"classifier\.1\.", "head.conv10."))


def _spec(version: str, params: int, macs: int, sha256: str, top1: float, top5: float) -> Spec:
    name = f"squeezenet{version.replace('.', '_')}"
    return Spec(
        name=name,
        idea="Fire modules squeeze channels before they expand them" + (", earlier." if version == "1.1" else "."),
        title="SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size",
        year=2016,
        link="https://arxiv.org/abs/1602.07360",
        table="Table 1",
        input_shape=(3, 224, 224),
        params=params,
        macs=macs,
        weights=(torchvision_v1(name, sha256, top1, top5),),
    )


@register(
    _spec("1.0", 1_248_424, 818_924_576, "b66bff10", 58.092, 80.420),
    {"torchvision": _from_torchvision("1.0")},
)
def squeezenet1_0(*, num_classes: int = 1000, in_channels: int = 3, dropout: float | None = None) -> SqueezeNet:
    """`dropout` (0.5) stands in front of conv10."""
    return SqueezeNet("1.0", num_classes, in_channels, DROPOUT if dropout is None else dropout)


@register(
    _spec("1.1", 1_235_496, 349_151_936, "b8a52dc0", 58.178, 80.624),
    {"torchvision": _from_torchvision("1.1")},
)
def squeezenet1_1(*, num_classes: int = 1000, in_channels: int = 3, dropout: float | None = None) -> SqueezeNet:
    """`dropout` (0.5) stands in front of conv10."""
    return SqueezeNet("1.1", num_classes, in_channels, DROPOUT if dropout is None else dropout)
