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
from neocog.explaining.taps import Tapped, resolve, untouched

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
    name = resolve(network, layer)
    best: Tensor | None = None  # (C, most) values, and what belongs to them
    where = numbers = torch.empty(0, dtype=torch.long)
    shape: tuple[int, ...] = ()
    with untouched(network), torch.no_grad(), Tapped(network, [name]) as taps:
        for which, x in pictures:
            network(x)
            maps = grid_of(taps[name], name)
            taps.calls.clear()
            shape, width = tuple(x.shape[1:]), maps.shape[3]
            values, places = maps.flatten(2).max(2)  # (B, C)
            names = which.to(maps.device)[None].expand(maps.shape[1], -1)
            if best is None:
                best, where, numbers = values.T, places.T, names
            else:
                best, where = torch.cat([best, values.T], 1), torch.cat([where, places.T], 1)
                numbers = torch.cat([numbers, names], 1)
            best, order = best.sort(stable=True, dim=1, descending=True)
            best = best[:, :most]
            where, numbers = where.gather(1, order)[:, :most], numbers.gather(1, order)[:, :most]
    if best is None:
        raise UsageError("there are no pictures to look at", "give at least one")
    field = field_of(network, shape, name)
    rows = zip(best.tolist(), where.tolist(), numbers.tolist(), strict=True)
    return [
        [Patch(n, v, divmod(p, width), box_of(field, divmod(p, width), shape)) for v, p, n in zip(*row, strict=True)]
        for row in rows
    ]


def field_of(network: nn.Module, shape: tuple[int, ...], name: str) -> ReceptiveField | None:
    """What units of a layer see of pictures of `shape` (C, H, W); None where that could not be followed."""
    rows = [row for row in cost(network, shape).rows if row.name == name or row.name.startswith(f"{name}.")]
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
    name = resolve(network, layer)
    x = x.detach().requires_grad_()
    with untouched(network), Rectified(rule), Tapped(network, [name]) as taps:
        network(x)
        maps = grid_of(taps[name], name)
        if not 0 <= channel < maps.shape[1]:
            raise UsageError(f"{name} has no channel {channel}", f"its channels are 0 to {maps.shape[1] - 1}")
        unit = maps[0, channel, position[0], position[1]]
        (found,) = torch.autograd.grad(unit, x, unit.detach())
    return found[0]
