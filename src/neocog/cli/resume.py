"""`neocog resume RUN`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from neocog.cli.out import JSON
from neocog.cli.started import since_start
from neocog.cli.train import DEVICES, run_and_tell, without_devices


def add(app: typer.Typer, text: str) -> None:
    app.command("resume", help=text)(resume)


def resume(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    epochs: Annotated[int | None, typer.Option(min=1, help="Make the run this many epochs long.")] = None,
    time: Annotated[
        str | None, typer.Option(help="Another time budget, of all sittings together: 90s, 10m, 2h.")
    ] = None,
    previous: Annotated[
        bool, typer.Option("--previous", help="If the newest checkpoint is damaged, go on from the one before it.")
    ] = False,
    devices: DEVICES = 1,
    json: JSON = False,
) -> None:
    if devices > 1:
        from neocog.app.folder import check_run
        from neocog.app.processes import launch

        check_run(run)
        raise typer.Exit(launch(devices, without_devices(sys.argv[1:]), run, since_start()))
    from neocog.app.train import resume as continue_run

    run_and_tell(
        lambda events: continue_run(
            run, epochs=epochs, time=time, previous=previous, events=events, spent=since_start()
        ),
        json,
    )
