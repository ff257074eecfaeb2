"""What a tensor's units see when several paths lead to them, and what is said of it in the table.

The largest field is the hull of all paths; the smallest is that of the narrowest one. Branches whose units do not lie
on the same pixels (other strides, or centres that are apart) are united all the same, and named.
"""

from collections.abc import Callable, Iterable
from fractions import Fraction

from neocog.costs.field import FieldLost, Path
from neocog.costs.steps import Span
from neocog.costs.table import WHOLE, Extent, ReceptiveField

MOST = 8  # paths of one tensor that end in different dimensions, before the field is given up

Axis = tuple[Path, ...] | str  # the paths along one axis of the picture, or the operation at which they were lost
Field = tuple[Axis, ...]  # one per axis of the picture


def unite(paths: Iterable[Path], misaligned: Callable[[str], None]) -> tuple[Path, ...]:
    """Paths to the same units (their dimensions have the same sizes) as few paths."""
    groups: dict[object, Path] = {}
    whole = False
    for path in map(Path.tidy, paths):
        key = path.plain().dims  # windows of units meet the units themselves
        before = groups.get(key)
        if before is not None and before.dims != path.dims:
            before, path = before.plain(), path.plain()
        groups[key] = path if before is None else _both(before, path, misaligned)
        whole = whole or path.largest is None
    united = list(groups.values())
    if whole:
        seen_elsewhere = [path for path in united if not (path.single and path.largest is path.smallest is None)]
        united = [Path(path.dims, None, path.smallest, path.hull) for path in seen_elsewhere or united[:1]]
    if len(united) > MOST:
        raise FieldLost
    return tuple(united)


def _both(one: Path, other: Path, misaligned: Callable[[str], None]) -> Path:
    largest: Span | None = None
    if one.largest is not None and other.largest is not None:
        largest = _hull(one.largest, other.largest, misaligned)
    smallest = min((one.smallest, other.smallest), key=lambda span: float("inf") if span is None else span.size)
    hulls = [path.hull for path in (one, other) if path.hull is not None]
    hull = (min(low for low, _ in hulls), max(high for _, high in hulls)) if hulls else None
    return Path(one.dims, largest, smallest, hull)


def _hull(one: Span, other: Span, misaligned: Callable[[str], None]) -> Span:
    if one.stride != other.stride:
        misaligned(f"strides of {pixels(one.stride)} and {pixels(other.stride)} meet")
        return max(one, other, key=lambda span: span.size)
    apart = abs(one.offset - other.offset)
    # Windows and upsampled units are centred unevenly by nature; then less than a stride is no fault.
    if apart > (0 if one.even and other.even else one.stride) and one.stride:
        misaligned(f"centres {pixels(apart)} apart meet")
    return one.with_(other)


def pixels(length: Fraction) -> str:
    return f"{float(length):g} pixel{'' if length == 1 else 's'}"


def describe(field: Field) -> tuple[ReceptiveField | None, str]:
    """(what the table says, or None; the operation at which the first lost axis was lost)."""
    lost = next((axis for axis in field if isinstance(axis, str)), "")
    if lost:
        return None, lost
    axes = [_describe(axis) for axis in field if not isinstance(axis, str)]
    largest, smallest, stride, offset = zip(*axes, strict=True)
    return ReceptiveField(largest, smallest, stride, offset), ""


def _describe(paths: tuple[Path, ...]) -> tuple[Extent, Extent, Fraction | None, Fraction | None]:
    largest = [path.largest for path in paths]
    smallest = [path.smallest for path in paths]
    grid = [path.largest or path.smallest for path in paths if not path.single]
    known = grid[0] if len(grid) == 1 and grid[0] is not None and grid[0].stride else None
    return (
        WHOLE if None in largest else max(span.size for span in largest if span is not None),
        min((span.size for span in smallest if span is not None), default=WHOLE),
        None if known is None else known.stride,
        None if known is None else known.offset,
    )
