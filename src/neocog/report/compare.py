"""The page of a comparison: who did best, how sure that is, and at what price, in the look of a run's own report."""

from collections.abc import Callable
from dataclasses import dataclass

from markupsafe import Markup

from neocog.report import charts
from neocog.report.model import Setting
from neocog.report.page import LONG, _environment
from neocog.report.pareto import ParetoPoint, pareto

UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True)
class CompareRow:
    """A candidate. Accuracies in 0..1, `seconds` of training, `latency` in milliseconds, `memory` in bytes; None where
    there is no number, as for one that failed."""

    name: str
    model: str
    regime: str
    state: str  # finished, shortened, dropped, failed
    trained: str  # how far, in words
    val: float | None = None
    test: float | None = None
    interval: tuple[float, ...] | None = None  # low, high
    params: int | None = None
    macs: int | None = None
    seconds: float | None = None
    latency: float | None = None
    memory: int | None = None
    note: str = ""


@dataclass(frozen=True)
class RungRow:
    """Where a candidate stood after a rung, which began with 1."""

    rung: int
    name: str
    epochs: float
    val: float
    loss: float
    seconds: float
    end: str


@dataclass(frozen=True)
class ComparePage:
    """`rows`: the best first. `verdict`: of the best two, a sentence without a full stop. `baseline`: accuracy of
    always naming the commonest class."""

    data_name: str
    created: str
    how: str
    chosen: str  # by which pictures
    verdict: str
    rows: tuple[CompareRow, ...]
    baseline: float = 0.0
    test_pictures: int = 0
    rungs: tuple[RungRow, ...] = ()
    notes: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    settings: tuple[Setting, ...] = ()
    command: str = ""


def render_compare(page: ComparePage) -> str:
    """The HTML, self-contained."""
    best = page.rows[0]
    drawn = None
    if best.test is not None and best.interval is not None:
        low, high = best.interval
        drawn = charts.interval(best.test, low, high, page.baseline)
    planes = [
        ("training time", _plane(page.rows, "seconds", "training seconds", charts.number)),
        ("multiply-accumulates of a picture", _plane(page.rows, "macs", "MACs", short)),
    ]
    template = _environment().get_template("compare.html.j2")
    figures = [(f"Test accuracy and {name}", plane) for name, plane in planes if plane]
    return template.render(page=page, best=best, interval=drawn, figures=figures, mebibytes=mebibytes, LONG=LONG)


def _plane(rows: tuple[CompareRow, ...], field: str, x_name: str, form: Callable[[float], str]) -> Markup:
    """The candidates that have both numbers."""
    points = []
    for row in rows:
        cost = getattr(row, field)
        if row.test is not None and cost is not None:
            low, high = row.interval or (None, None)
            points.append(ParetoPoint(row.name, float(cost), row.test, low, high))
    return pareto(f"Test accuracy against {x_name}", points, x_name=x_name, y_name="test accuracy", form=form)


def short(value: float) -> str:
    """1819066368 -> "1.82 G"."""
    for size, unit in UNITS:
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"


def mebibytes(value: int | None) -> str:
    return "–" if value is None else f"{value / 2**20:,.0f} MiB"
