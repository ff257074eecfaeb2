"""FractalNet: depth without shortcuts. A short path and a long one share each block, and either can answer alone.

A fractal of one column is a convolution; one of C + 1 columns runs two fractals of C columns, one behind the
other, beside a single convolution, and joins both by their mean. While training, drop-path leaves paths out, so
that no column can rely on another: a deep network that contains its own shallow ones.

Paper: Larsson, Maire and Shakhnarovich, "FractalNet: Ultra-Deep Neural Networks without Residuals", ICLR 2017,
arXiv:1605.07648. The block is Figure 1, drop-path section 3; widths, rates and start are section 4.1's for 20
layers (C = 3 columns).
Counts: Table 1 says 38.6 million parameters for it. Five blocks of seven 3x3 convolutions with the widths of
section 4.1 have 33.7 million; where the others would stand the paper does not say.
Differs from the paper: dropout stands once, at the end of each block; the paper says only its rate per block.

    image     3 x 32 x 32
    block1   64 x 32 x 32   every block but the first opens with pool/2
    block2  128 x 16 x 16
    block3  256 x  8 x  8
    block4  512 x  4 x  4
    block5  512 x  2 x  2   -> pool/2 -> mean -> classes
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from neocog.core.contracts import Network
from neocog.core.registry import register
from neocog.core.spec import Spec
from neocog.layers.conv import ConvNormAct
from neocog.layers.dropout import Dropout

WIDTHS = (64, 128, 256, 512, 512)
DROPOUTS = (0.0, 0.1, 0.2, 0.3, 0.4)
COLUMNS, DROP_PATH = 3, 0.15
LOCAL = -1  # the route of a picture whose joins drop their inputs independently


class FractalBlock(nn.Module):
    """(B, c_in, H, W) -> (B, c_out, H, W). Column 0 is one convolution, column c has 2^c in a row."""

    def __init__(self, c_in: int, c_out: int, columns: int, drop_path: float) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.columns = nn.ModuleList(
            nn.Sequential(*(ConvNormAct(c_in if i == 0 else c_out, c_out, 3) for i in range(2**column)))
            for column in range(columns)
        )

    def forward(self, x: Tensor, route: Tensor | None = None) -> Tensor:
        """`route` (B,): the column that each picture takes, or LOCAL; None keeps every path."""
        columns = len(self.columns)
        rows = 2 ** (columns - 1)  # as many as the deepest column has convolutions
        inputs = [x] * columns
        joined = x
        for row in range(1, rows + 1):
            # In the last row every column ends; before it, those whose turn it is.
            ending = [c for c in range(columns) if row % (rows >> c) == 0]
            outputs = [self._conv(c, row // (rows >> c) - 1)(inputs[c]) for c in ending]
            joined = self._join(outputs, ending, route)
            for c in ending:
                inputs[c] = joined
        return joined

    def _conv(self, column: int, index: int) -> nn.Module:
        convs = self.columns[column]
        assert isinstance(convs, nn.Sequential)
        return convs[index]

    def _join(self, outputs: list[Tensor], columns: list[int], route: Tensor | None) -> Tensor:
        """The mean of those outputs that are kept, picture by picture."""
        if len(outputs) == 1:
            return outputs[0]
        if route is None:
            return torch.stack(outputs).mean(dim=0)
        keep = self._kept(route, torch.tensor(columns, device=route.device))  # (P, B)
        share = (keep / keep.sum(dim=0)).to(outputs[0].dtype)[:, :, None, None, None]
        return (torch.stack(outputs) * share).sum(dim=0)

    def _kept(self, route: Tensor, columns: Tensor) -> Tensor:
        """(B,), (P,) -> (P, B) bool: which of P paths are kept for which picture; at least one always is."""
        keep = torch.rand(len(columns), len(route), device=route.device) >= self.drop_path
        spared = torch.randint(len(columns), route.shape, device=route.device)
        keep |= ~keep.any(dim=0) & (torch.arange(len(columns), device=route.device)[:, None] == spared)
        mine = columns[:, None] == route
        # A join that the picture's column passes by is looked at by nobody: all of it may stay.
        chosen = mine | ~mine.any(dim=0)
        return torch.where(route == LOCAL, keep, chosen)


class Stage(nn.Module):
    """(B, c_in, H, W) -> (B, c_out, H / 2 or H, ...): pool, fractal, dropout."""

    def __init__(self, pool: bool, block: FractalBlock, dropout: float) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()
        self.block = block
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, route: Tensor | None = None) -> Tensor:
        out: Tensor = self.dropout(self.block(self.pool(x), route))
        return out


class FractalNet(Network):
    """(B, C, H, W) -> (B, K)"""

    stage_channels = WIDTHS
    stage_strides = (1, 2, 4, 8, 16)
    min_size = 32

    def __init__(self, columns: int, num_classes: int, in_channels: int, drop_path: float) -> None:
        super().__init__()
        if not 1 <= columns <= 6:
            raise ValueError(f"columns = {columns} must be 1 to 6 (6 columns are 160 layers deep)")
        if not 0 <= drop_path < 1:
            raise ValueError(f"drop_path = {drop_path} must be at least 0 and below 1")
        self.num_classes, self.in_channels = num_classes, in_channels
        self.columns, self.drop_path = columns, drop_path
        self.stem = nn.Identity()
        self.stages = nn.Sequential()
        c = in_channels
        for number, (width, dropout) in enumerate(zip(WIDTHS, DROPOUTS, strict=True), start=1):
            block = FractalBlock(c, width, columns, drop_path)
            self.stages.add_module(f"block{number}", Stage(number > 1, block, dropout))
            c = width
        self.head = nn.Sequential(
            OrderedDict(
                pool=nn.MaxPool2d(2),
                mean=nn.AdaptiveAvgPool2d(1),  # identity at 32
                flatten=nn.Flatten(),
                fc=nn.Linear(c, num_classes),
            )
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):  # section 4.1: Glorot and Bengio's
                nn.init.xavier_uniform_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        """While training, half of the pictures (section 3: mixed sampling) take one column through all blocks."""
        if not self.training or self.drop_path == 0:
            out = super().forward(x)
            assert isinstance(out, Tensor)
            return out
        route = torch.randint(self.columns, (len(x),), device=x.device)
        route[torch.rand(len(x), device=x.device) < 0.5] = LOCAL
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x, route)
        scores: Tensor = self.head(x)
        return scores


@register(
    Spec(
        name="fractalnet20",
        idea="Short and long paths of a self-similar block answer together or alone; no shortcuts.",
        title="FractalNet: Ultra-Deep Neural Networks without Residuals",
        year=2016,
        link="https://arxiv.org/abs/1605.07648",
        table="Figure 1 and section 4.1",
        input_shape=(3, 32, 32),
        num_classes=10,
        params=33_724_618,
        macs=845_222_912,
    )
)
def fractalnet20(
    *, num_classes: int = 10, in_channels: int = 3, columns: int = COLUMNS, drop_path: float = DROP_PATH
) -> FractalNet:
    """`columns`: the deepest path has 5 * 2^(columns - 1) convolutions."""
    return FractalNet(columns, num_classes, in_channels, drop_path)
