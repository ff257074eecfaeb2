"""`neocog denoise RUN FILES...`: what an autoencoder makes of pictures."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neocog.cli.out import JSON, as_json, line
from neocog.core.errors import DataError, UsageError
from neocog.core.words import counted

if TYPE_CHECKING:
    from neocog.app.autoencoding import Written

RENAMED = 10  # files of another name that are listed; --json has all
SIZE = """Each comes back as large as the network was trained to read (train --image-size): the middle of it, smaller or
larger than it was."""


def add(app: typer.Typer, text: str) -> None:
    app.command("denoise", help=f"{text} {' '.join(SIZE.split())}")(denoise)


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
        size, short = opened.run.card.preprocessing.size, opened.run.card.preprocessing.resize
        for warning in other_sizes(found, size, short):
            line("warning", warning)
        renamed = [one for one in found if one.out and one.out.stem != one.file.stem]
        for one in renamed[:RENAMED]:
            line("renamed", f"{one.file}, as its name was taken: {one.out}")
        if len(renamed) > RENAMED:
            line("", f"and {len(renamed) - RENAMED:,} more; --json names all")
        line("pictures", f"{len(found) - len(bad):,} of {size} x {size} pixels in {out}")
    if bad:
        raise DataError(f"{len(bad)} of {len(found)} files could not be read as pictures", "they are named above")


def other_sizes(found: Sequence["Written"], size: int, short: int) -> Iterator[str]:
    """One sentence on the files that do not come back as they were; none where all do. `short`: what their short side
    becomes before the middle, `size` on each side, is cut out."""
    other = [one for one in found if one.out and (*one.size, short) != (size, size, size)]
    if not other:
        return
    height, width = other[0].size
    what = "it" if height == width and short == size else "the middle of it"
    how = "smaller" if min(height, width) > short else "larger" if min(height, width) < short else "alone"
    more = f", and so with {counted(len(other) - 1, 'more file')}" if len(other) > 1 else ""
    hint = ": train with --image-size for larger ones" if any(min(one.size) > size for one in other) else ""
    yield (
        f"{other[0].file} is {width} x {height} pixels; the network reads {size} x {size}, so {what} comes back {how}"
        f"{more}{hint}"
    )
