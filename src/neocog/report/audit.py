"""The audit of a data set as one HTML file with the look and the manners of a run's report.

Plain data in; names of files and classes may hold anything, the page escapes them.
"""

from dataclasses import dataclass

from neocog.report.model import ClassCount, Picture
from neocog.report.page import LONG, _environment


@dataclass(frozen=True)
class AuditPicture:
    """One file of a finding; `picture` None where it cannot be shown."""

    file: str
    label: str
    split: str  # train, val, test; "" where the sets could not be drawn
    picture: Picture | None = None
    detail: str = ""


@dataclass(frozen=True)
class AuditFinding:
    """All that was found of one kind. `groups`: pictures that belong side by side; perhaps fewer than `count`."""

    key: str  # of the link to it
    title: str
    text: str
    count: int
    groups: tuple[tuple[AuditPicture, ...], ...]
    problem: bool = False  # it makes a result wrong


@dataclass(frozen=True)
class AuditPage:
    """`verdict`: one sentence. `error`: why the data cannot be trained on. `todo`: what to do next."""

    data_name: str
    source: str
    pictures: int
    problems: int
    verdict: str
    created: str = ""
    error: str = ""
    todo: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    findings: tuple[AuditFinding, ...] = ()
    splits: tuple[str, ...] = ()
    classes: tuple[ClassCount, ...] = ()
    how_split: str = ""
    excluded: tuple[tuple[str, str, str, str], ...] = ()  # file, class, reason, for people
    modes: tuple[tuple[str, int], ...] = ()
    notes: tuple[tuple[str, int], ...] = ()
    ignored: tuple[tuple[str, int], ...] = ()
    sizes: str = ""
    command: str = ""


def render_audit(page: AuditPage) -> str:
    """The HTML of an audit."""
    totals = [sum(one.counts) for one in page.classes]
    most = max(totals, default=0)
    return (
        _environment()
        .get_template("audit.html.j2")
        .render(
            page=page,
            rows=[
                (one, total, round(total / most, 3) if most else 0)
                for one, total in zip(page.classes, totals, strict=True)
            ],
            modes=_shares(page.modes),
            notes=_shares(page.notes),
            LONG=LONG,
        )
    )


def _shares(counts: tuple[tuple[str, int], ...]) -> list[tuple[str, int, float]]:
    """(name, count, share of the largest)."""
    most = max((count for _, count in counts), default=1)
    return [(name, count, round(count / most, 3)) for name, count in counts]
