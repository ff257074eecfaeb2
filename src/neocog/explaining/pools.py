"""The windows of a pool, and the one that a number belongs to."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

WHOLE = {"mean", "amax"}  # over rows and columns
POOLS = {"max_pool2d", "avg_pool2d", "adaptive_max_pool2d", "adaptive_avg_pool2d"} | WHOLE
ARGUMENTS = ("input", "kernel_size", "stride", "padding", "dilation")
MEAN = (*ARGUMENTS[:4], "ceil_mode", "count_include_pad", "divisor_override")

Index = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Pooling:
    """The window of a pool that a number belongs to; of several that overlap the first that took it, or the first."""

    kind: str  # "max_pool2d", "mean", ... as torch calls it
    window: Tensor  # (kh, kw) float64; where there is no picture -inf for a maximum and 0 for a mean
    inside: Tensor  # (kh, kw) bool: False where there is no picture
    rows: tuple[int, ...]  # of the map that is pooled, one for each row of the window
    columns: tuple[int, ...]
    position: tuple[int, int]  # of the result
    result: float
    taken: bool | None  # whether the number is the one that a maximum took (of equal ones the first); None: a mean
    divisor: int | None  # by which a mean divides the window's sum: without the padding, where it does not count


def named(names: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    return dict(zip(names, args, strict=False)) | kwargs


def pair(value: Any) -> tuple[int, int]:
    """2, (2,) or (2, 3), as torch's functions take them."""
    if isinstance(value, int):
        return value, value
    return int(value[0]), int(value[-1])


def is_pool(name: str, before: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """A mean or a maximum is one where it is taken over rows and columns."""
    if name not in POOLS or before.dim() != 4:
        return False
    dims = named(("input", "dim"), args, kwargs).get("dim")
    return name not in WHOLE or (isinstance(dims, list | tuple) and sorted(d % 4 for d in dims) == [2, 3])


def pooling(
    name: str, before: Tensor, after: Tensor, index: Index, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Pooling | None:
    """`index`: of the number in `before`, (B, C, H, W). None where no window reads it."""
    given, maps, maximum = (
        named(MEAN if name == "avg_pool2d" else ARGUMENTS, args, kwargs),
        before[index[:2]].double().cpu(),
        "max" in name,
    )
    counts = (1, 1) if name in WHOLE else after.shape[2:]
    down, across = (_windows(name, given, axis, maps.shape[axis], counts[axis]) for axis in (0, 1))
    found = None
    for i, rows in ((i, rows) for i, rows in enumerate(down) if index[2] in rows):
        for j, columns in ((j, columns) for j, columns in enumerate(across) if index[3] in columns):
            window, inside = taken_from(maps, rows, columns, float("-inf") if maximum else 0.0)
            own = rows.index(index[2]) * len(columns) + columns.index(index[3])
            took = int(window.argmax()) == own if maximum else None
            result = float(after[(*index[:2], i, j) if after.dim() == 4 else index[:2]])
            shared = None if maximum else _divisor(name, given, inside, (rows, columns), maps.shape)
            pooled = Pooling(name, window, inside, tuple(rows), tuple(columns), (i, j), result, took, shared)
            if took:
                return pooled
            found = found or pooled
    return found


def taken_from(
    maps: Tensor, rows: Sequence[int | None], columns: Sequence[int | None], outside: float
) -> tuple[Tensor, Tensor]:
    """The numbers of (..., H, W) where rows and columns meet, and (kh, kw) bool: False, and `outside` for a number,
    where there is no such row or column."""
    places, masks = [], []
    for wanted, size in zip((rows, columns), maps.shape[-2:], strict=True):
        masks.append(torch.tensor([i is not None and 0 <= i < size for i in wanted]))
        places.append(torch.tensor([min(max(i or 0, 0), size - 1) for i in wanted]))
    inside = masks[0][:, None] & masks[1]
    numbers = maps[..., places[0][:, None], places[1]]
    return numbers.where(inside, torch.full_like(numbers, outside)), inside


def _divisor(
    name: str, given: dict[str, Any], inside: Tensor, window: tuple[range, range], sides: Sequence[int]
) -> int:
    """Padding counts where it is asked for (the default); what hangs over beyond it, in ceil mode, never."""
    if name != "avg_pool2d" or not given.get("count_include_pad", True):
        count = int(inside.sum())
    else:
        ends = (side + pair(given.get("padding", 0))[axis] for axis, side in enumerate(sides))
        count = math.prod(min(places.stop, end) - places.start for places, end in zip(window, ends, strict=True))
    return int(given.get("divisor_override") or count)


def _windows(name: str, given: dict[str, Any], axis: int, size: int, count: int) -> list[range]:
    """The rows (axis 0) or columns (1) of each window."""
    if name in WHOLE or name.startswith("adaptive"):
        return [range(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]
    kernel = pair(given["kernel_size"])[axis]
    stride = pair(given.get("stride") or given["kernel_size"])[axis]
    dilation = pair(given.get("dilation", 1))[axis]
    first = -pair(given.get("padding", 0))[axis]
    return [range(i, i + kernel * dilation, dilation) for i in range(first, first + count * stride, stride)]
