"""The cost of a network as a table: one row per layer call, and the sums that a person asks for first.

Units are fixed: memory in KiB (1024 bytes) of one picture's output; MACs are multiply-accumulates of convolutions
and matrix products for one picture, and a MAC is two FLOPs; receptive field, stride and offset are in input pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from neocog.core.cells import to_cell

Shape = tuple[int, ...]

WHOLE = "whole"  # an axis of the picture of which everything is seen, whatever its length


@dataclass(frozen=True)
class Window:
    """What a convolution or pool slides over its input, one number per axis."""

    kernel: Shape
    stride: Shape
    padding: Shape
    dilation: Shape
    groups: int = 1
    transposed: bool = False


Extent = int | str  # pixels, or WHOLE


@dataclass(frozen=True)
class ReceptiveField:
    """What one unit of a layer's output sees of the picture, one entry per axis (height, width). Channels are not told
    apart: where they see differently, the largest field is that of the channel that sees most.

    `largest` and `smallest` are the extents in pixels over all paths to the unit, as if the picture had no borders;
    WHOLE where an axis is seen from end to end, whatever its length. `stride` ("jump"): input pixels from one unit to
    the next. `offset`: the pixel, counted from 0, on which the first unit is centred; with padding it is near 0 even
    for deep layers. None where nothing is left of that axis (a vector has no neighbours).
    """

    largest: tuple[Extent, ...]
    smallest: tuple[Extent, ...]
    stride: tuple[Fraction | None, ...]
    offset: tuple[Fraction | None, ...]


@dataclass(frozen=True)
class Row:
    """One call of one layer, or one operation that a module performs itself, outside of its layers.

    Shapes are those of one picture: (C, H, W), or (K,), or (N, D) for tokens. `other_ops`: arithmetic that is no
    multiply-accumulate (a comparison, addition or exponential per number; a pool's window times its outputs), by
    convention not part of MACs or FLOPs. `memory_kib` is the output's size; `written_kib` is what the layer newly
    writes: 0 for views and in-place layers, more than the output where a layer has tensors of its own, as attention
    has. `field` None: no picture reaches the layer, or `lost` names the operation that could not be followed.
    """

    name: str  # the module's path: "stages.layer1.0.conv1"; operations add their own: "layer1.0.add"
    kind: str  # the module's class ("Conv2d") or the operation ("add")
    in_shape: Shape
    out_shape: Shape
    memory_kib: float
    written_kib: float
    params: int  # those not counted in an earlier row
    macs: int
    other_ops: int
    window: Window | None = None
    field: ReceptiveField | None = None
    lost: str = ""
    unknown: tuple[str, ...] = ()  # operations in it that have no formula
    calls: int = 1  # more than one only in a folded table

    @property
    def flops(self) -> int:
        """Two per multiply-accumulate."""
        return 2 * self.macs

    @property
    def receptive_field(self) -> tuple[Extent, ...] | None:
        """(height, width) in pixels, or "whole" per axis: the largest over all paths."""
        return None if self.field is None else self.field.largest

    @property
    def stride(self) -> tuple[float | None, ...] | None:
        return None if self.field is None else tuple(None if s is None else float(s) for s in self.field.stride)

    @property
    def offset(self) -> tuple[float | None, ...] | None:
        return None if self.field is None else tuple(None if s is None else float(s) for s in self.field.offset)


@dataclass(frozen=True)
class CostTable:
    """`cost()`'s answer. `rows` in the order in which the layers ran."""

    name: str
    input_shapes: tuple[Shape, ...]  # without the batch
    dtype: str  # of the layers' outputs: "float32"
    rows: tuple[Row, ...]
    params: int  # shared ones once, unused ones too
    unused_params: int = 0  # parameters that no layer touched in this pass
    buffers_kib: float = 0.0
    notes: tuple[str, ...] = ()  # what a careful reader must know: branches that do not meet, what was assumed

    @property
    def macs(self) -> int:
        return sum(row.macs for row in self.rows)

    @property
    def flops(self) -> int:
        return 2 * self.macs

    @property
    def other_ops(self) -> int:
        return sum(row.other_ops for row in self.rows)

    @property
    def memory_kib(self) -> float:
        """What all layers together write for one picture; training needs more, see TrainingMemory."""
        return sum(row.written_kib for row in self.rows)

    @property
    def partial(self) -> tuple[str, ...]:
        """Operations without a formula, for instance "torchvision::deform_conv2d". Empty: the totals are whole."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.unknown))

    @property
    def receptive_field(self) -> tuple[Extent, ...] | None:
        """The largest field of the last layer whose units still lie on a grid: what one place of it can see. None
        where the field was lost on the way."""
        for row in reversed(self.rows):
            if row.lost:
                return None
            if row.field is not None and None not in row.field.stride:
                return row.field.largest
        return None

    def fold(self, depth: int) -> "CostTable":
        """The same table with one row per module at most `depth` names deep: `fold(1)` has stem, stages and head."""
        if depth < 1:
            raise ValueError(f"depth must be at least 1, not {depth}")
        folded: list[Row] = []
        for row in self.rows:
            name = ".".join(row.name.split(".")[:depth])
            if folded and folded[-1].name == name and "." in row.name[len(name) :] + ".":
                folded[-1] = _together(folded[-1], row)
            else:
                folded.append(row if name == row.name else replace(row, name=name, kind="", window=None))
        return replace(self, rows=tuple(folded))

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON: fractions as floats, shapes as lists."""
        return {
            "name": self.name, "input_shapes": [list(s) for s in self.input_shapes], "dtype": self.dtype,
            "params": self.params, "unused_params": self.unused_params, "macs": self.macs, "flops": self.flops,
            "other_ops": self.other_ops, "memory_kib": self.memory_kib, "buffers_kib": self.buffers_kib,
            "receptive_field": None if self.receptive_field is None else list(self.receptive_field),
            "partial": list(self.partial), "notes": list(self.notes), "rows": [flat(row) for row in self.rows],
        }  # fmt: skip

    def to_csv(self) -> str:
        """One line per row, after the network's name; lists are joined by "x"."""
        return to_csv([self])


def to_csv(tables: Sequence[CostTable]) -> str:
    """The rows of several networks in one table."""
    rows = [{"network": table.name, **flat(row)} for table in tables for row in table.rows]
    lines = [rows[0], *(row.values() for row in rows)] if rows else []
    return "".join(",".join(_cell(value) for value in line) + "\n" for line in lines)


def flat(row: Row) -> dict[str, Any]:
    """A row as plain names and values."""
    window, seen = row.window, row.field
    return {
        "name": row.name, "kind": row.kind, "calls": row.calls,
        "in_shape": list(row.in_shape), "out_shape": list(row.out_shape),
        "kernel": window and list(window.kernel), "layer_stride": window and list(window.stride),
        "padding": window and list(window.padding), "dilation": window and list(window.dilation),
        "groups": window and window.groups,
        "memory_kib": row.memory_kib, "written_kib": row.written_kib,
        "params": row.params, "macs": row.macs, "flops": row.flops, "other_ops": row.other_ops,
        "receptive_field": seen and list(seen.largest), "smallest_field": seen and list(seen.smallest),
        "stride": row.stride and list(row.stride), "offset": row.offset and list(row.offset),
        "field_lost_at": row.lost, "unknown": list(row.unknown),
    }  # fmt: skip


def _together(first: Row, then: Row) -> Row:
    """Two neighbours as one row that goes from the input of the first to the output of the second."""
    return replace(
        first, kind="", out_shape=then.out_shape, memory_kib=then.memory_kib,
        written_kib=first.written_kib + then.written_kib, params=first.params + then.params,
        macs=first.macs + then.macs, other_ops=first.other_ops + then.other_ops,
        window=None, field=then.field, lost=then.lost,
        unknown=tuple(dict.fromkeys(first.unknown + then.unknown)), calls=first.calls + then.calls,
    )  # fmt: skip


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        value = "x".join("-" if v is None else f"{v:g}" if isinstance(v, float) else str(v) for v in value)
    return to_cell(value) if isinstance(value, str) else repr(value)
