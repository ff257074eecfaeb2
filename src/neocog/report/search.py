"""The page of a search: the best settings beside the defaults, how sure that is, and every trial."""

from dataclasses import dataclass

from neocog.report import charts
from neocog.report.model import Setting
from neocog.report.page import LONG, _environment
from neocog.report.search_chart import progress


@dataclass(frozen=True)
class TrialRow:
    """Accuracies in 0..1, None where there is no number. `state`: finished, pruned, failed, stopped, running,
    waiting."""

    trial: int
    name: str
    candidate: str
    state: str
    val: float | None
    loss: float | None
    epochs: float | None
    planned: int
    seconds: float | None
    settings: str
    note: str = ""


@dataclass(frozen=True)
class AxisRow:
    """A setting that was searched. `importance`: its share in what set good trials apart, or None."""

    name: str
    default: str
    best: str
    range: str
    importance: float | None
    reason: str


@dataclass(frozen=True)
class SearchPage:
    """`val`: of the best trial; `usual`: of the one with the defaults, None where it failed; `test`: of the best trial,
    None without test pictures. `settings`: all that was not searched. `replay`: the command that repeats the best."""

    data_name: str
    created: str
    how: str
    chosen: str
    best: str
    candidate: str
    val: float
    usual: float | None
    is_usual: bool
    axes: tuple[AxisRow, ...]
    rows: tuple[TrialRow, ...]
    test: float | None = None
    interval: tuple[float, ...] | None = None
    test_pictures: int = 0
    baseline: float = 0.0
    several: bool = False
    importance_least: int = 0
    notes: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    settings: tuple[Setting, ...] = ()
    command: str = ""
    replay: str = ""


def render_search(page: SearchPage) -> str:
    """The HTML, self-contained."""
    drawn = None
    if page.test is not None and page.interval is not None:
        low, high = page.interval
        drawn = charts.interval(page.test, low, high, page.baseline)
    points = [(row.trial, row.val, row.state == "finished") for row in page.rows if row.val is not None]
    known = any(axis.importance is not None for axis in page.axes)
    template = _environment().get_template("search.html.j2")
    return template.render(page=page, interval=drawn, chart=progress(points), known=known, LONG=LONG)
