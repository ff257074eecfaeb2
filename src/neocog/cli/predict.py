"""`neocog predict RUN FILES...`: one line per picture, as they come."""

import json as jsonlib
from pathlib import Path
from typing import Annotated

import typer

from neocog.cli.weights import CLASSES, WEIGHTS
from neocog.core.cells import to_cell
from neocog.core.errors import DataError, UsageError, one_line


def add(app: typer.Typer, text: str) -> None:
    app.command("predict", help=text)(predict)


def predict(
    run: Annotated[Path, typer.Argument(help="A run folder; with --weights a network's name.")],
    files: Annotated[list[str], typer.Argument(help="Pictures, or folders of pictures.")],
    format: Annotated[str, typer.Option(metavar="table|json|csv", help="json: one object per line.")] = "table",
    top: Annotated[int, typer.Option(min=1, help="How many classes to name per picture.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, max=4096, help="Pictures per batch.")] = 32,
    weights: WEIGHTS = None,
    classes: CLASSES = None,
) -> None:
    from neocog.app.pretrained import open_run

    write = WRITERS.get("json" if json else format)
    if write is None:
        raise UsageError(f"there is no format called {format!r}", "use table, json or csv")
    opened = open_run(run, weights, classes)
    failed = count = 0
    if write is write_csv:
        print("file,rank,label,probability,problem")
    for p in opened.predict(files, batch_size=batch_size):
        count += 1
        failed += p.label is None
        order = p.probabilities.argsort()[::-1][:top].tolist()
        write(str(p.file), [(opened.classes[i], float(p.probabilities[i])) for i in order], p.problem)
    if count == 0:
        raise DataError("there are no pictures in what was given", "give picture files, or a folder that holds some")
    if failed:
        raise DataError(f"{failed} of {count} files could not be read as pictures", "they are named above")


Answers = list[tuple[str, float]]


def write_table(file: str, answers: Answers, problem: str) -> None:
    text = "   ".join(f"{label} {p:.3f}" for label, p in answers) if answers else f"not read, {problem}"
    print(f"{one_line(text):<32} {one_line(file)}")


def write_json(file: str, answers: Answers, problem: str) -> None:
    row = {"file": file, "answers": [{"label": label, "probability": p} for label, p in answers]}
    print(jsonlib.dumps(row | ({"problem": problem} if problem else {}), ensure_ascii=True))


def write_csv(file: str, answers: Answers, problem: str) -> None:
    for rank, (label, p) in enumerate(answers, 1):
        print(f"{to_cell(file)},{rank},{to_cell(label)},{p:.6f},")
    if not answers:
        print(f"{to_cell(file)},,,,{to_cell(problem)}")


WRITERS = {"table": write_table, "json": write_json, "csv": write_csv}
