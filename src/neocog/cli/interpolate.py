"""`neocog interpolate RUN A B`: from one picture to another, through their codes."""

from pathlib import Path
from typing import Annotated

import typer

from neocog.cli.out import JSON, as_json, line
from neocog.cli.sheets import new_file


def add(app: typer.Typer, text: str) -> None:
    app.command("interpolate", help=text)(interpolate)


def interpolate(
    run: Annotated[Path, typer.Argument(help="A run folder of an autoencoder.")],
    a: Annotated[Path, typer.Argument(help="A picture.")],
    b: Annotated[Path, typer.Argument(help="Another.")],
    steps: Annotated[int, typer.Option(min=2, max=1000, help="Pictures, both ends included.")] = 9,
    out: Annotated[Path | None, typer.Option(help="The PNG file (default: beside the run).")] = None,
    json: JSON = False,
) -> None:
    from neocog.app.autoencoding import interpolate as between
    from neocog.app.opened import Opened
    from neocog.app.pictures import mosaic
    from neocog.core.files import write_atomic

    path = new_file(out, run, "interpolated")
    write_atomic(path, mosaic(between(Opened.of(run), a, b, steps), steps, limit=None))
    if json:
        as_json({"out": path, "pictures": steps})
    else:
        line("pictures", f"{steps:,} from {a} to {b}: {path}")
