"""`neocog data list` and `neocog data get NAME DIR`."""

from pathlib import Path
from typing import Annotated

import typer

from neocog.cli.out import JSON, as_json, line, table
from neocog.cli.progress import Watch
from neocog.core.events import Events


def add(app: typer.Typer, text: str) -> None:
    group = typer.Typer(no_args_is_help=True, help=text)
    group.command("list", help="The named data sets: classes, pictures, where they are.")(show)
    group.command("get", help="Download a named data set, check it and put it into a folder.")(get)
    app.add_typer(group, name="data")


def show(json: JSON = False) -> None:
    from neocog.app.naming import describe_sets

    rows = describe_sets()
    if json:
        as_json(rows)
        return
    columns = ("name", "what", "classes", "pictures", "shape", "MB", "licence", "at hand")
    table(columns, [[row[name] for name in columns] for row in rows])
    line("", "train on one with `neocog train NAME`, or on a folder that holds its original files")


def get(
    name: Annotated[str, typer.Argument(help="A name of `neocog data list`.")],
    folder: Annotated[Path | None, typer.Argument(help="Where to put it (default: the user's cache).")] = None,
) -> None:
    from neocog.app.naming import get_set

    events = Events()
    with Watch(events):
        path = get_set(name, folder, events)
    line("data", f"{name} is in {path}")
    line("next", f"neocog train {path}")
