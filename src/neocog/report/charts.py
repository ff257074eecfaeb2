"""Small charts as inline SVG: crisp at any size, a few kilobytes, coloured by the page's style sheet.

Every chart is drawn on a canvas 360 units wide, the width of a phone, so that its text stays readable there.
Colours come from the classes `one`, `two`, `grid`, `axis`; a title and a description speak for the picture.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

WIDTH, HEIGHT = 360, 230
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 30, 40
MAX_POINTS = 400  # a line has no more visible detail at this size


@dataclass(frozen=True)
class Series:
    """A named line; None is a gap."""

    name: str
    points: Sequence[tuple[float, float | None]]


def percent(value: float) -> str:
    return f"{100 * value:.4g}%"


def number(value: float) -> str:
    return f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def ticks(low: float, high: float, about: int = 4, whole: bool = False) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) that enclose low..high."""
    if high - low <= max(1e-12, 1e-9 * abs(high)):  # a flat line stands in the middle
        half = abs(high) / 2 if abs(high) > 1e-12 else 0.5
        low, high = low - half, high + half
    rough = (high - low) / about
    exponent = math.floor(math.log10(rough))
    step = next(m * 10.0**exponent for m in (1, 2, 5, 10) if m * 10.0**exponent >= rough * 0.999)
    step = max(step, 1) if whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, max(0, -exponent)) for i in range(first, max(last, first + 1) + 1)]


class Plane:
    """The rectangle inside the axes: data coordinates to canvas units."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float]) -> None:
        self.x_low, self.x_high = x
        self.y_low, self.y_high = y

    def x(self, value: float) -> float:
        share = (value - self.x_low) / (self.x_high - self.x_low)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)


def curves(
    name: str, series: Sequence[Series], *, kept: int | None = None, form: Callable[[float], str] = number,
    least: float | None = None, most: float | None = None, across: str = "epoch",
) -> Markup:  # fmt: skip
    """Lines over epochs, or what else is `across`. `kept`: the epoch to mark; `least`: where the axis begins; `most`: a
    value that none exceeds. Empty where no series has a number."""
    series = [s for s in map(_thin, series) if any(_real(y) for _, y in s.points)]
    if not series:
        return Markup()
    xs = [x for s in series for x, _ in s.points]
    ys = [y for s in series for _, y in s.points if y is not None and math.isfinite(y)]
    bottom = min(ys) if least is None else min(least, *ys)
    y_ticks = [t for t in ticks(bottom, max(ys)) if most is None or t <= most or t <= min(ys)]
    low, high = (min(xs), max(xs)) if min(xs) < max(xs) else (min(xs) - 1, max(xs) + 1)
    x_ticks = [t for t in ticks(low, high, about=5, whole=True) if low <= t <= high]
    plane = Plane((low, high), (y_ticks[0], y_ticks[-1]))
    body = _axes(plane, x_ticks, y_ticks, number, form, across)
    if kept is not None and low <= kept <= high:
        x = plane.x(kept)
        body += Markup('<line class="mark" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(x, TOP, HEIGHT - BOTTOM)
    for place, one in zip(("one", "two"), series, strict=False):
        body += _line(plane, one, place)
    body += _legend([(f"line {place}", s.name) for place, s in zip(("one", "two"), series, strict=False)])
    last = "; ".join(f"{s.name} ends at {form(_last(s))}" for s in series)
    along = f"over {len(set(xs))} epochs" if across == "epoch" else f"by {across}"
    return _svg(name, f"{name} {along}: {last}.", body)


def reliability(bins: Sequence[dict[str, Any]]) -> Markup:
    """Accuracy against confidence, one point per bin: on the diagonal the network knows how sure it may be."""
    plane = Plane((0, 1), (0, 1))
    marks = [0, 0.2, 0.4, 0.6, 0.8, 1]
    body = _axes(plane, marks, marks, percent, percent, "confidence")
    body += Markup('<line class="mark" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(
        plane.x(0), plane.y(0), plane.x(1), plane.y(1)
    )
    words = []
    for b in (b for b in bins if b["count"]):
        x, y = plane.x(b["confidence"]), plane.y(b["accuracy"])
        body += Markup(
            '<line class="gap" x1="{x}" x2="{x}" y1="{}" y2="{y}"/><circle class="point" cx="{x}" cy="{y}" r="4"/>'
        ).format(plane.y(b["confidence"]), x=x, y=y)
        words.append(f"{percent(b['confidence'])} sure, {percent(b['accuracy'])} right")
    body += _legend([("point", "accuracy"), ("gap", "gap to confidence")])
    return _svg("Reliability", f"Bins of confidence: {'; '.join(words)}.", body)


def confidences(bins: Sequence[dict[str, Any]]) -> Markup:
    """How many pictures fall into each bin of confidence."""
    y_ticks = ticks(0, max(b["count"] for b in bins), whole=True)
    plane = Plane((0, 1), (0, y_ticks[-1]))
    body = _axes(plane, [0, 0.2, 0.4, 0.6, 0.8, 1], y_ticks, percent, number, "confidence")
    for b in (b for b in bins if b["count"]):
        body += _bar("bar", plane.x(b["low"]) + 1, plane.x(b["high"]) - 1, plane.y(b["count"]), plane.y(0))
    body += _legend([("bar", "pictures")])
    words = "; ".join(f"{b['count']} up to {percent(b['high'])}" for b in bins if b["count"])
    return _svg("Histogram of confidence", f"Pictures per bin of confidence: {words}.", body)


def interval(value: float, low: float, high: float, baseline: float) -> Markup:
    """An accuracy and its interval on a line from 0 to 100 %, and what no skill at all would reach."""

    def x(share: float) -> float:
        return round(10 + share * (WIDTH - 20), 1)

    body = Markup(
        '<line class="track" x1="{}" x2="{}" y1="16" y2="16"/><line class="span" x1="{}" x2="{}" y1="16" y2="16"/>'
        '<line class="mark" x1="{b}" x2="{b}" y1="6" y2="26"/><circle class="dot" cx="{}" cy="16" r="5"/>'
    ).format(x(0), x(1), x(low), x(high), x(value), b=x(baseline))
    anchor = "start" if baseline < 0.35 else "end" if baseline > 0.65 else "middle"
    body += Markup('<text x="{}" y="42" text-anchor="{}">always the commonest class: {}</text>').format(
        x(baseline), anchor, percent(round(baseline, 3))
    )
    words = f"Accuracy {percent(value)}, interval {percent(low)} to {percent(high)}, baseline {percent(baseline)}."
    return _svg("Accuracy and its interval", words, body, height=48)


def _real(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _last(series: Series) -> float:
    return next(y for _, y in reversed(series.points) if y is not None and _real(y))


def _thin(series: Series) -> Series:
    step = -(-len(series.points) // MAX_POINTS)
    return Series(series.name, [*series.points[:-1:step], series.points[-1]]) if step > 1 else series


def _line(plane: Plane, series: Series, place: str) -> Markup:
    path, pen = [], "M"
    for x, y in series.points:
        if y is None or not _real(y):
            pen = "M"
            continue
        path.append(f"{pen}{plane.x(x)} {plane.y(y)}")
        pen = "L"
    end = next((x, y) for x, y in reversed(series.points) if y is not None and _real(y))
    return Markup('<path class="line {0}" d="{1}"/><circle class="end {0}" cx="{2}" cy="{3}" r="3"/>').format(
        place, " ".join(path), plane.x(end[0]), plane.y(end[1])
    )


def _bar(place: str, left: float, right: float, top: float, bottom: float) -> Markup:
    return Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
        place, left, top, right - left, max(bottom - top, 0.5)
    )


def _axes(
    plane: Plane,
    x_ticks: Sequence[float],
    y_ticks: Sequence[float],
    x_form: Callable[[float], str],
    y_form: Callable[[float], str],
    x_name: str,
) -> Markup:
    body = Markup()
    for t in y_ticks:
        y = plane.y(t)
        body += Markup(
            '<line class="grid" x1="{}" x2="{}" y1="{y}" y2="{y}"/><text x="{}" y="{}" text-anchor="end">{}</text>'
        ).format(LEFT, WIDTH - RIGHT, LEFT - 7, y + 4, y_form(t), y=y)
    for t in x_ticks:
        body += Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(
            plane.x(t), HEIGHT - BOTTOM + 16, x_form(t)
        )
    body += Markup('<text class="axis" x="{}" y="{}" text-anchor="end">{}</text>').format(
        WIDTH - RIGHT, HEIGHT - 6, x_name
    )
    return body


def _legend(items: Sequence[tuple[str, str]]) -> Markup:
    """(class of the mark, its name) side by side above the plane."""
    body, x = Markup(), float(LEFT)
    for place, name in items:
        if place in ("bar", "point"):
            body += _bar(place, x + 8, x + 18, 6, 16)
        else:
            body += Markup('<line class="{}" x1="{}" x2="{}" y1="11" y2="11"/>').format(place, x, x + 18)
        body += Markup('<text x="{}" y="15">{}</text>').format(x + 23, name)
        x += 23 + 7 * len(name) + 16
    return body


def _svg(title: str, description: str, body: Markup, height: int = HEIGHT) -> Markup:
    return Markup(
        '<svg viewBox="0 0 {} {}" role="img" aria-label="{title}"><title>{title}</title><desc>{}</desc>{}</svg>'
    ).format(WIDTH, height, description, body, title=title)
