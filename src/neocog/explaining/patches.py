"""What makes a channel of a layer answer most, in a set of pictures, and which pixels of it the channel read.

Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, arXiv:1311.2901, figure 2: for
each channel the strongest unit of each of nine pictures, cut out as far as the unit sees, and beside it what comes back
from this unit alone through the network, with the pools' switches and ReLUs as in section 2.1.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from neocog.core.errors import UsageError
from neocog.costs.cost import cost
from neocog.costs.table import ReceptiveField
from neocog.explaining.cam import grid_of
from neocog.explaining.rectified import Rectified, Rule
from neocog.explaining.taps import Tapped, one_picture, resolve, untouched

Box = tuple[int, int, int, int]  # top, left, bottom, right in pixels; the last two not included


class Patch(NamedTuple):
    """`picture`: its number in the set. `value`: of the unit at `position` (row, column) of the channel's map. `box`:
    the pixels that it sees."""

    picture: int
    value: float
    position: tuple[int, int]
    box: Box


def strongest(
    network: nn.Module, pictures: Iterable[tuple[Tensor, Tensor]], layer: str, *, most: int = 9
) -> list[list[Patch]]:  # fmt: skip
    """Of each channel the patches of the `most` pictures that excite it most, the strongest first, one of a picture.
    `pictures`: batches of numbers (B,) and normalised floats (B, C, H, W), read once. UsageError where the layer has no
    maps."""
    return strongest_of(network, pictures, [layer], most=most)[layer]


def strongest_of(
    network: nn.Module, pictures: Iterable[tuple[Tensor, Tensor]], layers: Iterable[str], *, most: int = 9
) -> dict[str, list[list[Patch]]]:  # fmt: skip
    """`strongest` of several layers, in one pass over the pictures."""
    names = {layer: resolve(network, layer) for layer in layers}
    best = {name: Best(most) for name in names.values()}
    shape: tuple[int, ...] = ()
    with untouched(network), torch.no_grad(), Tapped(network, best) as taps:
        for which, x in pictures:
            if not len(x):
                continue
            network(x.clone())
            shape = tuple(x.shape[1:])
            for name, kept in best.items():
                kept.add(which, grid_of(taps[name], name))
            taps.calls.clear()
    if not shape:
        raise UsageError("there are no pictures to look at", "give at least one")
    return {layer: best[name].patches(field_of(network, shape, name), shape) for layer, name in names.items()}


class Best:
    """Of each channel of one layer the strongest units, one of a picture."""

    def __init__(self, most: int) -> None:
        self.most, self.width = most, 1
        self.values: Tensor | None = None  # (C, most), and what belongs to them
        self.places = self.numbers = torch.empty(0, dtype=torch.long)

    def add(self, which: Tensor, maps: Tensor) -> None:
        """Numbers (B,) of pictures, and their (B, C, h, w)."""
        self.width = maps.shape[3]
        values, places = (found.T for found in maps.flatten(2).max(2))  # (C, B)
        numbers = which.to(maps.device)[None].expand(maps.shape[1], -1)
        if self.values is not None:
            values, places = torch.cat([self.values, values], 1), torch.cat([self.places, places], 1)
            numbers = torch.cat([self.numbers, numbers], 1)
        values, order = values.sort(stable=True, dim=1, descending=True)
        self.values = values[:, : self.most]
        self.places, self.numbers = (kept.gather(1, order)[:, : self.most] for kept in (places, numbers))

    def patches(self, field: ReceptiveField | None, shape: tuple[int, ...]) -> list[list[Patch]]:
        assert self.values is not None
        rows = zip(self.values.tolist(), self.places.tolist(), self.numbers.tolist(), strict=True)
        return [
            [
                Patch(n, v, divmod(p, self.width), box_of(field, divmod(p, self.width), shape))
                for v, p, n in zip(*row, strict=True)
            ]
            for row in rows
        ]


def field_of(network: nn.Module, shape: tuple[int, ...], name: str) -> ReceptiveField | None:
    """What units of a layer see of pictures of `shape` (C, H, W); None where that could not be followed."""
    with torch.inference_mode(False):  # in it, views are followed no more
        known = cost(network, shape).rows
    rows = [row for row in known if row.name == name or row.name.startswith(f"{name}.")]
    return rows[-1].field if rows else None


def box_of(field: ReceptiveField | None, position: tuple[int, int], shape: tuple[int, ...]) -> Box:
    """The pixels that the unit at `position` sees, cut at the picture's borders: all where that is not known."""
    low, high = [], []
    for axis, (place, side) in enumerate(zip(position, shape[1:], strict=True)):
        extent = None if field is None else field.largest[axis]
        stride, offset = (None, None) if field is None else (field.stride[axis], field.offset[axis])
        if not isinstance(extent, int) or stride is None or offset is None:
            low.append(0)
            high.append(side)
            continue
        start = offset + place * stride - (extent - 1) / 2
        low.append(max(0, int(start // 1)))
        high.append(min(side, int(-(-(start + extent) // 1))))
    return low[0], low[1], high[0], high[1]


def read(
    network: nn.Module, x: Tensor, layer: str, channel: int, position: tuple[int, int], rule: Rule = "deconvolution"
) -> Tensor:  # fmt: skip
    """(C, H, W): what comes back to the picture `x` (1, C, H, W) from one unit alone. Where no max pool keeps switches
    deconvolution does not depend on the picture, and "guided" shows more (Springenberg et al., see rectified.py)."""
    one_picture(x)
    name = resolve(network, layer)
    with untouched(network), Rectified(rule), Tapped(network, [name]) as taps:
        x = x.detach().clone().requires_grad_()
        network(x.clone())
        maps = grid_of(taps[name], name)
        if not 0 <= channel < maps.shape[1]:
            raise UsageError(f"{name} has no channel {channel}", f"its channels are 0 to {maps.shape[1] - 1}")
        if not all(0 <= place < side for place, side in zip(position, maps.shape[2:], strict=True)):
            sides = ", ".join(f"0 to {side - 1}" for side in maps.shape[2:])
            raise UsageError(f"{name} has no position {tuple(position)}", f"its positions are ({sides})")
        unit = maps[0, channel, position[0], position[1]]
        if not unit.requires_grad:
            raise UsageError(f"{name} does not depend on the picture", "name another layer")
        (found,) = torch.autograd.grad(unit, x, unit.detach())
    return found[0]
