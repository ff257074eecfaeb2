"""`neocog generate RUN`: pictures of codes that are drawn at random."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from neocog.cli.out import JSON, as_json, line
from neocog.cli.sheets import new_file


def add(app: typer.Typer, text: str) -> None:
    app.command("generate", help=text)(generate)


def generate(
    run: Annotated[Path, typer.Argument(help="A run folder of an autoencoder.")],
    number: Annotated[int, typer.Option("--number", "-n", min=1, max=10_000, help="Pictures.")] = 64,
    out: Annotated[Path | None, typer.Option(help="The PNG file (default: beside the run).")] = None,
    seed: Annotated[int, typer.Option(min=0, help="What is drawn follows from it.")] = 0,
    judge: Annotated[
        Path | None,
        typer.Option(help="A run folder of a classifier, by whose embedding they are compared with real pictures."),
    ] = None,
    json: JSON = False,
) -> None:
    from neocog.app.autoencoding import generate as made
    from neocog.app.opened import Opened
    from neocog.app.pictures import mosaic
    from neocog.core.files import write_atomic

    path = new_file(out, run, "generated")
    opened = Opened.of(run)
    pictures = made(opened, number, seed)
    judged = None
    if judge is not None:
        from neocog.app.judging import judge as judged_by

        judged = judged_by(opened, pictures, Opened.of(judge), seed)
    write_atomic(path, mosaic(pictures, max(1, round(number**0.5)), limit=None))
    if json:
        as_json({"out": path, "pictures": number, "seed": seed} | ({"judged": asdict(judged)} if judged else {}))
        return
    where = "the prior N(0, 1)" if opened.autoencoder.probabilistic else "a normal distribution fitted to its codes"
    line("pictures", f"{number:,} of codes drawn from {where}: {path}")
    if judged is not None:
        line("distance", f"{judged.made:.2f} (Fréchet) from {judged.real:,} pictures that were kept from training; "
                         f"as many that it learned from have {judged.training:.2f}")  # fmt: skip
        line("judge", f"the {judged.numbers} numbers that {judged.judge} decides by; distances by another cannot be "
                      "compared")  # fmt: skip
