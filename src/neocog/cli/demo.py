"""`neocog demo`: the main job on the digits that ship inside scikit-learn."""

from pathlib import Path
from typing import Annotated

import typer

from neocog.cli.out import JSON
from neocog.cli.train import run_and_tell, start_run
from neocog.core.config import load_config


def add(app: typer.Typer, text: str) -> None:
    app.command("demo", help=text)(demo)


def demo(
    out: Annotated[Path | None, typer.Option(help="The run folder (default: a new one under runs/).")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Every random choice follows from it.")] = 0,
    json: JSON = False,
) -> None:
    from neocog.app.demo import SETTINGS

    config = load_config(None, {**SETTINGS, "seed": seed})
    run_and_tell(lambda events: start_run(config, out, events, "neocog demo", "never", False), json)
