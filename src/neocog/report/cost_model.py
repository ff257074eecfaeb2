"""What the cost page can say, as plain data: networks, their layers, what training takes, and the published zoo.

Units are those of the cost table: memory in KiB for one picture, MACs (multiply-accumulates) for one
picture, receptive field, stride and offset in input pixels, one entry per axis (height, width). Names may hold
anything; the page escapes them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

Shape = Sequence[int]

FEW = 8  # bars that say too little


@dataclass(frozen=True)
class CostRow:
    """One call of one layer. Fields are named as in the cost table's plain rows; None where there is none."""

    name: str  # "stages.layer1.0.conv1"
    kind: str  # "Conv2d"; "" for several layers folded into one row
    in_shape: Shape  # without the batch: (C, H, W)
    out_shape: Shape
    memory_kib: float  # of the output
    written_kib: float  # what the layer newly writes: 0 for a view, more than the output with tensors of its own
    params: int
    macs: int
    other_ops: int = 0  # comparisons, additions, exponentials: not part of MACs
    kernel: Shape | None = None
    layer_stride: Shape | None = None
    padding: Shape | None = None
    dilation: Shape | None = None
    groups: int | None = None
    receptive_field: Sequence[int | str] | None = None  # largest over all paths; "whole" where an axis is seen whole
    smallest_field: Sequence[int | str] | None = None
    stride: Sequence[float | None] | None = None  # input pixels from one unit to the next
    offset: Sequence[float | None] | None = None  # input pixel on which the first unit is centred
    field_lost_at: str = ""  # the operation after which the field could not be followed
    unknown: Sequence[str] = ()  # operations without a formula
    calls: int = 1  # layers in a folded row


@dataclass(frozen=True)
class CostTraining:
    """Memory at the peak of one training step, by what it is for, and what it must fit into. Bytes.

    `largest_batch` None: not known; 0: not even one picture fits.
    """

    batch: int
    optimizer: str
    precision: str
    parameters: int
    gradients: int
    optimizer_state: int
    saved_activations: int  # outputs kept for the backward pass
    inputs: int = 0  # the batch's pictures and labels
    rest: int = 0  # temporaries of the worst moment
    limit: int | None = None  # what the device has
    limit_name: str = ""  # "the memory of this machine", "GPU 0 (RTX 3060)"
    largest_batch: int | None = None
    seconds_per_epoch: float | None = None
    pictures: int | None = None  # of an epoch
    notes: tuple[str, ...] = ()

    @property
    def peak(self) -> int:
        """All parts together."""
        kept = self.parameters + self.gradients + self.optimizer_state
        return kept + self.saved_activations + self.inputs + self.rest

    @property
    def fits(self) -> bool | None:
        """None where no limit is known."""
        return None if self.limit is None else self.peak <= self.limit


@dataclass(frozen=True)
class CostNetwork:
    """A network, its sums and its layers in the order in which they ran.

    `partial`: operations without a formula; where there are any, MACs are a lower bound.
    """

    name: str
    input_shapes: tuple[Shape, ...]
    dtype: str
    params: int
    macs: int
    memory_kib: float  # what all layers write
    rows: tuple[CostRow, ...]
    receptive_field: Sequence[int | str] | None = None
    other_ops: int = 0
    unused_params: int = 0
    partial: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    training: CostTraining | None = None
    idea: str = ""
    paper: str = ""
    year: int | None = None
    link: str = ""  # printed as text

    @property
    def flops(self) -> int:
        """Two per multiply-accumulate."""
        return 2 * self.macs


@dataclass(frozen=True)
class ZooPoint:
    """A published network: `top1` is ImageNet validation accuracy in percent."""

    name: str
    macs: int
    params: int
    top1: float
    year: int | None = None


@dataclass(frozen=True)
class CostPage:
    """What one call of `neocog cost` answers."""

    title: str
    networks: tuple[CostNetwork, ...]
    zoo: tuple[ZooPoint, ...] = ()
    created: str = ""
    command: str = ""


@dataclass(frozen=True)
class Folded:
    """Rows few enough to draw, and one sentence on what was put together; "" where nothing was."""

    rows: tuple[CostRow, ...]
    how: str = ""


def fold(rows: Sequence[CostRow], limit: int) -> Folded:
    """At most `limit` rows with the same sums: whole modules where names allow, else runs of neighbours.

    Modules are cut at one depth of their names, the deepest that stays within `limit`, so that bars compare like
    with like. Only where that leaves very few, the dearest of them are opened once more.
    """
    if len(rows) <= limit:
        return Folded(tuple(rows))
    deepest = max(row.name.count(".") for row in rows) + 1
    for depth in range(deepest, 0, -1):
        groups = _modules(rows, depth)
        if len(groups) <= limit:
            break
    else:
        step = -(-len(rows) // limit)
        runs = [rows[i : i + step] for i in range(0, len(rows), step)]
        folded = tuple(_together(run, f"{run[0].name} … {run[-1].name}") for run in runs)
        return Folded(folded, f"{len(rows):,} layers drawn as {len(folded):,} runs of up to {step} neighbours, summed.")
    if len(groups) < FEW:
        for group in sorted(groups, key=lambda group: -_share(group, rows)):
            parts = _modules(group[1], depth + 1)
            if len(groups) - 1 + len(parts) <= limit:
                at = groups.index(group)
                groups[at : at + 1] = parts
    folded = tuple(_together(group, name) for name, group in groups)
    return Folded(folded, f"{len(rows):,} layers drawn as {len(folded):,} modules, the sum of each.")


Group = tuple[str, list[CostRow]]


def _modules(rows: Sequence[CostRow], depth: int) -> list[Group]:
    """Neighbours whose names begin with the same `depth` parts."""
    groups: list[Group] = []
    for row in rows:
        name = ".".join(row.name.split(".")[:depth])
        if groups and groups[-1][0] == name:
            groups[-1][1].append(row)
        else:
            groups.append((name, [row]))
    return groups


def _share(group: Group, rows: Sequence[CostRow]) -> float:
    """The largest of a group's three shares: of memory, of parameters, of MACs."""
    return max(mine / (every or 1) for mine, every in zip(_sums(group[1]), _sums(rows), strict=True))


def _sums(rows: Sequence[CostRow]) -> tuple[float, float, float]:
    return sum(row.written_kib for row in rows), sum(row.params for row in rows), sum(row.macs for row in rows)


def _together(rows: Sequence[CostRow], name: str) -> CostRow:
    """Neighbours as one row, from the input of the first to the output of the last."""
    first, last = rows[0], rows[-1]
    if first is last:
        return first
    return replace(
        last, name=name, kind="", in_shape=first.in_shape,
        memory_kib=sum(row.memory_kib for row in rows), written_kib=sum(row.written_kib for row in rows),
        params=sum(row.params for row in rows),
        macs=sum(row.macs for row in rows), other_ops=sum(row.other_ops for row in rows),
        kernel=None, layer_stride=None, padding=None, dilation=None, groups=None,
        unknown=tuple(dict.fromkeys(word for row in rows for word in row.unknown)),
        calls=sum(row.calls for row in rows),
    )  # fmt: skip
