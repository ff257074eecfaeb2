"""A search as one chart: what every trial reached, and the best so far as a line above them."""

from collections.abc import Sequence

from markupsafe import Markup

from neocog.report import charts
from neocog.report.charts import Plane, Series


def progress(points: Sequence[tuple[int, float, bool]]) -> Markup:
    """`points`: (trial, validation accuracy, whether it was whole) in their order; hollow points were paused early and
    are nobody's best. Empty where no trial was whole."""
    if not any(whole for _, _, whole in points):
        return Markup()
    scores = [score for _, score, _ in points]
    last = max(points[-1][0], 1)
    y_ticks = charts.ticks(min(scores), max(scores))
    plane = Plane((0, last), (y_ticks[0], y_ticks[-1]))
    x_ticks = [t for t in charts.ticks(0, last, about=5, whole=True) if t <= last]
    body = charts._axes(plane, x_ticks, y_ticks, charts.number, charts.percent, "trial")
    best = so_far(points)
    body += charts._line(plane, Series("best so far", best), "one")
    for trial, score, whole in points:
        body += Markup('<circle class="{}" cx="{}" cy="{}" r="3"/>').format(
            "point" if whole else "hollow", plane.x(trial), plane.y(score)
        )
    body += charts._legend([("line one", "best so far"), ("point", "a trial")])
    reached = next(trial for trial, score in best if score == best[-1][1])
    words = f"{len(points)} trials; the best, {charts.percent(best[-1][1])}, is trial {reached}."
    return charts._svg("Validation accuracy over trials", words, body)


def so_far(points: Sequence[tuple[int, float, bool]]) -> list[tuple[float, float]]:
    """The highest accuracy of a whole trial up to each: a stair."""
    stair: list[tuple[float, float]] = []
    for trial, score, whole in points:
        if whole and (not stair or score > stair[-1][1]):
            if stair:
                stair.append((trial, stair[-1][1]))
            stair.append((trial, score))
    if stair:
        stair.append((points[-1][0], stair[-1][1]))
    return stair
