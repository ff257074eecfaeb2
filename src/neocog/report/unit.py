"""The page of one number of a network: what it reads, the products, their sum, and what becomes of it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from neocog.report.page import _environment
from neocog.report.pencil import DIGITS, carried, decimals, rounded, shown
from neocog.report.unit_words import Step, Told, named, reading, steps

WHOLE = 4  # input channels up to which all are shown in full
FULL = 3  # of more, those of the largest sums
WIDE = 5  # columns up to which cells have all digits
BARE = {"padding": "0", "hole": "–"}  # how a zero of these is written
LISTED = 12  # products of kernels of one number


@dataclass(frozen=True)
class Ending:
    """The one number of the network's output that the unit has a part in, `value` there: the score of the class `name`,
    with its `probability` where answers are a softmax of scores; or of the colour `name` a `pixel` given back."""

    name: str
    value: float
    probability: float | None = None
    pixel: tuple[int, int] | None = None


@dataclass(frozen=True)
class UnitPage:
    """`unit`: as neocog.explaining.plain tells it. `chosen`: by which rule, where the place was not asked for. `box`:
    (top, left, bottom, right) of the pixels that it sees; None where that is not known."""

    file: str
    origin: str  # of the weights, in words
    model: str
    created: str
    seen: bytes  # the picture as the network sees it
    size: tuple[int, int]  # its height and width
    box: tuple[int, int, int, int] | None
    unit: Mapping[str, Any]
    map: bytes | None  # the channel's numbers, each a pixel; None where they lie on no grid
    map_size: tuple[int, int] = (1, 1)
    map_range: tuple[float, float] = (0.0, 0.0)
    place: tuple[int, int] | None = None  # its row and column in the map; None for a class token, which has none
    chosen: str = ""
    normalised: bool = False  # whether the layer reads the picture itself
    colours: tuple[str, ...] = ()  # then: of its channels
    ending: Ending | None = None  # None where the network goes on to mix the number with others
    classes: int = 0


@dataclass(frozen=True)
class Cell:
    text: str
    strength: float  # 0..1, of the largest of its kind
    sign: str  # "plus", "minus", or ""
    note: str = ""  # "padding", "hole", "winner", "own"


@dataclass(frozen=True)
class Matrix:
    name: str
    columns: list[str]
    rows: list[tuple[str, list[Cell]]]


def render_unit(page: UnitPage) -> str:
    """The HTML, self-contained."""
    unit = page.unit
    sums = [sum(map(sum, products)) for products in unit["products"]]
    order = sorted(range(len(sums)), key=lambda c: -abs(sums[c]))
    single = len(unit["kernel"][0]) * len(unit["kernel"][0][0]) == 1
    full = sorted(order[:LISTED] if single else order if len(order) <= WHOLE else order[:FULL])
    digits = DIGITS if len(unit["kernel"][0][0]) <= WIDE else DIGITS - 1
    channels = [
        (
            c + unit["first_channel"],
            page.colours[c] if page.colours else named(unit, c),
            matrices(unit, c, full, digits),
        )
        for c in full
    ]
    places, taken = decimals(flat(unit["products"][c] for c in full), digits), steps(unit)
    return (
        _environment()
        .get_template("unit.html.j2")
        .render(p=page, u=unit, single=single, wide=digits < DIGITS, channels=channels,
                a=account(unit, sums, full, places), box=box(page), ring=ring(page),
                hatched=not all(map(all, unit["inside"])),
                reading=reading(unit), steps=taken, pool=pool(unit), whole=whole(page, taken))
    )  # fmt: skip


def whole(page: UnitPage, taken: Sequence[Step]) -> bool:
    """Whether the steps lead to what the network gives, so that the number is not only a part of it."""
    last = taken[-1].result if taken else page.unit["output"]
    return (
        page.ending is not None
        and last is not None
        and math.isclose(last, page.ending.value, rel_tol=1e-3, abs_tol=1e-5)
    )


def flat(lines: Iterable[Sequence[Sequence[float]]]) -> list[float]:
    return [n for maps in lines for row in maps for n in row]


def box(page: UnitPage) -> dict[str, Any]:
    """As SVG wants it."""
    top, left, bottom, right = page.box or (0, 0, 0, 0)
    whole = page.box == (0, 0, *page.size)
    return {"left": left, "top": top, "width": right - left, "height": bottom - top, "whole": whole}


def ring(page: UnitPage) -> dict[str, float]:
    """Around the number's place in its map, wide enough to be seen in a large one; nothing without a place."""
    if page.place is None:
        return dict.fromkeys(("left", "top", "width", "height"), 0)
    row, column = page.place
    apart = max(page.map_size) / 60
    return {"left": column - apart, "top": row - apart, "width": 1 + 2 * apart, "height": 1 + 2 * apart}


def account(unit: Told, sums: Sequence[float], full: Sequence[int], places: int) -> dict[str, Any]:
    """The lines that are added, as they are shown, with what rounding leaves: together exactly the sum as shown. Of the
    channels also what their products give as they are shown, where that is not the same."""
    own = {c: rounded(sums[c], places) for c in full}
    seen = {c: sum((rounded(n, places) for n in flat([unit["products"][c]])), Decimal(0)) for c in full}
    lines, others = list[tuple[str, Decimal]](), [total for c, total in enumerate(sums) if c not in full]
    if others:
        name, places_of = "channel" if unit["window"] else "product", len(flat(unit["kernel"][:1]))
        name = f"the other {name}" if len(others) == 1 else f"the other {len(others):,} {name}s together"
        name += f", {len(others) * places_of:,} products" if unit["window"] else ""
        lines.append((name, rounded(sum(others), places)))
    lines.append(("bias", rounded(unit["bias"], places)))
    total = rounded(unit["sum"], places)
    if rest := carried([*own.values(), *(number for _, number in lines)], total):
        lines.append(("rounding of these lines", rest))
    return {
        "channels": [f"{own[c]:f}" for c in full], "seen": [f"{seen[c]:f}" if seen[c] != own[c] else "" for c in full],
        "lines": [(name, f"{number:f}") for name, number in lines], "sum": f"{total:f}",
        "output": shown(unit["output"], places), "difference": f"{abs(unit['output'] - unit['sum']):.1e}",
    }  # fmt: skip


def matrices(unit: Told, channel: int, full: Sequence[int], digits: int) -> list[Matrix]:
    """Patch, kernel and products of one input channel; colours and decimals are those of all that are shown."""
    rows, columns = ([("–" if i is None else str(i)) for i in unit[axis]] or ["0"] for axis in ("rows", "columns"))
    taps = [str(k) for k in range(len(rows))], [str(k) for k in range(len(columns))]
    notes = [
        ["" if there else "hole" if "–" in (row, column) else "padding"
         for column, there in zip(columns, mask, strict=True)]
        for row, mask in zip(rows, unit["inside"], strict=True)
    ]  # fmt: skip
    window = unit["window"]
    bare = BARE | {"padding": BARE["hole"]} if window and window["transposed"] else BARE  # nothing is padded there
    found = []
    for name, down, across in (("patch", rows, columns), ("kernel", *taps), ("products", *taps)):
        among = flat(unit[name][c] for c in full)
        marks = [["" for _ in columns] for _ in rows] if name == "kernel" else notes
        found.append(Matrix(name, list(across), grid(unit[name][channel], down, marks, among, digits, bare)))
    return found


def pool(unit: Told) -> Matrix | None:
    """The window with its winner, or of a mean with the unit's own number marked."""
    told = unit["pooling"]
    if told is None:
        return None
    numbers = [n for row in told["window"] for n in row if n is not None]
    own, best = unit["position"][-2:], max(numbers, default=0.0)
    marks, free = [], told["divisor"] is None
    for row, line, there in zip(told["rows"], told["window"], told["inside"], strict=True):
        marks.append(["" if inside else "padding" for inside in there])
        for j, (column, number) in enumerate(zip(told["columns"], line, strict=True)):
            if free and number == best:
                marks[-1][j], free = "winner", False
            elif [row, column] == list(own) and not told["taken"]:
                marks[-1][j] = "own"
    return Matrix(
        "window", [str(c) for c in told["columns"]], grid(told["window"], map(str, told["rows"]), marks, numbers)
    )


def grid(
    lines: Sequence[Sequence[float | None]],
    names: Iterable[str],
    marks: Sequence[Sequence[str]],
    among: Sequence[float],
    digits: int = DIGITS,
    bare: Mapping[str, str] = BARE,
) -> list[tuple[str, list[Cell]]]:
    """`among`: the numbers whose largest has the deepest colour."""
    places, most = decimals(among, digits), max(map(abs, among), default=0.0) or 1.0

    def cell(number: float | None, mark: str) -> Cell:
        text = bare[mark] if number == 0 and mark in bare else shown(number, places)
        return Cell(text, round(abs(number or 0) / most, 2), "minus" if (number or 0) < 0 else "plus", mark)

    return [
        (name, [cell(n, mark) for n, mark in zip(line, row, strict=True)])
        for name, line, row in zip(names, lines, marks, strict=True)
    ]
