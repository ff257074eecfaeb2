"""`neocog grow RUN --model NAME`: go on with a deeper network that begins as the trained one."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from neocog.cli.out import JSON, as_json, line
from neocog.cli.train import parse_knobs


def add(app: typer.Typer, text: str) -> None:
    app.command("grow", help=text)(grow)


def grow(
    run: Annotated[Path, typer.Argument(help="A run folder, or a model's folder.")],
    model: Annotated[str, typer.Option(help="The deeper network, one of `neocog models`.")],
    knob: Annotated[list[str], typer.Option(metavar="NAME=VALUE", help="An option of it (default: the run's).")] = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option(help="The new folder (default: one under runs/).")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Draws the weights inside the new blocks.")] = 0,
    json: JSON = False,
) -> None:
    from neocog.app.growing import grow_run

    grown = grow_run(run, model, out, parse_knobs(knob), seed=seed)
    if json:
        as_json(asdict(grown))
        return
    before, after = grown.parameters_before, grown.parameters_after
    line("copied", f"every block of {grown.grown_from} into {grown.model}, {before:,} parameters")
    for note in grown.notes:
        line("new", note)
    line("parameters", f"{before:,} before, {after:,} after: the new blocks begin as the identity")
    line("scores", f"differ by at most {grown.difference:.3g} on drawn pictures" if grown.difference else
                   "are equal on drawn pictures, bit for bit")  # fmt: skip
    line("model", str(grown.folder / "model"))
    line("next", f"neocog train DATA --model {grown.model} --weights {grown.folder} --regime full")
