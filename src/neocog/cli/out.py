"""What every command prints with: tables and lines for people, JSON for programs."""

import json
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from neocog.core.errors import one_line

JSON = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def console(stderr: bool = False) -> Console:
    # Outside a terminal there is no width to respect: lines stay whole for grep.
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() or "COLUMNS" in os.environ else 200, highlight=False)


def line(label: str, text: str) -> None:
    """`label` in a column of its own, then the text; names from files are shown, never obeyed."""
    style = "yellow" if label == "warning" else "bold"
    console().print(f"[{style}]{label:<10}[/] {escape(one_line(text))}", soft_wrap=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str | None = None) -> None:
    """Numbers stand to the right, everything else to the left."""
    out = Table(title=title, box=None, pad_edge=False, title_justify="left", header_style="bold")
    for number, name in enumerate(columns):
        numeric = all(isinstance(row[number], (int, float)) or row[number] is None for row in rows)
        out.add_column(name, justify="right" if numeric and rows else "left", overflow="fold", no_wrap=numeric)
    for row in rows:
        out.add_row(*(show(cell) for cell in row))
    console().print(out)


def show(cell: Any) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        return f"{cell:,.1f}" if abs(cell) >= 100 else f"{cell:.4g}"
    return escape(one_line(str(cell)))


def as_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False, default=str))
