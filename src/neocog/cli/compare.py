"""`neocog compare`: several networks on the same pictures inside one time budget."""

import inspect
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from neocog.app.searching_space import SPACE
from neocog.cli.out import JSON, as_json, line, table
from neocog.cli.progress import Watch
from neocog.cli.started import since_start
from neocog.cli.train import option, parse_knobs
from neocog.core.config import TrainConfig
from neocog.core.errors import UsageError
from neocog.core.events import Events

MODELS = "Networks, with commas between them; NAME:REGIME for one under a regime of its own."
REGIMES = "Regimes under which each network is trained, with commas between them."
TIME = "Time budget of everything: 90s, 10m, 2h. Without one each candidate is trained for --epochs."
WEIGHTS = "As for train, or a folder in which each network's file lies as NAME.safetensors or NAME.pth."
OUT = "The folder (default: a new one under runs/). What lies there of the same comparison is gone on with."
RESUME = "Where the comparison lies in --out already: refuse, or go on; auto: also past a damaged checkpoint."
SEARCH = (
    "Look for better settings with Optuna instead of comparing with the defaults: "
    f"{', '.join(axis.outline for axis in SPACE)}; of each candidate those that its regime has. What is given here is "
    "not searched. --time: of this process; several may share one search."
)
TRIALS = "With --search: settings that all processes try together (default: 20, or what fits into --time)."
STUDY = "With --search: the SQLite file that processes share (default: study.db in --out)."
# What every candidate has its own of, and what a comparison has none of.
OWN = {"data", "model", "regime", "weights", "time", "folds", "fold", "repeats"}


def add(app: typer.Typer, text: str) -> None:
    app.command("compare", help=text)(with_settings(compare))


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """The command with one more option for each setting that candidates share."""
    parameters = [p for p in inspect.signature(command).parameters.values() if p.kind is p.KEYWORD_ONLY]
    parameters += [option(name, field) for name, field in TrainConfig.model_fields.items() if name not in OWN]

    def run(**arguments: Any) -> None:
        command(**arguments)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def compare(
    *,
    data: Annotated[str, typer.Argument(help=TrainConfig.model_fields["data"].description)],
    models: Annotated[str, typer.Option(metavar="A,B,...", help=MODELS)],
    regimes: Annotated[str, typer.Option(metavar="R,S,...", help=REGIMES)] = "auto",
    time: Annotated[str | None, typer.Option(help=TIME)] = None,
    weights: Annotated[str | None, typer.Option(help=WEIGHTS)] = None,
    search: Annotated[bool, typer.Option("--search", help=SEARCH)] = False,
    trials: Annotated[int | None, typer.Option(min=1, max=100_000, help=TRIALS)] = None,
    study: Annotated[Path | None, typer.Option(metavar="FILE.db", help=STUDY)] = None,
    out: Annotated[Path | None, typer.Option(help=OUT)] = None,
    resume: Annotated[str, typer.Option(metavar="never|exact|auto", help=RESUME)] = "exact",
    json: JSON = False,
    **settings: Any,
) -> None:
    if resume not in ("never", "exact", "auto"):
        raise UsageError(f"--resume {resume} is not known", "use never, exact or auto")
    if not search and (trials is not None or study is not None):
        raise UsageError("--trials and --study go with --search", "add --search, or leave them out")
    settings["knobs"] = parse_knobs(settings.pop("knobs")) or None
    given = {"time": time, "weights": weights, **settings}
    events = Events()
    if search:
        from neocog.app import searching

        with Watch(events, quiet=json):
            best = searching.start(
                data, words(models), words(regimes), given, out, events, trials=trials, study=study,
                command=shlex.join(["neocog", *sys.argv[1:]]), resume=resume, spent=since_start(),
            )  # fmt: skip
        tell_search(best, json)
        return
    from neocog.app.compare import start

    with Watch(events, quiet=json):
        found = start(
            data, words(models), words(regimes), given, out, events, command=shlex.join(["neocog", *sys.argv[1:]]),
            resume=resume, spent=since_start(),
        )  # fmt: skip
    if json:
        tell_json(found)
        return
    tell(found)


def words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def tell_json(found: Any) -> None:
    as_json({"folder": found.folder, "report": found.report, "best": found.rows[0].name, "verdict": found.verdict,
             "paired": found.state.paired, "notes": found.state.notes, "rows": found.table()})  # fmt: skip


def tell(found: Any) -> None:
    rows = []
    for row in found.table():
        interval = "" if row["test_low"] is None else f"{row['test_low']:.3f} to {row['test_high']:.3f}"
        memory = None if row["training_step_bytes"] is None else round(row["training_step_bytes"] / 2**20)
        rows.append([row["candidate"], fixed(row["test_accuracy"], 4), interval, fixed(row["val_accuracy"], 4),
                     row["trained"], row["params"], row["macs"], fixed(row["training_seconds"], 1),
                     fixed(row["latency_ms"], 1), memory])  # fmt: skip
    table(("candidate", "test", "95 % interval", "val", "trained", "parameters", "MACs", "seconds", "ms a picture",
           "MiB a step"), rows)  # fmt: skip
    for row in found.table():
        if row["note"]:
            line("note", f"{row['candidate']}: {row['note']}")
    line("result", f"{found.rows[0].name} did best on the validation pictures")
    line("best two", found.verdict)
    line("report", str(found.report))
    line("next", f"neocog predict {found.folder / found.rows[0].name} PICTURES")


def fixed(value: float | None, digits: int) -> str | None:
    return None if value is None else f"{value:.{digits}f}"


def tell_search(search: Any, json: bool) -> None:
    best, found = search.best, search.found
    if json:
        as_json({"folder": search.folder, "study": found.study, "report": search.report if best else None,
                 "config": search.config if best else None, "best": best and best.name, "test": found.test,
                 "importance": found.importance, "notes": found.notes, "rows": search.table()})  # fmt: skip
        return
    if best is None:
        line("result", "no trial has ended yet; other processes are still at theirs")
        return
    usual = next(row for row in search.rows if row.candidate == best.candidate)
    rows = [[name, best.settings[name], default] for name, default in
            found.candidates[best.candidate]["defaults"].items()]  # fmt: skip
    table(("setting", "best", "default"), rows)
    beside = "" if usual.val is None or usual is best else f"; the defaults reach {usual.val:.4f}"
    line("result", f"{best.name}: val accuracy {best.val:.4f}{beside}")
    if found.test is not None:
        low, high = found.test["interval"]
        line("test", f"accuracy {found.test['accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f}) on "
                     f"{found.test['pictures']:,} pictures, looked at for this trial only")  # fmt: skip
    line("report", str(search.report))
    line("next", f"neocog train --config {search.config}")
