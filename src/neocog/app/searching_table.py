"""What a search found: a row for every trial, the best settings as a file that repeats them, a table and a page.

The best is so by the validation pictures alone, ties by their loss. Only then, and only of it, are the test pictures
looked at: the best of many on them would look better than it is.
"""

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import neocog
from neocog.app import folder as run_folder
from neocog.app.compare_table import cell
from neocog.app.reporting import settings_of
from neocog.app.run import Run
from neocog.app.searching_space import BY_NAME, CANDIDATE
from neocog.app.searching_study import ATTEMPTS, SharedStudy, deaths, latest, quiet
from neocog.app.searching_trial import name_of
from neocog.core.config import TrainConfig
from neocog.core.files import write_atomic
from neocog.report.search import AxisRow, SearchPage, TrialRow, render_search

NAME = "search.json"
FORMAT = 1
LEAST = 10  # whole trials before anything is said of what mattered
CHOSEN = (
    "The best trial is so by validation accuracy, ties by the loss. The test pictures were looked at once, after the "
    "search, and for this trial only."
)


@dataclass
class Row:
    """A set of settings that was tried. `state`: finished, pruned, failed, stopped, running or waiting."""

    trial: int
    name: str  # of its run's folder
    candidate: str
    model: str
    regime: str
    state: str
    settings: dict[str, Any]  # what was searched
    planned: int  # epochs
    epochs: float | None = None
    val: float | None = None
    val_loss: float | None = None
    seconds: float | None = None
    note: str = ""
    folder: str = ""


@dataclass
class Found:
    """search.json. `best`: the row that did best, None where no trial was whole."""

    asked: dict[str, Any]
    candidates: dict[str, dict[str, Any]]
    rows: list[Row]
    study: str
    command: str
    seconds: float  # of this process
    best: int | None = None
    test: dict[str, Any] | None = None  # of the best: accuracy, interval, pictures, baseline
    importance: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    written_by: str = neocog.__version__
    format: int = FORMAT


def rows_of(study: SharedStudy) -> list[Row]:
    """By place, each as its last attempt left it."""
    known = study.trials()
    found = []
    for place, trial in sorted(latest(known).items()):
        facts, tried = trial.user_attrs, dict(trial.params or trial.user_attrs.get("given", {}))
        candidate = tried.pop(CANDIDATE, None) or next(iter(study.candidates))
        one, died = study.candidates[candidate], len(deaths(known, place))
        state = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "stopped"}.get(trial.state.name)
        note = facts.get("error", "")
        if note or (state == "stopped" and died >= ATTEMPTS):
            state, note = "failed", note or f"it ended without a result {died} times"
        elif died:
            note = f"begun {died + 1} times: its process ended before it did"
        found.append(
            Row(
                place, name_of(place), candidate, one["model"], one["regime"], state or trial.state.name.lower(),
                {name: tried[name] for name in one["defaults"] if name in tried}, one["epochs"],
                facts.get("epochs"), facts.get("val_accuracy"), facts.get("val_loss"), facts.get("seconds"), note,
                facts.get("folder", ""),
            )
        )  # fmt: skip
    return found


def best_of(rows: list[Row]) -> Row | None:
    """Among whole trials; the first of those that are equal, which is the defaults where they are one."""
    whole = [row for row in rows if row.state == "finished"]
    return min(whole, key=lambda row: (-(row.val or 0.0), row.val_loss or 0.0, row.trial), default=None)


def importance_of(study: SharedStudy, rows: list[Row]) -> dict[str, float]:
    """Shares of the settings in what set good trials apart (PED-ANOVA: Watanabe, Bansal and Hutter, IJCAI 2023,
    arXiv:2304.10255). Nothing where fewer than LEAST trials were whole, or all did equally well."""
    scores = [row.val for row in rows if row.state == "finished"]
    if len(scores) < LEAST or len(set(scores)) == 1:
        return {}
    with quiet() as optuna:
        return {name: float(share) for name, share in optuna.importance.get_param_importances(study.study).items()}


def on_test(row: Row) -> dict[str, Any] | None:
    """None where there are no test pictures, or the run lies on another machine."""
    folder = Path(row.folder)
    if not run_folder.is_run(folder) or not Run.open(folder).has("test"):
        return None
    numbers = Run.open(folder).metrics("test")
    return {"accuracy": numbers["top1"], "interval": numbers["top1_interval"], "pictures": numbers["pictures"],
            "baseline": numbers["baseline"]}  # fmt: skip


def conclude(folder: Path, found: Found, config: TrainConfig, replay: TrainConfig | None) -> None:
    """search.json, trials.csv, and where a trial was whole (`replay`: its settings) best.toml and search.html."""
    write_atomic(folder / "trials.csv", to_csv(found.rows))
    if replay is not None and found.best is not None:
        path = folder / "best.toml"
        comment = f"neocog {neocog.__version__}; {name_of(found.best)} again: neocog train --config {path}"
        write_atomic(path, replay.to_toml(comment))
        write_atomic(folder / "search.html", render_search(page_of(found, config, path)))
    write_atomic(folder / NAME, json.dumps(asdict(found), indent=1, allow_nan=False) + "\n")


def values(row: Row) -> dict[str, Any]:
    """A row of the table; None where there is no number."""
    tried = {name: row.settings.get(name) for name in BY_NAME}
    return {
        "trial": row.name, "candidate": row.candidate, "state": row.state, "val_accuracy": row.val,
        "val_loss": row.val_loss, "epochs": row.epochs, "epochs_planned": row.planned, "seconds": row.seconds,
    } | tried | {"note": row.note}  # fmt: skip


def to_csv(rows: list[Row]) -> str:
    table = [values(row) for row in rows]
    lines = [",".join(table[0]), *(",".join(cell(value) for value in row.values()) for row in table)]
    return "".join(line + "\n" for line in lines)


def said(settings: Mapping[str, Any]) -> str:
    """lr 0.0012, augment photo"""
    return ", ".join(f"{name} {plain(value)}" for name, value in settings.items())


def plain(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def page_of(found: Found, config: TrainConfig, replay: Path) -> SearchPage:
    rows = found.rows
    best = next(row for row in rows if row.trial == found.best)
    usual = next(row for row in rows if row.candidate == best.candidate)  # the first of each are its defaults
    defaults, test = found.candidates[best.candidate]["defaults"], found.test
    return SearchPage(
        data_name=Path(config.data).name or config.data,
        created=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        how=how(found),
        chosen=CHOSEN,
        best=best.name,
        candidate=best.candidate,
        val=best.val or 0.0,
        usual=usual.val,
        is_usual=best is usual,
        test=None if test is None else test["accuracy"],
        interval=None if test is None else tuple(test["interval"]),
        test_pictures=0 if test is None else test["pictures"],
        baseline=0.0 if test is None else test["baseline"],
        axes=tuple(
            AxisRow(
                name, plain(default), plain(best.settings[name]), BY_NAME[name].words(default),
                found.importance.get(name), BY_NAME[name].reason,
            )
            for name, default in defaults.items()
        ),
        rows=tuple(
            TrialRow(row.trial, row.name, row.candidate, row.state, row.val, row.val_loss, row.epochs, row.planned,
                     row.seconds, said(row.settings), row.note)
            for row in rows
        ),
        several=len(found.candidates) > 1,
        importance_least=LEAST,
        notes=tuple(found.notes),
        facts=tuple((name, str(fact)) for name, fact in found.facts.items()),
        settings=tuple(one for one in settings_of(config)
                       if one.name not in {"model", "regime", "weights", "time", *defaults}),
        command=found.command or "neocog compare ... --search",
        replay=f"neocog train --config {shlex.quote(str(replay))}",
    )  # fmt: skip


def how(found: Found) -> str:
    """What was done, in a few sentences."""
    count = {state: sum(row.state == state for row in found.rows) for state in ("finished", "pruned", "failed")}
    words = {"pruned": "paused early, below the median of the others", "failed": "failed"}
    also = "".join(f", {count[state]} {word}" for state, word in words.items() if count[state])
    return (
        f"{len(found.rows)} trials on the same training pictures with the same seed: {count['finished']} whole{also}. "
        "The first had the defaults; settings of the others were proposed by TPE from what was known by then."
    )
