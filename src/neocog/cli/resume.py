"""`neocog resume RUN`."""

from pathlib import Path
from typing import Annotated

import typer

from neocog.cli.out import JSON
from neocog.cli.train import run_and_tell


def add(app: typer.Typer, text: str) -> None:
    app.command("resume", help=text)(resume)


def resume(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    epochs: Annotated[int | None, typer.Option(min=1, help="Make the run this many epochs long.")] = None,
    json: JSON = False,
) -> None:
    from neocog.app.train import resume as continue_run

    run_and_tell(lambda events: continue_run(run, epochs=epochs, events=events), json)
