"""Accuracy against cost: which networks are worth their price.

A network is on the Pareto front where no other is at least as accurate for at most its cost, and better in one of the
two. As wide as the other charts (`charts.py`), with a name beside each point that has room for one. Beside their
classes it has `hollow` (a dominated point), `whisker` (its interval), `name` and `lead` (from a point to its name).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from neocog.core.errors import one_line
from neocog.report.charts import LEFT, RIGHT, TOP, WIDTH, _svg, number, percent, ticks
from neocog.report.cost_zoo import Label, Placed, _around, _lead

Box = tuple[float, float, float, float]  # left, top, right, bottom in canvas units

HEIGHT = 310  # taller than the other charts: names need room
FLOOR = HEIGHT - 40
RADIUS = 5.0
HOLLOW = 4.0  # its line lies half outside
SIZE = 11.5  # of the letters, as the style sheet has it
RINGS = (3.0, 12.0, 24.0, 38.0)  # how far from its point a name may lie
LETTERS = 24  # of a name beside its point; the whole name is in the point's title


@dataclass(frozen=True)
class ParetoPoint:
    """A network. `cost`: seconds, MACs, parameters: 0, or 1e-30 to 1e30; `accuracy` and its interval in 0..1.

    Errors: ValueError for numbers outside these.
    """

    name: str
    cost: float
    accuracy: float
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.cost != 0 and not 1e-30 <= self.cost <= 1e30:
            raise ValueError(f"{one_line(self.name)}: a cost of {self.cost} cannot be drawn")
        for share in (self.accuracy, *self.interval):
            if not 0 <= share <= 1:
                raise ValueError(f"{one_line(self.name)}: {share} is no accuracy between 0 and 1")

    @property
    def interval(self) -> tuple[float, ...]:
        """(low, high), or () where none is known."""
        return () if self.low is None or self.high is None else (self.low, self.high)


def front(points: Sequence[ParetoPoint]) -> list[bool]:
    """Which points no other dominates. Of points equal in both numbers, all are on the front or none."""
    return [not any(_dominates(other, point) for other in points) for point in points]


def pareto(
    name: str,
    points: Sequence[ParetoPoint],
    *,
    x_name: str,
    y_name: str = "accuracy",
    form: Callable[[float], str] = number,
) -> Markup:
    """The points as inline SVG, empty where there are none. `form` writes a cost; `x_name` says what it is.

    Points on the front are filled and joined by steps, the others hollow; a bar is an interval. The axis of costs is
    logarithmic where the largest is more than ten times the smallest.
    """
    if not points:
        return Markup()
    best = front(points)
    order = sorted(range(len(points)), key=lambda i: (best[i], points[i].accuracy))  # the front over the others
    spots, bars, body = _plane(points, x_name, form)
    stairs = sorted((spots[i] for i in order if best[i]), key=lambda spot: (spot[0], -spot[1]))
    for x, top, bottom in bars:
        body += Markup('<line class="span whisker" x1="{x}" x2="{x}" y1="{}" y2="{}"/>').format(top, bottom, x=x)
    steps = "".join(f"H{x}V{y}" for x, y in stairs[1:])
    body += Markup('<path class="line one" d="M{} {}{}"/>').format(*stairs[0], steps)
    for i in order:
        mark = ("dot", RADIUS) if best[i] else ("hollow", HOLLOW)
        body += Markup('<circle class="{}" r="{}" cx="{}" cy="{}"><title>{}</title></circle>').format(
            *mark, *spots[i], _said(points[i], x_name, form)
        )
    walls = [(x - 1, top, x + 1, bottom) for x, top, bottom in bars]
    for (x0, y0), (x1, y1) in pairwise(stairs):
        walls += [(x0, y0 - 1, x1, y0 + 1), (x1 - 1, y1, x1 + 1, y0)]
    labels = [Label(cut_within(points[i].name, LETTERS), *spots[i], RADIUS, best[i]) for i in order[::-1]]
    for placed in _place(labels, walls):
        body += _drawn(placed)
    body += _key(y_name, not all(best), bool(bars))
    words = "; ".join(_said(points[i], x_name, form) + ", on the front" * best[i] for i in order[::-1])
    return _svg(one_line(name), f"{y_name} against {x_name}. {words}.", body, HEIGHT)


def _plane(
    points: Sequence[ParetoPoint], x_name: str, form: Callable[[float], str]
) -> tuple[list[tuple[float, float]], list[tuple[float, float, float]], Markup]:
    """Where the points lie (x, y), their intervals (x, top, bottom), and the axes."""
    costs = [p.cost for p in points]
    log = min(costs) > 0 and max(costs) > 10 * min(costs)
    scale: Callable[[float], float] = math.log10 if log else float
    low, high = _range(list(map(scale, costs)))
    low = low if log else max(low, 0)
    shares = [share for p in points for share in (p.accuracy, *p.interval)]
    worst, best = min(shares), max(shares)
    if best - worst < 0.001:  # closer than the marks of an axis can be written
        worst, best = max(worst - 0.05, 0), min(best + 0.05, 1)
    y_ticks = ticks(worst, best, about=5)

    def x(cost: float) -> float:
        return round(LEFT + (scale(cost) - low) / (high - low) * (WIDTH - LEFT - RIGHT), 1)

    def y(share: float) -> float:
        return round(FLOOR - (share - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * (FLOOR - TOP), 1)

    body = Markup()
    for tick in y_ticks:
        body += Markup(
            '<line class="grid" x1="{}" x2="{}" y1="{y}" y2="{y}"/><text x="{}" y="{}" text-anchor="end">{}</text>'
        ).format(LEFT, WIDTH - RIGHT, LEFT - 7, y(tick) + 4, percent(tick), y=y(tick))
    for mark in _marks(low, high, log, lambda mark: (x(mark), _width(form(mark)) / 2)):
        body += Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(x(mark), FLOOR + 16, form(mark))
    body += Markup('<text class="axis" x="{}" y="{}" text-anchor="end">{}</text>').format(
        WIDTH - RIGHT, HEIGHT - 6, f"{x_name}, log scale" if log else x_name
    )
    bars = [(x(p.cost), y(max(p.interval)), y(min(p.interval))) for p in points if p.interval]
    return [(x(p.cost), y(p.accuracy)) for p in points], bars, body


def cut_within(text: str, most: int) -> str:
    """A long name keeps both ends: a network and its regime."""
    text = one_line(text)
    end = most // 2
    return text if len(text) <= most else f"{text[: most - 1 - end]}…{text[-end:]}"


def _dominates(one: ParetoPoint, other: ParetoPoint) -> bool:
    as_good = one.accuracy >= other.accuracy and one.cost <= other.cost
    return as_good and (one.accuracy > other.accuracy or one.cost < other.cost)


def _said(point: ParetoPoint, x_name: str, form: Callable[[float], str]) -> str:
    interval = " ({} to {})".format(*map(percent, point.interval)) if point.interval else ""
    return one_line(f"{point.name}: {percent(point.accuracy)}{interval}, {x_name} {form(point.cost)}")


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Low and high of an axis, with air on both sides; equal values stand in the middle."""
    low, high = min(values), max(values)
    flat = high - low <= 1e-9 * abs(high)
    air = 0.1 * abs(high) or 0.1 if flat else 0.06 * (high - low)
    return low - air, high + air


def _marks(low: float, high: float, log: bool, span: Callable[[float], tuple[float, float]]) -> list[float]:
    """As many round costs as can be written side by side. `low`, `high`: the axis, in logarithms where `log`; `span`:
    the middle of a mark's text and half its width."""
    choices: list[list[float]]
    if log:
        decades = range(math.floor(low), math.ceil(high) + 1)
        choices = [[m * 10.0**d for d in decades for m in steps] for steps in ((1, 2, 5), (1, 3), (1,))]
        choices += [[10.0**d for d in decades if d % every == 0] for every in (2, 3, 5, 10)]
        low, high = 10**low, 10**high
    else:
        choices = [ticks(low, high, about) for about in (5, 4, 3, 2, 1)]
    marks: list[float] = []
    for choice in choices:
        marks = [mark for mark in choice if low <= mark <= high]
        spans = [span(mark) for mark in marks]
        marks = [mark for mark, (x, half) in zip(marks, spans, strict=True) if half <= x <= WIDTH - half]
        if all(x0 + half0 + 2 <= x1 - half1 for (x0, half0), (x1, half1) in pairwise(spans)):
            break
    return marks


def _place(labels: Sequence[Label], walls: Sequence[Box]) -> list[Placed]:
    """Names beside their points, the first label first: none over another name or another point, and of the free
    places the first that crosses the fewest lines. Names of the front (`bold`) may move away; others need room nearby.
    """
    placed: list[Placed] = []
    for label in labels:
        width = _width(label.text)
        others = [(o.x - o.r, o.y - o.r, o.x + o.r, o.y + o.r) for o in labels if o is not label]
        taken = [_box(p) for p in placed] + others
        for ring in RINGS if label.bold else RINGS[:1]:
            free = []
            for left, base in _around(label, width, SIZE, ring):
                lead = _lead(label, left, base, width, SIZE) if ring > RINGS[0] else None
                one = Placed(label, left, base, width, lead)
                box = _box(one)
                inside = box[0] >= LEFT and box[1] >= TOP - SIZE and box[2] <= WIDTH and box[3] <= FLOOR
                if inside and not any(_meet(box, other) for other in taken):
                    free.append(one)
            if free:
                placed.append(min(free, key=lambda one: sum(_meet(_box(one), wall) for wall in walls)))
                break
    return placed


def _box(name: Placed) -> Box:
    return name.left, name.base - SIZE, name.left + name.width, name.base + 0.3 * SIZE


def _drawn(name: Placed) -> Markup:
    body = Markup()
    if name.lead:
        body += Markup('<line class="lead" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(*name.lead)
    anchor, at = name.anchor
    return body + Markup('<text class="name" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        at, name.base, anchor, name.label.text
    )


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _width(text: str) -> float:
    """At least that of the text in most fonts: a letter is rarely wider than 0.6 of its height."""
    return SIZE * sum(1.0 if c in "MW@%—" or ord(c) > 0x2E7F else 0.6 for c in text)


def _key(y_name: str, dominated: bool, intervals: bool) -> Markup:
    """What height is, and what the marks are, above the plane."""
    body = Markup('<text x="0" y="15">{}</text>').format(y_name)
    x = max(LEFT, _width(y_name) + 16)
    marks = [("dot", RADIUS, "Pareto front")] + [("hollow", HOLLOW, "dominated")] * dominated
    for mark, radius, word in marks:
        body += Markup('<circle class="{}" r="{}" cx="{:.1f}" cy="11"/><text x="{:.1f}" y="15">{}</text>').format(
            mark, radius, x, x + 10, word
        )
        x += 10 + _width(word) + 12
    if intervals:
        body += Markup('<line class="span whisker" x1="{x:.1f}" x2="{x:.1f}" y1="5" y2="17"/>').format(x=x)
        body += Markup('<text x="{:.1f}" y="15">interval</text>').format(x + 6)
    return body
