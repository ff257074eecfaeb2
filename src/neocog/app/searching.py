"""A search for better settings: trials of the same networks on the same pictures, each an ordinary run.

OUT/study.db         the Optuna study, or the file that `study` names; several processes may share it
OUT/trial-0000/ ...  the runs; the first ones have the defaults, so that no search ends below them
OUT/best.toml        the best trial's settings: `neocog train --config` repeats it
OUT/search.json, trials.csv, search.html
"""

import json
import time as clocks
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from neocog.app import folder as run_folder
from neocog.app.compare import candidates
from neocog.app.compare_run import Clock, open_pictures
from neocog.app.machine import choose_machine
from neocog.app.processes import Place
from neocog.app.run import Run
from neocog.app.searching_loop import Searching
from neocog.app.searching_plan import fingerprint
from neocog.app.searching_study import load_optuna
from neocog.app.searching_table import FORMAT, NAME, Found, Row, values
from neocog.core.errors import ModelFileError, UsageError
from neocog.core.events import Events

TRIALS = 20  # where neither their number nor a time is given


@dataclass(frozen=True)
class Search:
    """A search, opened from its folder; reading it needs no Optuna."""

    folder: Path

    @classmethod
    def open(cls, path: str | Path) -> "Search":
        """ModelFileError where the folder holds none, or it is damaged."""
        search = cls(Path(path))
        assert search.found
        return search

    @cached_property
    def found(self) -> Found:
        path = self.folder / NAME
        try:
            values = json.loads(path.read_bytes())
            if values["format"] > FORMAT:
                raise ModelFileError(f"{path} was written by a newer neocog", "upgrade neocog")
            return Found(**values | {"rows": [Row(**row) for row in values["rows"]]})
        except FileNotFoundError:
            hint = "give a folder that `neocog compare --search` made"
            raise ModelFileError(f"{self.folder} holds no search", hint) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            hint = "the command that made it writes it again"
            raise ModelFileError(f"{path} is damaged ({error or type(error).__name__})", hint) from None

    @property
    def rows(self) -> list[Row]:
        """The trials, as they were begun."""
        return self.found.rows

    def table(self) -> list[dict[str, Any]]:
        """The same as plain values, as trials.csv has them."""
        return [values(row) for row in self.rows]

    @property
    def best(self) -> Row | None:
        """None where no trial was whole."""
        return next((row for row in self.rows if row.trial == self.found.best), None)

    @property
    def run(self) -> Run:
        """The best trial's. UsageError where there is none."""
        if self.best is None:
            raise UsageError(f"{self.folder} has no whole trial", "the command that began the search goes on with it")
        return Run.open(self.best.folder)

    @property
    def config(self) -> Path:
        """A file of settings that repeats the best trial."""
        return self.folder / "best.toml"

    @property
    def report(self) -> Path:
        return self.folder / "search.html"


def search(
    data: str | Path, models: Iterable[str], *, regimes: Iterable[str] = ("auto",), trials: int | None = None,
    time: str | None = None, study: str | Path | None = None, out: str | Path | None = None,
    events: Events | None = None, **settings: Any,
) -> Search:  # fmt: skip
    """Looks for better settings of `models` on `data` than the defaults are.

    `models`, `regimes`: as for `neocog.app.compare.compare`; of several ones the search also decides which. `trials`:
    how many all processes make together; `time`: a budget of this process, after which it begins no more (neither:
    TRIALS). `study`: the SQLite file (default: study.db in `out`); a search that lies there and was begun in the same
    way is gone on with, or shared. `settings`: any of `neocog.core.config.TrainConfig`; what is given is not searched.
    Errors: see `neocog.core.errors`; a loss that diverges is a failed trial.
    """
    given = {"time": time, **settings}
    return start(str(data), list(models), list(regimes), given, out, events or Events(), trials=trials, study=study)


def start(
    data: str, models: Sequence[str], regimes: Sequence[str], given: dict[str, Any], out: str | Path | None,
    events: Events, *, trials: int | None = None, study: str | Path | None = None, command: str = "",
    resume: str = "auto", spent: float = 0.0, clock: Clock = clocks.monotonic,
) -> Search:  # fmt: skip
    """`search`, with what the command line knows beside it: as `neocog.app.compare.start`."""
    began = clock() - spent
    load_optuna()
    if Place.of_environment().size > 1:
        raise UsageError("a search runs in one process", "start it several times without torchrun: they share --study")
    config, rows = candidates(data, models, regimes, given)
    if trials is None and given.get("time") is None:
        trials = TRIALS
    if trials is not None and trials < len(rows):
        raise UsageError(f"--trials {trials}: the defaults of {len(rows)} candidates are tried first",
                         f"give --trials {len(rows)} or more")  # fmt: skip
    folder, path = places(out, study, data, again=resume != "never")
    pictures = open_pictures(rows[0].config(config), events)  # wrong data is found before a folder is made
    if not len(pictures.rows("val")):
        raise UsageError("no picture is kept for validation, by which trials are judged",
                         "give --val-fraction more than 0")  # fmt: skip
    asked = fingerprint(config, rows, pictures)
    sizes = ", ".join(f"{name} {len(pictures.rows(name)):,}" for name in ("train", "val", "test"))
    facts = {
        "pictures": f"{len(pictures):,} in {len(pictures.classes)} classes ({sizes})",
        "split": pictures.how_split, "seed": config.seed, "machine": choose_machine(config).describe(),
    }  # fmt: skip
    del pictures
    made = [one for one in (folder, path.parent) if not one.exists()]
    for one in (folder, path.parent):
        run_folder.create(one)
    try:
        searching = Searching(
            folder, path, config, rows, given, events, asked=asked, facts=facts, trials=trials, command=command,
            began=began, fall_back=resume == "auto", clock=clock,
        )  # fmt: skip
        with closing(searching):
            searching.run()
            searching.conclude()
    finally:
        for one in made:
            _remove_if_empty(one)
    return Search.open(folder)


def _remove_if_empty(folder: Path) -> None:
    """Nothing remains of a search that is refused before its study is made."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def places(out: str | Path | None, study: str | Path | None, data: str, *, again: bool) -> tuple[Path, Path]:
    """(the folder, the study's file). UsageError where either cannot be used, or they hold a search and `again` is
    false."""
    if out is None and study is not None:
        out = Path(study).with_suffix("")  # every process that is given this study finds the same one
        if out == Path(study):
            raise UsageError(f"--study {study} has no suffix", "name the file as NAME.db, or give --out")
    folder = Path(out) if out is not None else run_folder.choose_folder(None, "search", data)
    path = Path(study) if study is not None else folder / "study.db"
    if path.is_dir():
        raise UsageError(f"{path} is a folder", "give --study the name of a file, such as search.db")
    if path.exists() and not again:
        raise UsageError(f"{path} holds a search already", "leave out --resume never to go on with it")
    if not is_of_search(folder, path):
        run_folder.choose_folder(folder, "search", data)
    return folder, path


def is_of_search(folder: Path, path: Path) -> bool:
    """Nothing lies there but what a search with this study has written, or one that is just beginning."""
    begun = {f"{path.name}.lock", "measuring"}
    written = {path.name, f"{path.name}-journal", "best.toml", "trials.csv", NAME, "search.html"}

    def is_own(name: str) -> bool:
        if name in begun or (name.startswith(".") and ".tmp" in name):
            return True
        # Trials without their study are those of another search.
        return path.exists() and (name in written or name.startswith("trial-"))

    names = [one.name for one in folder.iterdir()] if folder.is_dir() else []
    return bool(names) and all(map(is_own, names))
