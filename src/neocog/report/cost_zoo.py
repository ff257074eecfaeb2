"""The zoo on one plane, as geometry: where circles and names lie, which marks an axis has, how numbers read.

Without colours or a canvas, so that the page's drawing and the slide's are the same picture.
"""

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from neocog.core.errors import one_line
from neocog.report.cost_model import ZooPoint


@dataclass(frozen=True)
class Unit:
    """A scale for a column of numbers."""

    name: str
    size: float

    def text(self, value: float) -> str:
        """Three digits and no exponent; nothing for nothing, so that the eye sees where the cost is not."""
        scaled = value / self.size
        if scaled == 0:
            return ""
        if scaled < 0.01:
            return "<0.01"
        return f"{scaled:.0f}" if scaled >= 100 else f"{scaled:.3g}" if scaled >= 0.1 else f"{scaled:.2g}"


def unit(largest: float, units: Sequence[Unit]) -> Unit:
    """The largest unit of which there is at least one."""
    return next((u for u in reversed(units) if largest >= u.size), units[0])


KIB = (Unit("KiB", 1), Unit("MiB", 1024), Unit("GiB", 1024**2))
NUMBER = (Unit("", 1), Unit("thousand", 1e3), Unit("million", 1e6), Unit("billion", 1e9))


def short(number: float) -> str:
    """3e9 -> "3 billion"."""
    scale = unit(number, NUMBER)
    return f"{scale.text(number)} {scale.name}".strip()


def cut(text: str, most: int) -> str:
    """A long name keeps its end, where layers differ."""
    text = one_line(text)
    return text if len(text) <= most else "…" + text[-(most - 1) :]


@dataclass(frozen=True)
class Label:
    """A name beside its circle; `bold` ones must be shown, the others where there is room."""

    text: str
    x: float
    y: float
    r: float
    bold: bool = False


@dataclass(frozen=True)
class Placed:
    """A label's left edge and baseline; `lead`, where it lies far off: a line from its circle (x, y, x, y)."""

    label: Label
    left: float
    base: float
    width: float
    lead: tuple[float, float, float, float] | None

    @property
    def anchor(self) -> tuple[str, float]:
        """Which point of the text is fixed ("start", "middle", "end") and its x: the side that faces the circle."""
        if self.left >= self.label.x:
            return "start", self.left
        if self.left + self.width <= self.label.x:
            return "end", self.left + self.width
        return "middle", self.left + self.width / 2


AIR = 0.6  # letters' heights between a name and another network's circle, so that nobody takes it for that one's


def place(labels: Sequence[Label], size: float, box: tuple[float, float, float, float], most: int = 12) -> list[Placed]:
    """Up to `most` labels beside the bold ones, none over another. y grows downwards; `size` is the letters' height.

    Bold labels come first and move away from their circle until there is room. The others follow in turn, each time
    the one farthest from all that have a label, so that names spread over the plane.
    """
    left, top, right, bottom = box
    done: list[Placed] = []
    waiting = [label for label in labels if not label.bold]

    def fits(label: Label, rings: Iterable[float]) -> Placed | None:
        width = (0.7 if label.bold else 0.62) * size * len(label.text)
        air = (0.2 if label.bold else AIR) * size
        best, least = None, math.inf
        for ring in rings:
            for x, y in _around(label, width, size, ring):
                if not (left <= x and x + width <= right and top <= y - size and y + 0.3 * size <= bottom):
                    continue
                if any(
                    x < p.left + p.width + 3 and p.left < x + width + 3 and abs(y - p.base) < 1.25 * size for p in done
                ):
                    continue
                hidden = sum(
                    _reaches(other, x - air, y - size - air, x + width + air, y + 0.2 * size + air)
                    for other in labels
                    if other is not label
                )
                if hidden < least:
                    lead = _lead(label, x, y, width, size) if ring > 2 * size else None
                    best, least = Placed(label, x, y, width, lead), hidden
            if least == 0:
                break
        return best if label.bold or least == 0 else None

    def alone(label: Label) -> float:
        """How far the next name is."""
        return min((math.dist((label.x, label.y), (p.label.x, p.label.y)) for p in done), default=label.r)

    for label in labels:
        if label.bold:
            found = fits(label, (3, 8, 16, 28, 44, 64, 90, 130))
            done += [found] if found else []
    bold = len(done)
    while waiting and len(done) < bold + most:
        label = max(waiting, key=alone)
        waiting.remove(label)
        if found := fits(label, (3,)):
            done.append(found)
    return done


def _around(label: Label, width: float, size: float, ring: float) -> list[tuple[float, float]]:
    """Left edge and baseline of the places at distance `ring` from a circle."""
    reach = label.r + ring
    slant = 0.72 * reach
    return [
        (label.x + reach, label.y + 0.35 * size),
        (label.x - reach - width, label.y + 0.35 * size),
        (label.x - width / 2, label.y - reach),
        (label.x - width / 2, label.y + reach + 0.8 * size),
        (label.x + slant, label.y - slant),
        (label.x + slant, label.y + slant + 0.8 * size),
        (label.x - slant - width, label.y - slant),
        (label.x - slant - width, label.y + slant + 0.8 * size),
    ]


def _lead(label: Label, left: float, base: float, width: float, size: float) -> tuple[float, float, float, float]:
    """From the edge of the circle to the nearest point of its name."""
    x, y = min(max(label.x, left), left + width), min(max(label.y, base - size), base)
    share = label.r / max(math.dist((label.x, label.y), (x, y)), 1e-9)
    return label.x + share * (x - label.x), label.y + share * (y - label.y), x, y


def _reaches(label: Label, left: float, top: float, right: float, bottom: float) -> bool:
    """Whether a circle touches a rectangle."""
    near = (min(max(label.x, left), right), min(max(label.y, top), bottom))
    return math.dist(near, (label.x, label.y)) < label.r


def radius(params: int, points: Iterable[ZooPoint], largest: float) -> float:
    """Areas grow with the parameters; `largest` is the widest circle's radius."""
    return max(2.5, largest * math.sqrt(params / max(1, *(p.params for p in points))))


def circles(
    points: Iterable[ZooPoint],
    highlighted: Collection[str],
    largest: float,
    x: Callable[[float], float],
    y: Callable[[float], float],
) -> list[Label]:
    """Where each network's circle lies, the widest with radius `largest`."""
    points = list(points)
    return [
        Label(cut(p.name, 28), x(p.macs), y(p.top1), radius(p.params, points, largest), p.name in highlighted)
        for p in points
    ]


def macs_axis(macs: Sequence[int], most: int) -> tuple[float, float, list[float]]:
    """Low, high and up to `most` round marks of a logarithmic axis with a little air on both sides."""
    low, high = max(1, min(macs)) / 1.6, max(1, *macs) * 1.8
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    marks: list[float] = []
    for steps in ((1, 2, 5), (1, 3), (1,)):
        # A mark at the very end would write over the edge.
        marks = [m * 10.0**d for d in decades for m in steps if low * 1.1 <= m * 10.0**d <= high / 1.2]
        if len(marks) <= most:
            break
    return low, high, marks


def top1_axis(top1: Sequence[float]) -> tuple[float, float, list[float]]:
    """Low, high and marks (multiples of two, five or ten) of an axis around accuracies in percent."""
    low, high = min(top1) - 2, max(top1) + 3
    step = 2 if high - low < 12 else 5 if high - low < 45 else 10
    return low, high, [float(m) for m in range(step * math.ceil(low / step), math.floor(high) + 1, step)]


def sizes(params: Sequence[int]) -> list[int]:
    """Two or three round numbers of parameters whose circles explain the others."""
    most = 10 ** math.floor(math.log10(max(*params, 1)))
    return sorted({max(1, most // 10), most, most * (2 if max(params) >= 2 * most else 1)})
