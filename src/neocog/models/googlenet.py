"""GoogLeNet (Inception v1): look at every scale at once, and pay for it with 1x1 convolutions.

Each module sees the same input through four branches (1x1, 3x3, 5x5, pool) and stacks what they found along
the channels; a 1x1 in front of the wide kernels keeps the bill small. Two auxiliary classifiers, a third and two
thirds of the way up, feed the lower layers with gradient; they exist in training only.

Paper: Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, arXiv:1409.4842. ROWS below is Table 1.
The table counts K as 1024 and the operations of its first row (2.7K, 34M) as those of the separable
convolution that the authors name in the sequel (bn_inception.py); its 7x7 costs 9K and 118M.
Differs from the paper: the constants of the response normalisation, which it does not give, are AlexNet's; the
last mean is taken over whatever grid is left, so that other sizes than 224 are accepted.
`variant="torchvision"` is the network of the published weights: batch norm and no biases, no response
normalisation, 3x3 where the paper has 5x5, a 2x2 pool in front of 5a, dropout 0.2.

    image    3 x 224 x 224
    stem   192 x  28 x  28     conv7/2, pool/2, norm, conv1, conv3, norm, pool/2
    3a-3b  480 x  28 x  28
    4a-4e  832 x  14 x  14     pool/2 in front; auxiliary heads behind 4a and 4d
    5a-5b 1024 x   7 x   7     pool/2 in front
    head  1024 -> classes
"""

from collections import OrderedDict
from functools import partial
from typing import Literal, get_args

from torch import nn

from neocog.core.contracts import Network
from neocog.core.registry import register
from neocog.core.spec import Preprocessing, Spec, Weights
from neocog.layers.auxiliary_pool import AuxiliaryPool
from neocog.layers.branches import Branches
from neocog.layers.conv import ConvNormAct
from neocog.layers.dropout import Dropout
from neocog.layers.init import initialise
from neocog.layers.local_response import LocalResponseNorm
from neocog.models.keys import rename

Variant = Literal["paper", "torchvision"]

#        1x1  3x3: reduce, out   5x5: reduce, out   pool projection
ROWS = {
    "3a": ( 64,   96, 128,   16,  32,   32),
    "3b": (128,  128, 192,   32,  96,   64),
    "4a": (192,   96, 208,   16,  48,   64),
    "4b": (160,  112, 224,   24,  64,   64),
    "4c": (128,  128, 256,   24,  64,   64),
    "4d": (112,  144, 288,   32,  64,   64),
    "4e": (256,  160, 320,   32, 128,  128),
    "5a": (256,  160, 320,   32, 128,  128),
    "5b": (384,  192, 384,   48, 128,  128),
}  # fmt: skip
AUXILIARY = ("4a", "4d")
DROPOUT = {"paper": 0.4, "torchvision": 0.2}
AUXILIARY_DROPOUT, AUXILIARY_WEIGHT = 0.7, 0.3


def halve(kernel_size: int = 3) -> nn.MaxPool2d:
    # The table's sizes (112, 56, 28, 14, 7) need a last window that reaches over the edge.
    return nn.MaxPool2d(kernel_size, stride=2, ceil_mode=True)


class GoogLeNet(Network):
    """(B, C, H, W) -> (B, K)"""

    stage_channels = tuple(one + three + five + pool for one, _, three, _, five, pool in ROWS.values())
    stage_strides = (8, 8, 16, 16, 16, 16, 16, 32, 32)
    auxiliary_weight = AUXILIARY_WEIGHT

    def __init__(self, num_classes: int, in_channels: int, variant: Variant, auxiliary: bool, dropout: float) -> None:
        super().__init__()
        paper = variant == "paper"
        self.num_classes, self.in_channels = num_classes, in_channels
        # A pool needs two pixels to make one, except torchvision's 2x2: 31 -> 16 -> 8 -> 4 -> 2 -> 1.
        self.min_size = 31 if paper else 15
        conv = (
            partial(ConvNormAct, norm=None, bias=True)
            if paper
            else partial(ConvNormAct, norm=partial(nn.BatchNorm2d, eps=1e-3))
        )
        norm = LocalResponseNorm if paper else nn.Identity

        def inception(c_in: int, one: int, r3: int, three: int, r5: int, five: int, pool: int) -> Branches:
            wide = 5 if paper else 3
            return Branches(
                OrderedDict(
                    one=conv(c_in, one, 1),
                    three=nn.Sequential(OrderedDict(reduce=conv(c_in, r3, 1), conv=conv(r3, three, 3))),
                    five=nn.Sequential(OrderedDict(reduce=conv(c_in, r5, 1), conv=conv(r5, five, wide))),
                    pool=nn.Sequential(
                        OrderedDict(pool=nn.MaxPool2d(3, stride=1, padding=1), project=conv(c_in, pool, 1))
                    ),
                )
            )

        self.stem = nn.Sequential(
            OrderedDict(
                conv1=conv(in_channels, 64, 7, stride=2),
                pool1=halve(),
                norm1=norm(),
                conv2=conv(64, 64, 1),
                conv3=conv(64, 192, 3),
                norm2=norm(),
                pool2=halve(),
            )
        )
        self.stages = nn.Sequential()
        c = 192
        for (name, row), c_out in zip(ROWS.items(), self.stage_channels, strict=True):
            stage = nn.Sequential()
            if name in ("4a", "5a"):
                # A pool opens the next stage, so that a stage's output is the finer map.
                stage.add_module("pool", halve(3 if paper or name == "4a" else 2))
            stage.add_module("inception", inception(c, *row))
            self.stages.add_module(name, stage)
            c = c_out
        self.head = nn.Sequential(
            OrderedDict(
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                dropout=Dropout(dropout),
                fc=nn.Linear(c, num_classes),
            )
        )
        if auxiliary:
            self.auxiliary = nn.ModuleDict()
            for name in AUXILIARY:
                c = self.stage_channels[list(ROWS).index(name)]
                self.auxiliary[name] = nn.Sequential(
                    OrderedDict(
                        pool=AuxiliaryPool(4) if paper else nn.AdaptiveAvgPool2d(4),
                        conv=conv(c, 128, 1),
                        flatten=nn.Flatten(),  # (B, 128 * 4 * 4)
                        fc1=nn.Linear(128 * 16, 1024),
                        act=nn.ReLU(inplace=True),
                        dropout=Dropout(AUXILIARY_DROPOUT),
                        fc=nn.Linear(1024, num_classes),
                    )
                )
        # The paper does not say how weights start. He's, which came half a year later, keeps the signal's size
        # through 22 layers of ReLU.
        initialise(self, "he_normal")


_PARTS = {
    "branch1": "one",
    r"branch2\.0": "three.reduce",
    r"branch2\.1": "three.conv",
    r"branch3\.0": "five.reduce",
    r"branch3\.1": "five.conv",
    r"branch4\.1": "pool.project",
}
FROM_TORCHVISION = rename(
    *(
        (rf"{theirs}\.{layer}\.", f"{ours}.{our_layer}.")
        for layer, our_layer in (("conv", "conv"), ("bn", "norm"))
        for theirs, ours in (
            *((f"conv{i}", f"stem.conv{i}") for i in (1, 2, 3)),
            *((f"aux{i}\\.conv", f"auxiliary.{name}.conv") for i, name in enumerate(AUXILIARY, start=1)),
            *((rf"inception{n}\.{part}", f"stages.{n}.inception.{our}") for n in ROWS for part, our in _PARTS.items()),
        )
    ),
    *((rf"aux{i}\.fc1\.", f"auxiliary.{name}.fc1.") for i, name in enumerate(AUXILIARY, start=1)),
    *((rf"aux{i}\.fc2\.", f"auxiliary.{name}.fc.") for i, name in enumerate(AUXILIARY, start=1)),
    (r"fc\.", "head.fc."),
)


@register(
    Spec(
        name="googlenet",
        idea="Inception modules look at every scale at once behind cheap 1x1 convolutions.",
        title="Going Deeper with Convolutions",
        year=2014,
        link="https://arxiv.org/abs/1409.4842",
        table="Table 1",
        input_shape=(3, 224, 224),
        params=6_998_552,
        macs=1_582_671_872,
        weights=(
            Weights(
                tag="imagenet1k_v1",
                url="https://download.pytorch.org/models/googlenet-1378be20.pth",
                sha256="1378be20",
                # torchvision's network turns ImageNet's mean and deviation back into these (transform_input).
                preprocessing=Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3),
                top1=69.778,
                top5=89.530,
                knobs={"variant": "torchvision"},
            ),
        ),
        aliases=("inception_v1",),
    ),
    key_maps={"torchvision": FROM_TORCHVISION},
)
def googlenet(
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    variant: Variant = "paper",
    auxiliary: bool = True,
    dropout: float | None = None,
) -> GoogLeNet:
    """`auxiliary`: the two heads of training; `dropout` (0.4, torchvision's 0.2) stands in front of the classifier."""
    if variant not in get_args(Variant):
        raise ValueError(f"variant = {variant!r} is neither 'paper' nor 'torchvision'")
    return GoogLeNet(num_classes, in_channels, variant, auxiliary, DROPOUT[variant] if dropout is None else dropout)
