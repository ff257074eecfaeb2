"""The page of several runs on divisions of the same pictures, in the look of a run's own report."""

from dataclasses import dataclass
from typing import Any

from neocog.report import charts
from neocog.report.model import Evaluation, Scores, Setting
from neocog.report.page import LONG, _environment, _result


@dataclass(frozen=True)
class WrongPicture:
    """A picture that a network which had not learned it named wrongly, and how sure (0..1) that network was."""

    file: str
    truth: str
    predicted: str
    probability: float
    fold: str  # the folder of that network's run


@dataclass(frozen=True)
class FoldsPage:
    """`runs`, `over`, `pooled`: as `neocog.evaluate.folds.summarise_folds` gives them, each run with its `folder`."""

    model: str
    data_name: str
    created: str
    how: str  # how the pictures were divided
    runs: list[dict[str, Any]]
    over: dict[str, dict[str, Any]]
    pooled: dict[str, Any]
    note: str
    scores: Scores  # of all test predictions together
    mistakes: tuple[WrongPicture, ...] = ()
    settings: tuple[Setting, ...] = ()
    command: str = ""


def render_folds(page: FoldsPage) -> str:
    """The HTML, self-contained."""
    e = Evaluation("test", page.scores)
    over = page.over["top1"]
    low, high = over["interval"] or page.pooled["top1_interval"]
    baseline = page.scores.baseline or 0.0
    drawn = charts.interval(over["mean"], low, high, baseline)
    template = _environment().get_template("folds.html.j2")
    return template.render(f=page, e=e, result=_result(e), over=over, interval=drawn, LONG=LONG)
