"""LeNet of 1989: the first convolutional network that learnt by backpropagation to do a real job, read zip codes.

No pooling: the filters move by two, because the exact place of a feature matters less than that it is there. The
units of a map share their 25 weights, and nothing else: each has a bias of its own, so that the network has 9,760
parameters for its 64,660 connections.

Paper: LeCun et al., "Backpropagation Applied to Handwritten Zip Code Recognition", Neural Computation 1, 1989,
doi:10.1162/neco.1989.1.4.541. ROWS below is its section 3.3.
Differs from the paper: which eight maps of H1 a map of H2 reads it does not say; here H1 falls into three groups of
four, and every third of H2 leaves one out. Behind H1 stands the background level that it gives for the picture. The
constants of its "scaled hyperbolic tangent" are those of LeNet-5. The output layer's tanh is left out, since scores
are wanted in front of the softmax. Other sizes than 16 have as many biases as they have units.

    image   1 x 16 x 16     between -1 (background) and 1
    H1     12 x  8 x  8     1,068 parameters
    H2     12 x  4 x  4     2,592
    H3     30               5,790
    output 10                 310
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neocog.core.contracts import Network
from neocog.core.registry import register
from neocog.core.spec import Spec
from neocog.layers.scaled_tanh import ScaledTanh

#        maps, each reads so many of the layer below
ROWS = {
    "h1": (12, None),  # all there are
    "h2": (12, 8),
}
HIDDEN, GROUPS = 30, 3
BACKGROUND = -1.0


class UnitConv(nn.Module):
    """(B, c_in, H, W) -> (B, c_out, H / 2, W / 2): 5x5 filters, and a bias for each unit of the maps.

    Two pixels of background are around the map. `reads`: for each group of output maps the input maps that it
    reads. ValueError for a map of another size than `side`, whose biases these would not be.
    """

    def __init__(self, c_in: int, c_out: int, side: int, reads: list[list[int]]) -> None:
        super().__init__()
        groups = len(reads)
        self.side = side
        # The groups' inputs one behind the other: one grouped convolution for all of them.
        self.chosen = None if reads == [list(range(c_in))] else [index for maps in reads for index in maps]
        self.conv = nn.Conv2d(sum(map(len, reads)), c_out, 5, stride=2, groups=groups, bias=False)
        self.bias = nn.Parameter(torch.empty(c_out, (side + 1) // 2, (side + 1) // 2))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.bias)  # the paper does not say

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] != (self.side, self.side):
            raise ValueError(f"the map is {x.shape[2]} x {x.shape[3]}, the biases are for {self.side} x {self.side}")
        if self.chosen is not None:
            x = x[:, self.chosen]
        out: Tensor = self.conv(F.pad(x, (2, 2, 2, 2), value=BACKGROUND)) + self.bias
        return out


class LeNet1989(Network):
    """(B, C, image_size, image_size) -> (B, K)"""

    stage_channels = tuple(maps for maps, _ in ROWS.values())
    stage_strides = (2, 4)

    def __init__(self, num_classes: int, in_channels: int, image_size: int) -> None:
        super().__init__()
        if image_size < 1:
            raise ValueError(f"image_size = {image_size} must be at least 1")
        self.num_classes, self.in_channels, self.fixed_size = num_classes, in_channels, image_size
        self.stem = nn.Identity()
        self.stages = nn.Sequential()
        c, side = in_channels, image_size
        for name, (maps, reads) in ROWS.items():
            everything = list(range(c))
            if reads is None:
                inputs = [everything]
            else:
                # Group by group, all maps but the neighbours of one third: 12 - 4 = 8.
                out = c - reads
                inputs = [everything[: g * out] + everything[(g + 1) * out :] for g in range(GROUPS)]
            conv = UnitConv(c, maps, side, inputs)
            self.stages.add_module(name, nn.Sequential(OrderedDict(conv=conv, act=ScaledTanh())))
            c, side = maps, (side + 1) // 2
        self.head = nn.Sequential(
            OrderedDict(
                flatten=nn.Flatten(),  # (B, 12 * 4 * 4)
                h3=nn.Linear(c * side**2, HIDDEN),
                act=ScaledTanh(),
                fc=nn.Linear(HIDDEN, num_classes),
            )
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                # As the paper says: uniform in +-2.4 / fan_in.
                bound = 2.4 / layer.weight[0].numel()
                nn.init.uniform_(layer.weight, -bound, bound)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)


@register(
    Spec(
        name="lenet_1989",
        idea="Shared weights that move by two pixels: the first convolutional network at work.",
        title="Backpropagation Applied to Handwritten Zip Code Recognition",
        year=1989,
        link="https://doi.org/10.1162/neco.1989.1.4.541",
        table="section 3.3",
        input_shape=(1, 16, 16),
        num_classes=10,
        params=9_760,
        macs=63_660,
        aliases=("lenet1989",),
    )
)
def lenet_1989(*, num_classes: int = 10, in_channels: int = 1, image_size: int = 16) -> LeNet1989:
    """`image_size`: H and W of the pictures; each has its own number of biases."""
    return LeNet1989(num_classes, in_channels, image_size)
