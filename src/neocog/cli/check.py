"""`neocog check DATA`: the audit of a data set alone."""

from pathlib import Path
from typing import Annotated

import typer

from neocog.cli.out import JSON, as_json, line, table
from neocog.cli.progress import Watch
from neocog.core.config import load_config
from neocog.core.events import Events
from neocog.core.files import write_atomic

SHOWN = 20  # excluded files named on screen; --json and --out name them all


def add(app: typer.Typer, text: str) -> None:
    app.command("check", help=text)(check)


def check(
    data: Annotated[str, typer.Argument(help="A folder, a CSV or a named set.")],
    out: Annotated[Path | None, typer.Option(help="Write what was found to this JSON file.")] = None,
    max_excluded: Annotated[float, typer.Option(help="Share of excluded pictures that is still accepted.")] = 0.01,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on the first excluded picture.")] = False,
    allow_empty_classes: Annotated[bool, typer.Option("--allow-empty-classes")] = False,
    follow_links: Annotated[bool, typer.Option("--follow-links")] = False,
    seed: Annotated[int, typer.Option(min=0, help="The split's seed.")] = 0,
    json: JSON = False,
) -> None:
    from neocog.app.checking import check as audit
    from neocog.app.checking import facts

    config = load_config(None, {
        "data": data, "max_excluded": max_excluded, "strict": strict, "allow_empty_classes": allow_empty_classes,
        "follow_links": follow_links, "seed": seed,
    })  # fmt: skip
    events = Events()
    with Watch(events, quiet=json):
        dataset = audit(config, events)
    found = facts(dataset)
    if out is not None:
        write_atomic(out, dataset.scan.to_json())
    if json:
        as_json(found)
        return
    line("pictures", f"{found['pictures']:,} in {len(found['classes'])} classes")
    table(("class", "train", "val", "test"), [(name, *sets.values()) for name, sets in found["classes"].items()])
    for excluded in found["excluded"][:SHOWN]:
        line("excluded", f"{excluded['file']}: {excluded['reason']} ({excluded['detail']})")
    if len(found["excluded"]) > SHOWN:
        line("excluded", f"and {len(found['excluded']) - SHOWN} more: --json names them all")
    for label in ("ignored", "modes", "notes"):
        if found[label]:
            line(label, ", ".join(f"{name} {count:,}" for name, count in found[label].items()))
    for warning in found["warnings"]:
        line("warning", warning)
