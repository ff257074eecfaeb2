"""`neocog models [PATTERN]`: the zoo as a table; one network alone with its paper, options and weights."""

from typing import Annotated, Any

import typer

from neocog.cli.out import JSON, as_json, line, table
from neocog.core.errors import UsageError, did_you_mean

SORTS = ("name", "params", "macs", "year", "top1")


def add(app: typer.Typer, text: str) -> None:
    app.command("models", help=text)(models)


def models(
    pattern: Annotated[str, typer.Argument(help="A name with wildcards, such as 'resnet*'.")] = "*",
    sort: Annotated[str, typer.Option(metavar="|".join(SORTS), help="Order of the rows.")] = "",
    json: JSON = False,
) -> None:
    from neocog.app.zoo import describe_models, list_models

    if sort and sort not in SORTS:
        raise UsageError(f"there is no order called {sort!r}", f"use one of {', '.join(SORTS)}")
    rows = describe_models(pattern)
    if not rows:
        hint = did_you_mean(pattern, list_models()) or "`neocog models` lists them all"
        raise UsageError(f"no network is called {pattern!r}", hint)
    if sort:
        known = [row for row in rows if row[sort] is not None]
        known.sort(key=lambda row: row[sort], reverse=sort == "top1")  # the best first
        rows = known + [row for row in rows if row[sort] is None]
    if json:
        as_json(rows)
        return
    columns = ("name", "year", "params", "million macs", "input", "top-1 %", "top-5 %", "weights")
    keys = ("name", "year", "params", "macs", "input", "top1", "top5", "weights")
    shown = [row | {"year": str(row["year"]), "macs": row["macs"] / 1e6} for row in rows]
    table(columns, [[row[key] for key in keys] for row in shown])
    line("", "macs: multiply-accumulates of one picture; top-1, top-5: published, ImageNet validation")
    if len(rows) == 1:
        details(rows[0])


def details(row: dict[str, Any]) -> None:
    line("idea", row["idea"])
    line("paper", f"{row['paper']} ({row['year']}), {row['link']}; {row['table']}")
    line("file", f"neocog/{row['file']}")
    if row["aliases"]:
        line("also", ", ".join(row["aliases"]))
    if row["options"]:
        line("options", ", ".join(f"{name}={default}" for name, default in row["options"].items()))
    if row["published"]:
        table(
            ("weights", "top-1 %", "top-5 %", "size", "sha256", "licence", "at hand"),
            [
                [w["tag"], w["top1"], w["top5"], w["preprocessing"]["size"], w["sha256"], w["licence"], w["at_hand"]]
                for w in row["published"]
            ],
        )
        first = 'the first is what "imagenet" means; ' if row["top1"] is not None else ""
        line("", f"{first}`--weights NAME` takes one of these")
