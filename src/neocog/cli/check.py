"""`neocog check DATA`: the audit of a data set alone."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neocog.cli.out import JSON, as_json, line, table
from neocog.cli.progress import Watch
from neocog.core.config import load_config
from neocog.core.errors import DataError
from neocog.core.events import Events
from neocog.core.words import counted

if TYPE_CHECKING:
    from neocog.app.checking import Audit

WEAK = 0.8  # share of labels below which a network's doubts say more about itself
SHOWN = 20  # files of a kind named on screen; --json names them all, the page shows them

PROBLEMS = {
    "conflict": "in several classes",
    "leak": "in several sets",
    "near_conflict": "nearly the same, in different classes",
    "near_leak": "nearly the same, in different sets",
}


def add(app: typer.Typer, text: str) -> None:
    app.command("check", help=text + EXIT_CODES)(check)


EXIT_CODES = (
    "\n\nExit code 3: `neocog train` would refuse the data, or there are more problems than --max-problems allows. "
    "A problem is a group of copies or a pair of near duplicates that lies in several classes (a label conflict) or in "
    "several sets that the data itself defines (a leak)."
)


def check(
    data: Annotated[str, typer.Argument(help="A folder, a CSV or a named set.")],
    out: Annotated[Path | None, typer.Option(
        help="The folder for check.html and scan.json (default: a new one under runs/).")] = None,
    run: Annotated[Path | None, typer.Option(
        help="A run on this data: names labels that its predictions of unlearned pictures contradict.")] = None,
    group_by: Annotated[str | None, typer.Option(
        help="Regular expression on file names: pictures of which it matches the same text stay in one set.")] = None,
    channels: Annotated[str, typer.Option(
        help="auto (colour or grey), or the number of bands that the pictures have, 2 to 64.")] = "auto",
    max_problems: Annotated[int | None, typer.Option(
        min=0, help="Fail with more label conflicts and leaks (default: any number).")] = None,
    max_excluded: Annotated[float, typer.Option(help="Share of excluded pictures that is still accepted.")] = 0.01,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on the first excluded picture.")] = False,
    allow_empty_classes: Annotated[bool, typer.Option(
        "--allow-empty-classes", help="Leave class folders without pictures out.")] = False,
    frames: Annotated[str, typer.Option(
        metavar="first|error", help="Animations and files of several pages: the first frame is used, or left out.")
    ] = "first",
    follow_links: Annotated[bool, typer.Option("--follow-links", help="Follow symbolic links.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="The split's seed.")] = 0,
    json: JSON = False,
) -> None:  # fmt: skip
    from neocog.app import check_page
    from neocog.app.checking import check as audit_of
    from neocog.app.checking import facts

    config = load_config(None, {
        "data": data, "max_excluded": max_excluded, "strict": strict, "allow_empty_classes": allow_empty_classes,
        "follow_links": follow_links, "seed": seed, "group_by": group_by, "frames": frames,
        "channels": channels,
    })  # fmt: skip
    folder = check_page.choose_folder(out, data)
    events = Events()
    with Watch(events, quiet=json):
        audit = audit_of(config, events, run)
    page = check_page.write(audit, folder) if folder is not None else None
    found = facts(audit)
    if json:
        as_json(found | {"page": page})
    else:
        show(audit, found, page)
    if audit.error is not None:
        raise audit.error
    if max_problems is not None and found["problems"] > max_problems:
        cause = f"{data} has {found['problems']:,} label conflicts or leaks, and --max-problems is {max_problems:,}"
        raise DataError(cause, f"{page} shows them" if page else "repair the data")


def show(audit: "Audit", found: dict[str, Any], page: Path | None) -> None:
    classes, excluded = counted(len(found["classes"]), "class", "classes"), len(found["excluded"])
    line("pictures", f"{found['pictures']:,} in {classes}; {excluded:,} left out")
    columns: dict[str, int] = next(iter(found["classes"].values()), {})
    table(("class", *columns), [(name, *counts.values()) for name, counts in found["classes"].items()])
    named("excluded", [f"{one['file']}: {one['reason']} ({one['detail']})" for one in found["excluded"]])
    kinds = audit.found()
    files = [kept.file for kept in audit.scan.kept]
    for kind, where in PROBLEMS.items():
        named("problem", [f"{' = '.join(files[row] for row in rows)} {where}" for rows in kinds.pop(kind, [])])
    named("unlike", [f"{one['file']}: {one['kind'].replace('_', ' ')} ({one['detail']})" for one in found["outliers"]])
    for one in audit.scan.outliers:
        kinds.pop(one.kind, None)
    for kind, what in (("copy", "copies in a class"), ("near_copy", "near duplicates in a class")):
        if groups := kinds.pop(kind, []):
            first = " = ".join(files[row] for row in groups[0])
            line(kind.replace("_", " "), f"{len(groups):,} groups of {what}, such as {first}; each stays in one set")
    if audit.doubts is not None:
        doubts = audit.doubts
        for_all = "" if doubts.covered == doubts.total else "; a run with --folds 5 predicts its training pictures too"
        covered = f"{doubts.covered:,} of {doubts.total:,} pictures"
        agrees = f"the network agrees with {doubts.agreement:.1%} of the labels"
        line("labels", f"{len(doubts.found):,} in doubt; {agrees}, compared for {covered}{for_all}")
        if doubts.found and doubts.agreement < WEAK:
            line("warning", "a network that is wrong so often doubts many right labels: train a better one first")
        named("in doubt", [
            f"{files[one.row]}: {one.label} ({one.label_probability:.1%}), rather {one.likely} "
            f"({one.likely_probability:.1%})" for one in doubts.found
        ])  # fmt: skip
    for label in ("ignored", "modes", "notes"):
        if found[label]:
            line(label, ", ".join(f"{name} {count:,}" for name, count in found[label].items()))
    line("sizes", found["sizes"])
    for warning in found["warnings"]:
        line("warning", warning)
    line("page", str(page) if page else "not written: no folder can be made here; give --out")


def named(label: str, texts: list[str]) -> None:
    for text in texts[:SHOWN]:
        line(label, text)
    if len(texts) > SHOWN:
        line(label, f"and {len(texts) - SHOWN:,} more: --json names them all")
