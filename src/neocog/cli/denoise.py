"""`neocog denoise RUN FILES...`: what an autoencoder makes of pictures."""

from pathlib import Path
from typing import Annotated

import typer

from neocog.cli.out import JSON, as_json, line
from neocog.core.errors import DataError, UsageError


def add(app: typer.Typer, text: str) -> None:
    app.command("denoise", help=text)(denoise)


def denoise(
    run: Annotated[Path, typer.Argument(help="A run folder of an autoencoder, trained with --noise.")],
    files: Annotated[list[str], typer.Argument(help="Pictures, or folders of pictures.")],
    out: Annotated[Path, typer.Option(help="A new folder for the PNG files.")],
    json: JSON = False,
) -> None:
    from neocog.app.autoencoding import denoise as made_better
    from neocog.app.opened import Opened

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists already, and is not overwritten unasked", "give a folder that does not exist")
    opened = Opened.of(run)
    opened.run.must_be("reconstruction", "gives no picture back")
    if not json and opened.run.config.noise in (None, "none"):
        line("warning", "this autoencoder was trained without --noise: it copies, and was never asked to make better")
    found = list(made_better(opened, files, out))
    bad = [one for one in found if one.out is None]
    for one in bad:
        line("not read", f"{one.file}, {one.problem}")
    if len(bad) == len(found):
        raise DataError("there are no pictures in what was given", "give picture files, or a folder that holds some")
    if json:
        as_json([{"file": one.file, "out": one.out, "problem": one.problem} for one in found])
    else:
        size = opened.run.card.preprocessing.size
        line("pictures", f"{len(found) - len(bad):,} of {size} x {size} pixels in {out}")
    if bad:
        raise DataError(f"{len(bad)} of {len(found)} files could not be read as pictures", "they are named above")
