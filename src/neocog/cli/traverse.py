"""`neocog traverse RUN PICTURE`: what each number of a picture's code does, and each class."""

from pathlib import Path
from typing import Annotated

import typer

from neocog.cli.out import JSON, as_json, line
from neocog.cli.sheets import new_file

NUMBERS = "Numbers of the code, those that vary most first; they are counted from 0, as in what `neocog embed` writes."


def add(app: typer.Typer, text: str) -> None:
    app.command("traverse", help=text)(traverse)


def traverse(
    run: Annotated[Path, typer.Argument(help="A run folder of an autoencoder.")],
    picture: Annotated[Path, typer.Argument(help="A picture.")],
    numbers: Annotated[int, typer.Option(min=0, max=1000, help=NUMBERS)] = 8,
    steps: Annotated[int, typer.Option(min=2, max=1000, help="Pictures of a row.")] = 9,
    out: Annotated[Path | None, typer.Option(help="The PNG file (default: beside the run).")] = None,
    json: JSON = False,
) -> None:
    import torch

    from neocog.app.autoencoding import traverse as rows_of
    from neocog.app.opened import Opened
    from neocog.app.pictures import mosaic
    from neocog.core.files import write_atomic

    path = new_file(out, run, "traversed")
    rows = list(rows_of(Opened.of(run), picture, steps, numbers))
    write_atomic(path, mosaic(torch.cat([row for _, row in rows]), steps, limit=None))
    if json:
        as_json({"out": path, "rows": [what for what, _ in rows]})
        return
    for place, (what, _) in enumerate(rows, 1):
        line(f"row {place}", what)
    line("pictures", str(path))
