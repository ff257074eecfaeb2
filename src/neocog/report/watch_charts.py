"""A training seen from inside, drawn: layers over time, the spread of values, the loss around the weights."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from markupsafe import Markup

from neocog.core.errors import one_line
from neocog.report import charts
from neocog.report.charts import WIDTH
from neocog.report.watch_model import LayerCourse, LossPlane, Spread, StageCourse

NAMES = 142  # units for the names of layers
LETTERS = 21  # of a name that fit there
COLUMNS = 30  # of more rows an even choice is drawn
TALL, LOW = 13.0, 6.0  # of a layer's row: where there are few, where there are many
MANY = 30
LABEL = 12  # units that a line of text needs
BAR = 24  # steps of a legend's bar
RULE = 1e-3  # of updates, in the middle of their colours
DECADES = 2.0  # to both sides of it
LEVELS = 8  # contours

Colour = Callable[[float], tuple[str, float]]  # a value -> (class of the cell, strength 0..1)


def gradient_map(layers: Sequence[LayerCourse], epochs: Sequence[float]) -> Markup:
    """The mean norm of each layer's gradient, dark where it is large. Empty where nothing learned."""
    known = [v for layer in layers for v in layer.gradients if v]
    if not known:
        return Markup()
    low, high = math.log10(min(known)), math.log10(max(known))
    high = high if high > low else low + 1

    def colour(value: float) -> tuple[str, float]:
        return "", (math.log10(value) - low) / (high - low) if value > 0 else 0.0

    rows = [(one_line(layer.name), layer.gradients) for layer in layers]
    ends = [(10**low, power(10**low)), (10**high, power(10**high))]
    return _map("Norm of the gradient", rows, epochs, colour, ends)


def update_map(layers: Sequence[LayerCourse], epochs: Sequence[float]) -> Markup:
    """|change of w| / |w| at a step: pale at the rule of thumb, one colour below and another above."""
    if not any(v for layer in layers for v in layer.updates):
        return Markup()

    def colour(value: float) -> tuple[str, float]:
        if value <= 0:
            return "", 1.0
        away = math.log10(value / RULE) / DECADES
        return (" warm" if away > 0 else ""), min(abs(away), 1.0)

    rows = [(one_line(layer.name), layer.updates) for layer in layers]
    ends = [(RULE / 10**DECADES, "≤ 1e-5"), (RULE, "1e-3"), (RULE * 10**DECADES, "≥ 0.1")]
    return _map("Change of the weights by a step", rows, epochs, colour, ends)


def _map(
    title: str, rows: Sequence[tuple[str, Sequence[float | None]]], epochs: Sequence[float], colour: Colour,
    ends: Sequence[tuple[float, str]],
) -> Markup:  # fmt: skip
    chosen = even(len(epochs), COLUMNS)
    tall = TALL if len(rows) <= MANY else LOW
    wide = (WIDTH - NAMES - 2) / len(chosen)
    every = math.ceil(LABEL / tall)
    body, top = Markup(), 4.0
    for number, (name, values) in enumerate(rows):
        y = top + number * tall
        if number % every == 0:
            body += Markup('<text x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(
                NAMES - 6, y + (tall + 8) / 2, cut(name)
            )
        for column, i in enumerate(chosen):
            body += _cell(
                NAMES + column * wide, y, wide, tall, values[i], colour,
                f"{name}, until epoch {charts.number(epochs[i])}: ", "did not learn",
            )  # fmt: skip
    bottom = top + len(rows) * tall
    last = -math.inf
    for column, i in enumerate(chosen):
        x = NAMES + (column + 0.5) * wide
        if x - last >= 34:
            last = x
            body += Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text>').format(
                x, bottom + 15, charts.number(round(epochs[i], 2))
            )
    body += Markup('<text class="axis" x="{}" y="{:.1f}" text-anchor="end">epoch</text>').format(
        NAMES - 18, bottom + 15
    )
    body += _bar(NAMES, bottom + 26, WIDTH - NAMES - 2, colour, ends)
    words = f"{len(rows)} layers, {len(chosen)} times from epoch {epochs[0]:g} to {epochs[-1]:g}."
    return charts._svg(title, words, body, height=math.ceil(bottom + 56))


def _cell(
    x: float, y: float, wide: float, tall: float, value: float | None, colour: Colour, words: str, none: str
) -> Markup:  # fmt: skip
    """`none`: what is said where there is no value."""
    if value is None:
        return Markup(
            '<rect class="cell none" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>'
        ).format(x, y, wide, tall, f"{words}{none}")
    place, strength = colour(value)
    return Markup(
        '<rect class="cell{}" style="--s:{:.2f}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">'
        "<title>{}</title></rect>"
    ).format(place, strength, x, y, wide, tall, f"{words}{power(value)}")


def _bar(x: float, y: float, wide: float, colour: Colour, ends: Sequence[tuple[float, str]]) -> Markup:
    """The colours from the first value of `ends` to the last, on a logarithmic scale, with what each end is called."""
    low, high = math.log10(ends[0][0]), math.log10(ends[-1][0])
    body = Markup()
    for i in range(BAR):
        place, strength = colour(10 ** (low + (i + 0.5) / BAR * (high - low)))
        body += Markup(
            '<rect class="cell{}" style="--s:{:.2f}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="9"/>'
        ).format(place, strength, x + i * wide / BAR, y, wide / BAR + 0.4)  # no seams
    for (value, text), anchor in zip(ends, ("start", *["middle"] * (len(ends) - 2), "end"), strict=True):
        share = (math.log10(value) - low) / (high - low)
        body += Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
            x + share * wide, y + 22, anchor, text
        )
    return body


def histograms(stage: StageCourse) -> Markup:
    """The values of one stage at its times, side by side on one axis. Heights are the roots of the shares, so that what
    is not 0 can be seen beside a ReLU's zeros."""
    if not stage.spreads:
        return Markup()
    low, high = min(s.low for s in stage.spreads), max(s.high for s in stage.spreads)
    most = max(max(density(s)) for s in stage.spreads)
    gap, top, floor = 10.0, 18.0, 76.0
    wide = (WIDTH - 2 * gap) / 3
    body, words = Markup(), []
    for number, s in enumerate(stage.spreads):
        left = number * (wide + gap)
        step = (s.high - s.low) / len(s.counts)
        path = [f"M{left + wide * (s.low - low) / (high - low):.1f} {floor}"]
        for i, height in enumerate(density(s)):
            y = floor - (floor - top) * math.sqrt(height / most)
            edges = (s.low + i * step, s.low + (i + 1) * step)
            path += [f"L{left + wide * (edge - low) / (high - low):.1f} {y:.1f}" for edge in edges]
        path.append(f"L{left + wide * (s.high - low) / (high - low):.1f} {floor}Z")
        when = "start" if s.epoch == 0 else f"epoch {charts.number(round(s.epoch, 2))}"
        tip = f"{when}: mean {s.mean:.3g}, standard deviation {s.std:.3g}"
        body += Markup(
            '<line class="grid" x1="{0:.1f}" x2="{1:.1f}" y1="{2}" y2="{2}"/>'
            '<path class="bar" d="{3}"><title>{4}</title></path>'
            '<text x="{0:.1f}" y="12">{5}</text>'
        ).format(left, left + wide, floor, " ".join(path), tip, when)
        body += Markup('<text x="{:.1f}" y="{}">{}</text><text x="{:.1f}" y="{}" text-anchor="end">{}</text>').format(
            left, floor + 14, f"{low:.2g}", left + wide, floor + 14, f"{high:.2g}"
        )
        words.append(tip)
    name = one_line(stage.name)
    return charts._svg(name, f"Values of {name}. {'; '.join(words)}.", body, height=96)


def density(spread: Spread) -> list[float]:
    """Share of the values by the width of a bin, so that bins of other widths can stand beside each other."""
    width = (spread.high - spread.low) / len(spread.counts)
    total = sum(spread.counts) or 1
    return [count / total / width for count in spread.counts]


def plane(found: LossPlane) -> Markup:
    """The loss as colours and contours, the weights in the middle, a ring at the lowest place. Empty where nothing is
    finite."""
    known = [v for row in found.losses for v in row if v is not None]
    if not known:
        return Markup()
    n, left, top = len(found.places), 46.0, 8.0
    side = WIDTH - left - 40
    cell = side / n
    least = max(min(known), 1e-12)
    low, high = math.log10(least), math.log10(max(max(known), least * 1.001))

    def level(value: float) -> float:
        return math.log10(max(value, least))

    def colour(value: float) -> tuple[str, float]:
        return "", (level(value) - low) / (high - low)

    def x(j: float) -> float:
        return left + (j + 0.5) * cell

    def y(i: float) -> float:
        return top + side - (i + 0.5) * cell

    body = Markup()
    for i, row in enumerate(found.losses):
        for j, value in enumerate(row):
            words = f"({found.places[j]:.2g}, {found.places[i]:.2g}): "
            body += _cell(
                x(j) - cell / 2, y(i) - cell / 2, cell, cell, value, colour, words + "loss " * (value is not None),
                "not finite",
            )  # fmt: skip
    body += _contours([[None if v is None else level(v) for v in row] for row in found.losses], low, high, x, y)
    body += _marks(found, x, y, cell * 0.36)
    for k in (0, n // 2, n - 1):
        text = f"{found.places[k]:g}"
        body += Markup(
            '<text x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text>'
            '<text x="{}" y="{:.1f}" text-anchor="end">{}</text>'
        ).format(x(k), top + side + 15, text, left - 7, y(k) + 4, text)
    ends = [(least, power(10**low)), (10**high, power(10**high))]
    body += _bar(left, top + side + 26, side, colour, ends)
    body += Markup(
        '<circle class="lowest" cx="{}" cy="{y}" r="5"/><text x="{}" y="{t}">lowest</text>'
        '<path class="here" d="M{} {y}h12m-6 -6v12"/><text x="{}" y="{t}">the weights</text>'
    ).format(left + 6, left + 17, left + 80, left + 98, y=top + side + 64, t=top + side + 68)
    words = f"The loss at {n} by {n} places: from {power(min(known))} to {power(max(known))}."
    return charts._svg("Loss around the weights", words, body, height=math.ceil(top + side + 76))


def _contours(
    levels: Sequence[Sequence[float | None]], low: float, high: float, x: Callable[[float], float],
    y: Callable[[float], float],
) -> Markup:  # fmt: skip
    body = Markup()
    for k in range(1, LEVELS):
        path = " ".join(
            f"M{x(a[0]):.1f} {y(a[1]):.1f}L{x(b[0]):.1f} {y(b[1]):.1f}"
            for a, b in contour(levels, low + (high - low) * k / LEVELS)
        )
        if path:
            body += Markup('<path class="contour" d="{}"/>').format(path)
    return body


def _marks(found: LossPlane, x: Callable[[float], float], y: Callable[[float], float], radius: float) -> Markup:
    """A ring at the lowest place, a cross at the weights."""
    i, j = lowest(found)
    middle = len(found.places) // 2
    ring = Markup('<circle class="lowest" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"/>').format(x(j), y(i), radius)
    return ring + Markup('<path class="here" d="M{0:.1f} {2:.1f}H{1:.1f}M{3:.1f} {4:.1f}V{5:.1f}"/>').format(
        x(middle) - 6, x(middle) + 6, y(middle), x(middle), y(middle) - 6, y(middle) + 6
    )


def lowest(found: LossPlane) -> tuple[int, int]:
    """(row, column) of the lowest loss."""
    places = ((v, i, j) for i, row in enumerate(found.losses) for j, v in enumerate(row) if v is not None)
    _, i, j = min(places)
    return i, j


def lowest_words(found: LossPlane) -> str:
    """Where it is lowest, beside what the weights themselves have."""
    i, j = lowest(found)
    middle = len(found.places) // 2
    least, own = found.losses[i][j], found.losses[middle][middle]
    if (i, j) == (middle, middle):
        return "No other place of this plane has a lower loss than the weights themselves."
    there = f"({found.places[j]:.2g}, {found.places[i]:.2g})"
    return f"It is lowest at {there}, {least:.3g}; the weights themselves have {own:.3g}."


def contour(
    values: Sequence[Sequence[float | None]], level: float
) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
    """Straight pieces ((x, y), (x, y)), in columns and rows, of the line on which the values are `level` (marching
    squares); where a corner is not known there is none."""
    for i, (lower, upper) in enumerate(pairwise(values)):
        for j in range(len(lower) - 1):
            corners = [(j, i, lower[j]), (j + 1, i, lower[j + 1]), (j + 1, i + 1, upper[j + 1]), (j, i + 1, upper[j])]
            known = [(x, y, v) for x, y, v in corners if v is not None]
            if len(known) < 4:
                continue
            crossed = [
                (a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share)
                for a, b in zip(known, known[1:] + known[:1], strict=True)
                if (a[2] < level) != (b[2] < level)
                for share in [(level - a[2]) / (b[2] - a[2])]
            ]
            yield from zip(crossed[::2], crossed[1::2], strict=True)


def even(number: int, most: int) -> list[int]:
    """At most so many of `number` places, evenly, the last among them."""
    if number <= most:
        return list(range(number))
    return [round(i * (number - 1) / (most - 1)) for i in range(most)]


def cut(name: str) -> str:
    """Without "stages." before it; of a long name parts in the middle are left out: "stage1.0…conv1.conv"."""
    name = name.removeprefix("stages.")
    parts = name.split(".")
    for gone in range(1, len(parts)):
        if len(name) <= LETTERS:
            break
        front = (len(parts) - gone) // 2
        name = ".".join(parts[:front]) + "…" + ".".join(parts[front + gone :])
    return name if len(name) <= LETTERS else "…" + name[-LETTERS + 1 :]


def power(value: float) -> str:
    """0.00012 -> "1.2e-4", 3.14159 -> "3.1"."""
    if value == 0 or 1e-2 <= abs(value) < 1e4:
        return f"{value:.2g}" if abs(value) < 100 else f"{value:.0f}"
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits.removesuffix('.0')}e{int(exponent)}"
