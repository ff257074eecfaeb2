"""Inception-ResNet: let Inception's branches compute a correction, and add only a little of it.

The branches of a module are stacked and brought back to the width of the input by a 1x1 convolution without
norm or bend; a tenth to a third of that is added to the input. Added in full, wide networks of this kind die
early in training: nothing but zeros comes out of the last layers.

Paper: Szegedy, Ioffe, Vanhoucke and Alemi, "Inception-v4, Inception-ResNet and the Impact of Residual
Connections on Learning", AAAI 2017, arXiv:1602.07261. The tables below are its figures, one string per column
(layers/towers.py reads them), the whole is Figure 15. v1 costs about as much as Inception-v3, v2 as v4.
`form="published"`, the default of v2, is the network of the authors' code
(https://github.com/tensorflow/models, slim/nets/inception_resnet_v2.py) and of every published weight file. It is
not the paper's: v1's stem, a maximum and one Inception module (320 channels) stand where the paper has Figure 3
(384); 10, 20 and 10 modules where it has 5, 10 and 5; the last module is added in full and unbent; and a 1x1
convolution to 1536 channels stands in front of the mean.
Differs from the paper in both forms: the 1x1 convolutions have as many filters as they are added to. Figures 17
and 19 say 1154 and 2048 where the branches in front of them make 1152 and 2144, which does not add up. Which of
1xN and Nx1 comes first is the published weights' choice, for v1 as well.

                    v1                 v2                 v2, published
    image         3 x 299 x 299
    stem        256 x  35 x  35     384 x 35 x 35      320 x 35 x 35
    inception_a 256 x  35 x  35     384 x 35 x 35      320 x 35 x 35
    reduction_a 896 x  17 x  17    1152 x 17 x 17     1088 x 17 x 17
    inception_b 896 x  17 x  17    1152 x 17 x 17     1088 x 17 x 17
    reduction_b 1792 x  8 x   8    2144 x  8 x  8     2080 x  8 x  8
    inception_c 1792 x  8 x   8    2144 x  8 x  8     2080 x  8 x  8 -> 1536 x 8 x 8  -> mean -> classes
"""

from collections import OrderedDict
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from neocog.core.contracts import Network
from neocog.core.registry import register
from neocog.core.spec import Spec
from neocog.layers.conv import ConvNormAct
from neocog.layers.dropout import Dropout
from neocog.layers.init import initialise
from neocog.layers.towers import norm, tower, towers
from neocog.models.inception_v4 import DROPOUT, figure_3, module_rules
from neocog.models.keys import rename

Towers = tuple[str, ...]
Form = Literal["published", "paper"]


class Figures(NamedTuple):
    """One network: a module per grid size, and how often."""

    inception_a: Towers
    reduction_a: Towers
    inception_b: Towers
    reduction_b: Towers
    inception_c: Towers
    repeats: tuple[int, int, int]


V1 = Figures(
    # Figure 10
    inception_a=("1x1:32", "1x1:32 3x3:32", "1x1:32 3x3:32 3x3:32"),
    # Figure 7, with the numbers of Table 1: k, l, m, n = 192, 192, 256, 384
    reduction_a=("3x3:384/2", "1x1:192 3x3:192 3x3:256/2", "max/2"),
    # Figure 11
    inception_b=("1x1:128", "1x1:128 1x7:128 7x1:128"),
    # Figure 12
    reduction_b=("1x1:256 3x3:384/2", "1x1:256 3x3:256/2", "1x1:256 3x3:256 3x3:256/2", "max/2"),
    # Figure 13
    inception_c=("1x1:192", "1x1:192 1x3:192 3x1:192"),
    repeats=(5, 10, 5),
)
V2 = Figures(
    # Figure 16
    inception_a=("1x1:32", "1x1:32 3x3:32", "1x1:32 3x3:48 3x3:64"),
    # Figure 7, Table 1: 256, 256, 384, 384
    reduction_a=("3x3:384/2", "1x1:256 3x3:256 3x3:384/2", "max/2"),
    # Figure 17
    inception_b=("1x1:192", "1x1:128 1x7:160 7x1:192"),
    # Figure 18
    reduction_b=("1x1:256 3x3:384/2", "1x1:256 3x3:288/2", "1x1:256 3x3:288 3x3:320/2", "max/2"),
    # Figure 19
    inception_c=("1x1:192", "1x1:192 1x3:224 3x1:256"),
    repeats=(5, 10, 5),
)
PUBLISHED = V2._replace(repeats=(10, 20, 10))
LAST = 1536

# Figure 14
STEM = "3x3:32/2 3x3:32v 3x3:64 max/2 1x1:80 3x3:192v 3x3:256/2"
# The authors' code: the same with a maximum at its end, and an Inception module behind it
PUBLISHED_STEM = "3x3:32/2 3x3:32v 3x3:64 max/2 1x1:80 3x3:192v max/2"
PUBLISHED_MODULE = ("1x1:96", "1x1:48 5x5:64", "1x1:64 3x3:96 3x3:96", "avg 1x1:64")

# Section 3.3: "between 0.1 and 0.3"; these are the authors' code's, for the modules a, b and c.
SCALES = (0.17, 0.10, 0.20)


class ScaledResidual(nn.Module):
    """(B, C, H, W) -> the same shape: ReLU(x + scale * linear(towers(x))); without the ReLU unless `bend`."""

    def __init__(self, channels: int, figure: Towers, scale: float, bend: bool = True) -> None:
        super().__init__()
        self.towers, c = towers(channels, figure)
        self.linear = nn.Conv2d(c, channels, 1)
        self.scale, self.bend = scale, bend

    def forward(self, x: Tensor) -> Tensor:
        x = torch.add(x, self.linear(self.towers(x)), alpha=self.scale)
        return x.relu_() if self.bend else x

    def extra_repr(self) -> str:
        return f"scale={self.scale}, bend={self.bend}"


class InceptionResNet(Network):
    """(B, C, H, W) -> (B, K). `form`: see above; `scales`: what the modules a, b and c are multiplied with."""

    stage_strides = (8, 16, 16, 32, 32)
    min_size = 75

    def __init__(
        self,
        version: Literal[1, 2],
        form: str,
        num_classes: int,
        in_channels: int,
        scales: tuple[float, float, float],
        dropout: float,
    ) -> None:
        super().__init__()
        if form not in ("published", "paper"):
            raise ValueError(f"form = {form!r} is neither 'published' nor 'paper'")
        if len(scales) != 3 or min(scales) <= 0:
            raise ValueError(f"scales = {scales} must be three numbers above 0")
        published = version == 2 and form == "published"
        self.num_classes, self.in_channels = num_classes, in_channels
        if version == 1:
            figures = V1
            self.stem, c = tower(in_channels, STEM)
        elif published:
            figures = PUBLISHED
            convs, c = tower(in_channels, PUBLISHED_STEM)
            module, c = towers(c, PUBLISHED_MODULE)
            self.stem = nn.Sequential(OrderedDict(convs=convs, mixed=module))
        else:
            figures = V2
            self.stem, c = figure_3(in_channels)
        self.stages = nn.Sequential()
        channels = []
        for number, letter in enumerate("abc"):
            if letter != "a":
                reduction = "reduction_a" if letter == "b" else "reduction_b"
                shrink, c = towers(c, getattr(figures, reduction))
                self.stages.add_module(reduction, nn.Sequential(shrink))
                channels.append(c)
            stage = nn.Sequential()
            for i in range(figures.repeats[number]):
                last = published and letter == "c" and i + 1 == figures.repeats[number]
                scale = 1.0 if last else scales[number]
                stage.append(ScaledResidual(c, getattr(figures, f"inception_{letter}"), scale, bend=not last))
            self.stages.add_module(f"inception_{letter}", stage)
            channels.append(c)
        self.stage_channels = tuple(channels)
        self.head = nn.Sequential()
        if published:
            self.head.add_module("conv", ConvNormAct(c, LAST, 1, norm=norm))
            c = LAST
        self.head.add_module("pool", nn.AdaptiveAvgPool2d(1))
        self.head.add_module("flatten", nn.Flatten())
        self.head.add_module("dropout", Dropout(dropout))
        self.head.add_module("fc", nn.Linear(c, num_classes))
        # The paper does not say how weights start; the authors' code leaves it to its library: Glorot's.
        initialise(self, "xavier_uniform")


_ENDS = tuple(
    rule
    for theirs, stage, last in (("repeat", "a", 10), ("repeat_1", "b", 20), ("repeat_2", "c", 9))
    for i in range(last)
    for rule in (
        *module_rules(rf"{theirs}\.{i}\.", rf"stages.inception_{stage}.{i}.towers."),
        (rf"{theirs}\.{i}\.conv2d\.", f"stages.inception_{stage}.{i}.linear."),
    )
)
_rename = rename(
    *(
        (rf"conv2d_{theirs}\.", f"stem.convs.{ours}.")
        for theirs, ours in (("1a", 0), ("2a", 1), ("2b", 2), ("3b", 4), ("4a", 5))
    ),
    *module_rules(r"mixed_5b\.", "stem.mixed."),
    *module_rules(r"mixed_6a\.", "stages.reduction_a.0."),
    *module_rules(r"mixed_7a\.", "stages.reduction_b.0."),
    *_ENDS,
    *module_rules(r"block8\.", "stages.inception_c.9.towers."),
    (r"block8\.conv2d\.", "stages.inception_c.9.linear."),
    (r"conv2d_7b\.", "head.conv."),
    (r"classif\.", "head.fc."),
)


def from_timm(key: str) -> str:
    return _rename(key).replace(".bn.", ".norm.")


@register(
    Spec(
        name="inception_resnet_v1",
        idea="Inception modules as corrections to their input, scaled down before they are added.",
        title="Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning",
        year=2016,
        link="https://arxiv.org/abs/1602.07261",
        table="Figures 7 and 10 to 15, Table 1",
        input_shape=(3, 299, 299),
        params=22_756_328,
        macs=6_206_361_696,
    )
)
def inception_resnet_v1(
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    scales: tuple[float, float, float] = SCALES,
    dropout: float | None = None,
) -> InceptionResNet:
    """`scales`: what the corrections of the modules a, b and c are multiplied with."""
    return InceptionResNet(1, "paper", num_classes, in_channels, scales, DROPOUT if dropout is None else dropout)


@register(
    Spec(
        name="inception_resnet_v2",
        idea="Inception-ResNet as expensive as Inception-v4, and quicker to train.",
        title="Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning",
        year=2016,
        link="https://arxiv.org/abs/1602.07261",
        table="Figures 3, 7 and 15 to 19, Table 1",
        input_shape=(3, 299, 299),
        params=55_843_464,
        macs=13_155_794_016,
    ),
    key_maps={"timm": from_timm},
)
def inception_resnet_v2(
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    form: Form = "published",
    scales: tuple[float, float, float] = SCALES,
    dropout: float | None = None,
) -> InceptionResNet:
    """`form`: "published" or "paper"; `scales`: what the corrections of the modules a, b and c are multiplied with."""
    return InceptionResNet(2, form, num_classes, in_channels, scales, DROPOUT if dropout is None else dropout)
