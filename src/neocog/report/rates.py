"""The search for a learning rate as one chart: the loss over the rate, and the rate to take."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from neocog.report import charts
from neocog.report.charts import BOTTOM, HEIGHT, TOP, Plane, Series


def curve(
    rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], suggestion: float | None
) -> Markup:
    """The smoothed loss over the raw one, rates on a logarithmic axis, a mark at the suggestion. The plane is that of
    the smoothed loss: the raw one leaves it where it explodes. Empty where there are fewer than two rates."""
    if len(rates) < 2:
        return Markup()
    lowest = min(range(len(smoothed)), key=smoothed.__getitem__)
    thin = slice(None, None, -(-len(rates) // charts.MAX_POINTS))
    places = [math.log10(rate) for rate in rates]
    low, high = min(places[0], math.log10(suggestion or rates[0])), places[-1]
    # The first losses belong in the picture even where smoothing has pulled them down.
    y_ticks = charts.ticks(min(*losses, *smoothed), max(losses[0], *smoothed))
    plane = Plane((low, high), (y_ticks[0], y_ticks[-1]))
    decades = [t for t in charts.ticks(low, high, about=8, whole=True) if low <= t <= high]
    body = charts._axes(plane, decades or [low, high], y_ticks, _power, charts.number, "learning rate")
    names = [("line one", "smoothed"), ("line raw", "loss")]
    if suggestion is not None:
        x = plane.x(math.log10(suggestion))
        body += Markup('<line class="mark" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(x, TOP, HEIGHT - BOTTOM)
        names.append(("mark", f"{suggestion:.2g} suggested"))
    body += Markup('<path class="line raw" d="{}"/>').format(_inside(plane, places[thin], losses[thin]))
    body += charts._line(plane, Series("smoothed", list(zip(places[thin], smoothed[thin], strict=True))), "one")
    body += charts._legend(names)
    words = (
        f"The smoothed loss starts at {charts.number(smoothed[0])} and is lowest, {charts.number(smoothed[lowest])}, "
        f"at a rate of {rates[lowest]:.2g}. "
        + ("No rate is suggested." if suggestion is None else f"Suggested: {suggestion:.2g}.")
    )
    return charts._svg("Loss by learning rate", words, body)


def _power(place: float) -> str:
    return f"1e{place:.0f}" if place == round(place) else f"{10**place:.2g}"


def _inside(plane: Plane, xs: Sequence[float], ys: Sequence[float]) -> str:
    """The path through the points, cut off where it leaves the plane at its top."""
    path: list[str] = []
    top, before = plane.y_high, None
    for x, y in zip(xs, ys, strict=True):
        if before is not None and (before[1] > top) != (y > top):
            crossing = before[0] + (x - before[0]) * (top - before[1]) / (y - before[1])
            path.append(f"{'L' if y > top else 'M'}{plane.x(crossing)} {plane.y(top)}")
        if y <= top:
            path.append(f"{'L' if path else 'M'}{plane.x(x)} {plane.y(y)}")
        before = x, y
    return " ".join(path)
