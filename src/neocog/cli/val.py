"""`neocog val RUN [DATA]`: the numbers of a run, computed again."""

from pathlib import Path
from typing import Annotated

import typer

from neocog.cli.out import JSON, as_json, line, table
from neocog.cli.progress import Watch
from neocog.core.events import Events


def add(app: typer.Typer, text: str) -> None:
    app.command("val", help=text)(val)


def val(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    data: Annotated[str | None, typer.Argument(help="Other labelled pictures (default: the run's own).")] = None,
    split: Annotated[str, typer.Option(metavar="val|test|all", help="Which pictures of the data.")] = "test",
    out: Annotated[Path | None, typer.Option(help="Write the predictions to this CSV file.")] = None,
    json: JSON = False,
) -> None:
    from neocog.app.validating import validate

    events = Events()
    with Watch(events, quiet=json):
        numbers = validate(run, data, split=split, out=out, events=events)
    if json:
        as_json(numbers)
        return
    low, high = numbers["top1_interval"]
    line(
        "accuracy", f"{numbers['top1']:.4f} (95 % interval {low:.4f} to {high:.4f}) on {numbers['pictures']:,} pictures"
    )
    if numbers["top5"] is not None:
        line("top-5", f"{numbers['top5']:.4f}")
    line("balanced", f"{numbers['balanced_accuracy']:.4f}")
    line("macro F1", f"{numbers['macro_f1']:.4f}")
    line("ECE", f"{numbers['ece']:.4f}")
    columns = ("class", "support", "precision", "recall", "f1")
    table(columns, [[row[name] for name in columns] for row in numbers["per_class"]])
