"""The options with which a network of the zoo stands in the place of a run."""

from pathlib import Path
from typing import Annotated

import typer

WEIGHTS = Annotated[
    str | None, typer.Option(help="No run but a network's name is given: imagenet, a published tag, or a file.")
]
CLASSES = Annotated[
    Path | None,
    typer.Option(help="With --weights: the class names, a line each, or as JSON (default: their numbers)."),
]
