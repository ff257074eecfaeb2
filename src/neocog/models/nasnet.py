"""NASNet-A: let a search find one small cell, on small pictures, and build the large network from copies of it.

A controller network proposed cells, each was trained on CIFAR-10, and what scored well made its like more probable.
Two cells are kept: one that leaves the grid as it is, one that halves it. Each reads the outputs of the two cells in
front of it, combines them pairwise in five sums, and stacks the sums that nobody has used.

Paper: Zoph, Vasudevan, Shlens and Le, "Learning Transferable Architectures for Scalable Image Recognition", CVPR
2018, arXiv:1707.07012. NORMAL and REDUCTION below are Figure 4, the whole is Figure 2; "4 @ 1056" is four normal
cells in a row and 1056 channels at the end. What the paper leaves open is the authors' code's
(https://github.com/tensorflow/models, slim/nets/nasnet): paddings, how a cell's inputs are brought to one size, and
that in the large network the first normal cell behind a reduction reads the cell before the reduction's input.
Drop-path grows with depth and, in ScheduledDropPath, over training time: `schedule` says where training stands.

A stage is a function of one tensor here, and a cell of two: all stages but the last hand on the outputs of their
last two cells, stacked, the newest in front.

                       mobile            large
    image          3 x 224 x 224     3 x 331 x 331
    stem          32 x 111 x 111    96 x 165 x 165   conv3/2
    cells1   2 x 264 x  28 x  28  2 x 1008 x 42 x 42  two reduction cells, N normal ones
    cells2   2 x 528 x  14 x  14  2 x 2016 x 21 x 21  one, N; auxiliary head
    cells3      1056 x   7 x   7      4032 x 11 x 11  one, N  -> mean -> classes
"""

from collections import OrderedDict
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neocog.core.contracts import Network
from neocog.core.registry import KeyMap, register
from neocog.core.spec import Spec
from neocog.layers.auxiliary_pool import AuxiliaryPool
from neocog.layers.drop_path import DropPath
from neocog.layers.dropout import Dropout
from neocog.layers.init import he_fan_out
from neocog.layers.same_pool import SameAvgPool2d, SameMaxPool2d
from neocog.layers.separable import SeparableConv
from neocog.models.keys import rename

# Each row is a sum of two operations on: h, the cell in front; p, the one before it; or an earlier sum, by its row.
Row = tuple[str | int, str, str | int, str]
NORMAL: tuple[Row, ...] = (
    ("h", "sep5", "p", "sep3"),
    ("p", "sep5", "p", "sep3"),
    ("h", "avg",  "p", "none"),
    ("p", "avg",  "p", "avg"),
    ("h", "sep3", "h", "none"),
)  # fmt: skip
REDUCTION: tuple[Row, ...] = (
    ("h", "sep5", "p", "sep7"),
    ("h", "max",  "p", "sep7"),
    ("h", "avg",  "p", "sep5"),
    (1,   "none", 0,   "avg"),
    (0,   "sep3", "h", "max"),
)  # fmt: skip
NORMAL_OUT = ("p", 0, 1, 2, 3, 4)  # what no sum has used, in the order it is stacked in
REDUCTION_OUT = (1, 2, 3, 4)


class Size(NamedTuple):
    cells: int  # N
    filters: int  # of an operation in the first N cells; doubled at every reduction
    stem: int
    skip: bool  # does the first cell behind a reduction read the cell before the reduction's input?
    drop_path: float
    auxiliary_grid: int


SIZES = {
    "mobile": Size(4,  44, 32, False, 0.0, 4),
    "large":  Size(6, 168, 96, True,  0.3, 6),
}  # fmt: skip
DROPOUT, AUXILIARY_WEIGHT = 0.5, 0.4
norm = partial(nn.BatchNorm2d, eps=1e-3)  # the authors' code's


def separable_twice(c_in: int, c_out: int, kernel_size: int, stride: int) -> nn.Sequential:
    """(B, c_in, H, W) -> (B, c_out, H / stride, W / stride): ReLU, separable convolution, norm, and all again."""
    return nn.Sequential(
        OrderedDict(
            act1=nn.ReLU(),  # not in place: others read the same input
            conv1=SeparableConv(c_in, c_out, kernel_size, stride, same=True),
            norm1=norm(c_out),
            act2=nn.ReLU(inplace=True),
            conv2=SeparableConv(c_out, c_out, kernel_size),
            norm2=norm(c_out),
        )
    )


def operation(name: str, c_in: int, c_out: int, stride: int) -> nn.Module:
    if name == "none":
        return nn.Identity()
    if name == "max":
        return SameMaxPool2d(3, stride)
    if name == "avg":
        return SameAvgPool2d(3, stride)
    return separable_twice(c_in, c_out, int(name.removeprefix("sep")), stride)


class Squeeze(nn.Sequential):
    """(B, c_in, H, W) -> (B, c_out, H, W): ReLU, 1x1 convolution, norm."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.act = nn.ReLU()  # not in place: others read the same input
        self.conv = nn.Conv2d(c_in, c_out, 1, bias=False)
        self.norm = norm(c_out)


class Halve(nn.Module):
    """(B, c_in, H, W) -> (B, c_out, H / 2, W / 2) without a filter that looks further than its pixel: one half of
    the channels reads the even places, the other, a pixel down and to the right, the odd ones."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.path1 = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.path2 = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.norm = norm(c_out // 2 * 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        shifted = F.pad(x, (-1, 1, -1, 1))
        out: Tensor = self.norm(torch.cat([self.path1(x), self.path2(shifted)], dim=1))
        return out


class Cell(nn.Module):
    """h (B, c_h, H, W) and p -> (B, c_out, H / stride, W / stride), where p has `shrink_p` times h's H and W.

    `c_p=None`: p is h, taken as it is (the first cell of all has nothing before what is in front).
    """

    def __init__(
        self, rows: tuple[Row, ...], c_h: int, c_p: int | None, filters: int, shrink_p: int, drop_path: float
    ) -> None:
        super().__init__()
        stride = 2 if rows is REDUCTION else 1
        self.rows, self.out = rows, REDUCTION_OUT if rows is REDUCTION else NORMAL_OUT
        self.c_out = filters * len(self.out)
        self.squeeze = Squeeze(c_h, filters)
        self.fit: nn.Module = nn.Identity()
        if c_p is not None:
            self.fit = Halve(c_p, filters) if shrink_p == 2 else Squeeze(c_p, filters)
        self.left, self.right = nn.ModuleList(), nn.ModuleList()
        for left, left_name, right, right_name in rows:
            for side, name, operations in ((left, left_name, self.left), (right, right_name, self.right)):
                c_in = c_h if side == "p" and c_p is None else filters
                # The sums already have the new size.
                operations.append(operation(name, c_in, filters, stride if side in ("h", "p") else 1))
        self.drop_path = DropPath(drop_path)

    def forward(self, h: Tensor, p: Tensor) -> Tensor:
        seen: dict[str | int, Tensor] = {"h": self.squeeze(h), "p": self.fit(p)}
        for number, (left, left_name, right, right_name) in enumerate(self.rows):
            a, b = self.left[number](seen[left]), self.right[number](seen[right])
            # What an operation has made is dropped, never the way past all operations.
            a = a if left_name == "none" else self.drop_path(a)
            b = b if right_name == "none" else self.drop_path(b)
            seen[number] = a + b
        return torch.cat([seen[key] for key in self.out], dim=1)


class Newest(nn.Module):
    """(B, 2 C, H, W) -> (B, C, H, W): the output of the stage's last cell."""

    def forward(self, x: Tensor) -> Tensor:
        return x.chunk(2, dim=1)[0]


class Cells(nn.Module):
    """One or two reduction cells, then normal ones. In and out: h and p stacked, or h alone."""

    def __init__(self, reductions: list[Cell], normals: list[Cell], skip: bool, *, first: bool, last: bool) -> None:
        super().__init__()
        self.reductions, self.normals = nn.ModuleList(reductions), nn.ModuleList(normals)
        self.skip, self.first, self.last = skip, first, last

    def forward(self, x: Tensor) -> Tensor:
        h, p = (x, x) if self.first else x.chunk(2, dim=1)
        before = p
        for cell in self.reductions:
            before = p
            h, p = cell(h, p), h
        if self.skip:
            p = before
        for cell in self.normals:
            h, p = cell(h, p), h
        return h if self.last else torch.cat([h, p], dim=1)


class NASNet(Network):
    """(B, C, H, W) -> (B, K)"""

    stage_strides = (8, 16, 32)
    min_size = 3
    auxiliary_weight = AUXILIARY_WEIGHT

    def __init__(
        self, size: Size, num_classes: int, in_channels: int, auxiliary: bool, dropout: float, drop_path: float
    ) -> None:
        super().__init__()
        self.num_classes, self.in_channels, self.drop_path = num_classes, in_channels, drop_path
        self.stem = nn.Sequential(
            OrderedDict(conv=nn.Conv2d(in_channels, size.stem, 3, stride=2, bias=False), norm=norm(size.stem))
        )
        count, total = 0, 3 * size.cells + 4
        self.stages = nn.Sequential()
        c_h, shrink_p = size.stem, 1
        c_p: int | None = None
        c_before: int | None = None  # of the cell in front of p's
        channels = []
        for number in (1, 2, 3):
            filters = size.filters * 2 ** (number - 1)
            reductions: list[Cell] = []
            # The two in front of everything have a quarter and a half of the filters.
            for narrow in (filters // 4, filters // 2) if number == 1 else (filters,):
                c_before = c_p
                count += 1
                reductions.append(Cell(REDUCTION, c_h, c_p, narrow, shrink_p, drop_path * count / total))
                c_p, c_h, shrink_p = c_h, reductions[-1].c_out, 2
            skip = size.skip and number > 1
            if skip:
                c_p = c_before
            normals: list[Cell] = []
            for _ in range(size.cells):
                count += 1
                normals.append(Cell(NORMAL, c_h, c_p, filters, shrink_p, drop_path * count / total))
                c_p, c_h, shrink_p = c_h, normals[-1].c_out, 1
            stage = Cells(reductions, normals, skip, first=number == 1, last=number == 3)
            self.stages.add_module(f"cells{number}", stage)
            channels.append(c_h if number == 3 else 2 * c_h)
        self.stage_channels = tuple(channels)
        self.head = nn.Sequential(
            OrderedDict(
                act=nn.ReLU(),
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                dropout=Dropout(dropout),
                fc=nn.Linear(c_h, num_classes),
            )
        )
        if auxiliary:
            head = self._auxiliary_head(channels[1] // 2, size.auxiliary_grid, num_classes)
            self.auxiliary = nn.ModuleDict({"cells2": head})
        # The paper does not say how weights start. The authors' code: He's fan-out, for dense layers, too.
        he_fan_out(self)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    @staticmethod
    def _auxiliary_head(c: int, side: int, num_classes: int) -> nn.Sequential:
        return nn.Sequential(
            OrderedDict(
                newest=Newest(),
                act=nn.ReLU(),
                pool=AuxiliaryPool(side),
                conv1=nn.Conv2d(c, 128, 1, bias=False),
                norm1=norm(128),
                act1=nn.ReLU(inplace=True),
                conv2=nn.Conv2d(128, 768, side, bias=False),
                norm2=norm(768),
                act2=nn.ReLU(inplace=True),
                flatten=nn.Flatten(),
                fc=nn.Linear(768, num_classes),
            )
        )

    def schedule(self, progress: float) -> None:
        """ScheduledDropPath: the shares dropped are `progress` (0 at the start of training, 1 at its end) of what
        they are at the end. Until it is called they are that throughout."""
        cells = [module for module in self.modules() if isinstance(module, Cell)]
        for count, cell in enumerate(cells, start=1):
            cell.drop_path.p = min(max(progress, 0.0), 1.0) * self.drop_path * count / len(cells)


def _from_timm(cells: int) -> KeyMap:
    names = [("cell_stem_0", "cells1.reductions.0"), ("cell_stem_1", "cells1.reductions.1")]
    names += [("reduction_cell_0", "cells2.reductions.0"), ("reduction_cell_1", "cells3.reductions.0")]
    names += [(f"cell_{i}", f"cells{i // cells + 1}.normals.{i % cells}") for i in range(3 * cells)]
    rules = [(r"conv0\.conv\.", "stem.conv."), (r"conv0\.bn\.", "stem.norm."), (r"last_linear\.", "head.fc.")]
    for theirs, ours in names:
        ours = f"stages.{ours}"
        rules += [
            (rf"{theirs}\.conv_1x1\.conv\.", f"{ours}.squeeze.conv."),
            (rf"{theirs}\.conv_1x1\.bn\.", f"{ours}.squeeze.norm."),
            (rf"{theirs}\.conv_prev_1x1\.conv\.", f"{ours}.fit.conv."),
            (rf"{theirs}\.conv_prev_1x1\.bn\.", f"{ours}.fit.norm."),
            (rf"{theirs}\.path_(\d)\.conv\.", rf"{ours}.fit.path\1."),
            (rf"{theirs}\.final_path_bn\.", f"{ours}.fit.norm."),
            (
                rf"{theirs}\.comb_iter_(\d)_(left|right)\.separable_(\d)\.(depthwise|pointwise)_conv2d\.",
                rf"{ours}.\2.\1.conv\3.\4.",
            ),
            (rf"{theirs}\.comb_iter_(\d)_(left|right)\.bn_sep_(\d)\.", rf"{ours}.\2.\1.norm\3."),
        ]
    return rename(*rules)


def _register(name: str, idea: str, pixels: int, params: int, macs: int, alias: str) -> None:
    size = SIZES[name]
    spec = Spec(
        name=f"nasnet_{name}",
        idea=idea,
        title="Learning Transferable Architectures for Scalable Image Recognition",
        year=2017,
        link="https://arxiv.org/abs/1707.07012",
        table="Figures 2 and 4",
        input_shape=(3, pixels, pixels),
        params=params,
        macs=macs,
        aliases=(alias,),
    )

    def build(
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        auxiliary: bool = True,
        dropout: float | None = None,
        drop_path: float | None = None,
    ) -> NASNet:
        """`drop_path` (0 in the mobile network, 0.3 in the large one): the share of pictures for which an operation
        of the last cell is dropped while training; cells in front of it drop less."""
        shares = DROPOUT if dropout is None else dropout, size.drop_path if drop_path is None else drop_path
        return NASNet(size, num_classes, in_channels, auxiliary, *shares)

    build.__name__ = build.__qualname__ = spec.name
    # timm has the large one only.
    register(spec, {"timm": _from_timm(size.cells)} if name == "large" else {})(build)


_register(
    "mobile",
    "A cell found by search, copied: NASNet-A 4 @ 1056, for telephones.",
    224, 5_289_978, 563_638_816, "nasnetamobile",
)  # fmt: skip
_register(
    "large",
    "The same searched cells, more of them and wider: NASNet-A 6 @ 4032.",
    331, 88_753_150, 23_783_414_658, "nasnetalarge",
)  # fmt: skip
