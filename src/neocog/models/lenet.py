"""LeNet-5: look for small features everywhere, blur where they were, look again, decide.

Paper: LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition",
Proc. IEEE 86, 1998, doi:10.1109/5.726791. CONNECTIONS is its Table I: which maps of S2 each map of C3 reads.
Differs from the paper: the output is a dense layer (850 parameters) instead of distances to 84-pixel
drawings of the ten digits, which exist for no other classes.
`modern=True` is the variant that textbooks draw: max pools, ReLU, every C3 map reads every S2 map.

    image   1 x 32 x 32     28 x 28 is padded with zeros
    C1      6 x 28 x 28     156 parameters
    S2      6 x 14 x 14      12
    C3     16 x 10 x 10   1,516
    S4     16 x  5 x  5      32
    C5    120 x  1 x  1  48,120
    F6     84            10,164
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neocog.core.contracts import Network
from neocog.core.registry import register
from neocog.core.spec import Spec
from neocog.layers.scaled_tanh import ScaledTanh

SIDE = 32

# Rows: the S2 maps that a group of C3 maps reads, in the order of the columns of Table I.
CONNECTIONS = (
    # maps 0-5: three neighbours
    ((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    # maps 6-14: four, first neighbours, then not
    ((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),
     (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    # map 15: all
    ((0, 1, 2, 3, 4, 5),),
)  # fmt: skip


class PadTo(nn.Module):
    """(B, C, H, W) -> (B, C, side, side), zeros around the picture; ValueError for a larger one."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        height, width = self.side - x.shape[2], self.side - x.shape[3]
        if height < 0 or width < 0:
            raise ValueError(f"the picture is {x.shape[2]} x {x.shape[3]}; LeNet-5 reads at most {self.side} pixels")
        return F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))


class Subsample(nn.Module):
    """(B, C, H, W) -> (B, C, H / 2, W / 2): the sum of four, times one coefficient per map, plus one bias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.coefficient = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        # The paper's rule below with a fan-in of four would flip and fade maps at random: start as a mean.
        nn.init.constant_(self.coefficient, 0.25)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        four = 4 * F.avg_pool2d(x, 2)
        return four * self.coefficient[:, None, None] + self.bias[:, None, None]


class PartialConv(nn.Module):
    """(B, 6, H, W) -> (B, 16, H - 4, W - 4): 5x5 filters that read only the maps of Table I."""

    def __init__(self) -> None:
        super().__init__()
        # Maps that read equally many inputs are one grouped convolution: three instead of sixteen.
        self.convs = nn.ModuleList(
            nn.Conv2d(sum(map(len, maps)), len(maps), 5, groups=len(maps)) for maps in CONNECTIONS
        )

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for conv, maps in zip(self.convs, CONNECTIONS, strict=True):
            chosen = [index for inputs in maps for index in inputs]
            outputs.append(conv(x[:, chosen]))
        return torch.cat(outputs, dim=1)


class LeNet5(Network):
    """(B, C, H, W) with H, W up to 32 -> (B, K)."""

    stage_channels = (6, 16)
    stage_strides = (2, 4)

    def __init__(self, num_classes: int, in_channels: int, image_size: int, modern: bool) -> None:
        super().__init__()
        if not 1 <= image_size <= SIDE:
            raise ValueError(f"image_size = {image_size}, but LeNet-5 reads 1 to {SIDE} pixels")
        self.num_classes, self.in_channels, self.fixed_size = num_classes, in_channels, image_size
        act: type[nn.Module] = nn.ReLU if modern else ScaledTanh

        def stage(conv: nn.Module, c_out: int) -> nn.Sequential:
            if modern:
                return nn.Sequential(OrderedDict(conv=conv, pool=nn.MaxPool2d(2), act=act()))
            return nn.Sequential(OrderedDict(conv=conv, act=act(), pool=Subsample(c_out), pool_act=act()))

        self.stem = PadTo(SIDE)
        self.stages = nn.Sequential(
            OrderedDict(
                c1_s2=stage(nn.Conv2d(in_channels, 6, 5), 6),
                c3_s4=stage(nn.Conv2d(6, 16, 5) if modern else PartialConv(), 16),
            )
        )
        self.head = nn.Sequential(
            OrderedDict(
                c5=nn.Conv2d(16, 120, 5),  # (B, 120, 1, 1)
                c5_act=act(),
                flatten=nn.Flatten(),
                f6=nn.Linear(120, 84),
                f6_act=act(),
                fc=nn.Linear(84, num_classes),
            )
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                # Section "Training": uniform in +-2.4 / fan_in. The paper does not say how biases start.
                bound = 2.4 / layer.weight[0].numel()
                nn.init.uniform_(layer.weight, -bound, bound)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)


@register(
    Spec(
        name="lenet5",
        idea="Convolution, subsampling, twice: the first network to read bank cheques.",
        title="Gradient-based learning applied to document recognition",
        year=1998,
        link="https://doi.org/10.1109/5.726791",
        table="Table I and Figure 2",
        input_shape=(1, 28, 28),
        num_classes=10,
        params=60_850,
        macs=326_520,
        aliases=("lenet",),
    )
)
def lenet5(*, num_classes: int = 10, in_channels: int = 1, image_size: int = 28, modern: bool = False) -> LeNet5:
    return LeNet5(num_classes, in_channels, image_size, modern)
