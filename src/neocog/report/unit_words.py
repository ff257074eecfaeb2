"""How a number came about, in sentences with its own figures put in."""

import re
from collections.abc import Mapping
from itertools import product
from typing import Any, NamedTuple

BENDS = {
    "relu": "max(0, {x})",
    "relu6": "min(max(0, {x}), 6)",
    "silu": "{x} / (1 + exp(-({x})))",
    "x * sigmoid(x)": "{x} / (1 + exp(-({x})))",
    "sigmoid": "1 / (1 + exp(-({x})))",
    "hardswish": "{x} × min(max(0, {x} + 3), 6) / 6",
    "hardsigmoid": "min(max(0, {x} + 3), 6) / 6",
    "gelu": "{x} × the share of a normal distribution below {x}",
    "softmax": "exp({x}) / the sum of exp of all channels",
}
ALONE = re.compile(r"\bx\b")  # of an activation with factors: "1.7159 * tanh(0.666667 * x)"
LONG = 8  # places that are named one by one

Told = Mapping[str, Any]  # a unit


class Step(NamedTuple):
    name: str
    words: str
    result: float | None
    pool: bool = False


def reading(unit: Told) -> list[str]:
    """Which numbers of the layer's input it reads, and why those."""
    if unit["window"] is None:
        each = "Dense: it reads every one of the {:,} numbers that the layer is given{}, each with a weight of its own."
        where = f" at place {', '.join(map(str, unit['position']))}" if unit["position"] else ""
        told = [each.format(len(unit["kernel"]), where) + " No window, no stride, no padding."]
        if unit["flattened"]:
            c, h, w = unit["flattened"]
            told.append(f"They are the map in front of it, {c:,} × {h} × {w}, laid out in one line:"
                        f" number = channel × {h * w} + row × {w} + column.")  # fmt: skip
        return told
    told = [channels(unit), places(unit, 0), places(unit, 1)]
    cells = list(product(range(len(unit["rows"])), range(len(unit["columns"]))))
    holes = [(a, b) for a, b in cells if None in (unit["rows"][a], unit["columns"][b])]
    padding = [(a, b) for a, b in cells if not unit["inside"][a][b] and (a, b) not in holes]
    if padding and unit["window"]["transposed"]:
        told.append(f"{len(padding)} of {len(cells)} places lie outside of the input: nothing is there to meet.")
    elif padding:
        zeros = not any(maps[a][b] for maps in unit["patch"] for a, b in padding)
        met = "zeros" if zeros else "numbers that the layer takes from elsewhere in the map"
        told.append(f"{len(padding)} of {len(cells)} places lie in the padding, where it meets {met}.")
    if holes:
        told.append(f"{len(holes)} of {len(cells)} places fall between the numbers, which the stride has spread out:"
                    " nothing is there to meet.")  # fmt: skip
    return told


def channels(unit: Told) -> str:
    """What the groups leave of the input, and what a kernel of one place means."""
    groups, first, width = unit["window"]["groups"], unit["first_channel"], len(unit["kernel"])
    if groups == 1:
        told = f"It reads {'all ' if width > 1 else ''}{width:,} input channel{'s' if width > 1 else ''}."
    elif width == 1:
        told = f"Depthwise: it reads input channel {first} alone, one of {groups:,}."
    else:
        told = f"{groups} groups: of {groups * width:,} input channels it reads {first} to {first + width - 1}."
    if unit["window"]["kernel"] == [1, 1]:
        told += " A kernel of 1 × 1 mixes the channels of one place and sees no neighbours."
    if not unit["window"]["transposed"]:
        return told
    padding = unit["window"]["padding"]
    cut = (
        f": its padding, {' × '.join(map(str, padding))}, is cut from the edges of what it gives"
        if any(padding)
        else ""
    )
    return f"{told} The convolution is transposed{cut}."


def places(unit: Told, axis: int) -> str:
    """The formula of the rows (axis 0) or columns (1) with this unit's numbers put in, and what it gives."""
    window, one, many = unit["window"], ("row", "column")[axis], ("rows", "columns")[axis]
    kernel, stride, padding, dilation = (window[of][axis] for of in ("kernel", "stride", "padding", "dilation"))
    place, found = unit["position"][axis - 2], ["none" if i is None else str(i) for i in unit[many]]
    listed = ", ".join(found if kernel <= LONG else [*found[:3], "...", found[-1]])
    taps = "k = 0" if kernel == 1 else f"k = 0 to {kernel - 1}"
    if window["transposed"]:
        added = f"{place} {'+' if padding >= 0 else '-'} {abs(padding)}"
        formula = f"({one} + padding - k × dilation) / stride = ({added} - k × {dilation}) / {stride}"
        return f"{many.capitalize()}: {formula}, for {taps}: {listed}" + (" (none: not whole)." if stride > 1 else ".")
    taken = f"{'-' if padding >= 0 else '+'} {abs(padding)}"
    formula = f"{one} × stride - padding + k × dilation = {place} × {stride} {taken} + k × {dilation}"
    return f"{many.capitalize()}: {formula}, for {taps}: {listed}."


def steps(unit: Told) -> list[Step]:
    """What becomes of the number, one step after the other, with the figures that each one starts from."""
    number, found = unit["output"], []
    for name in unit["then"]:
        norm, pooling = unit["norm"], unit["pooling"]
        if name == "batch_norm":
            sign = "-" if norm["shift"] < 0 else "+"
            words = f"scale × x + shift = {norm['scale']:.5g} × {number:.5g} {sign} {abs(norm['shift']):.5g}"
            step = Step("Batch norm", words, norm["result"])
        elif name == unit["activation"]:
            words = BENDS.get(name, ALONE.sub("{x}", name) if ALONE.search(name) else f"{name}({{x}})")
            words = words.format(x=f"{number:.5g}")
            step = Step(f"Activation {name}", words, unit["activated"])
        elif pooling is None:
            step = Step(f"Pooling {name}", "no window reads this place: the number goes no further", None)
        else:
            step = Step(f"Pooling {name}", pooled(pooling), pooling["result"], True)
        found.append(step)
        if step.result is None:
            break
        number = step.result
    return found


def named(unit: Told, number: int) -> str:
    """Where one of the numbers that a dense layer reads stood in the map, where that is known."""
    if not unit["flattened"]:
        return ""
    _, h, w = unit["flattened"]
    channel, place = divmod(number, h * w)
    return "(channel {}, row {}, column {})".format(channel, *divmod(place, w))


def pooled(told: Told) -> str:
    """Who won, or what the mean divides by."""
    where = f"the window of row {told['position'][0]}, column {told['position'][1]} of the result"
    numbers = [n for row in told["window"] for n in row if n is not None]
    if told["divisor"] is None:
        taken = "this number is the largest" if told["taken"] else "another number is as large, or larger"
        return f"{where}: {taken}, and goes on"
    return f"{where}: the sum {sum(numbers):.5g} / {told['divisor']}"
