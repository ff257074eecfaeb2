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


def in_rows(value: dict[str, Any]) -> None:
    """JSON with each row of numbers on one line, and single numbers together on one, however many brackets each has."""
    lines = [f"  {json.dumps(key)}: {_rows(value[key])}" for key in value]
    print("{\n" + ",\n".join(lines) + "\n}")


def _rows(value: Any, depth: int = 1) -> str:
    flat = json.dumps(value, ensure_ascii=True, allow_nan=False, default=str)
    if not isinstance(value, list) or all(_short(one) for one in value):
        return flat
    gap = "  " * depth
    return "[\n" + ",\n".join(f"{gap}  {_rows(one, depth + 1)}" for one in value) + f"\n{gap}]"


def _short(value: Any) -> bool:
    """A single number, however many brackets stand around it."""
    return not isinstance(value, list) or (len(value) == 1 and _short(value[0]))


def as_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False, default=str))
