"""A search's memory: an Optuna study in one SQLite file, which several processes and machines may share.

A *place* is a set of settings to try, counted from 0; an Optuna trial is one attempt at it. Who asks for the next
attempt, counts or repairs holds the file's lock meanwhile; what happens to an attempt afterwards is its worker's
business alone. So a kill at any moment leaves one of few states, and whoever asks next mends them:

    nothing was said of an attempt's worker      it never was
    its worker is dead, or silent for GRACE      it failed, and its place waits for another attempt
    it was stopped, or its time was over         the same

The numbers that the sampler draws for a place depend on the seed, the place and what is known by then. No two workers
draw the same ones, and a search that was killed goes on to the same settings.
"""

import json
import os
import platform
import sqlite3
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from threading import Event, Thread
from types import ModuleType
from typing import TYPE_CHECKING, Any

from neocog.app.folder import started
from neocog.app.searching_space import CANDIDATE, suggest
from neocog.core.errors import ModelFileError, ResourceError, UsageError, remedy
from neocog.core.files import write_atomic
from neocog.core.seeding import one_seed

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial, Trial

NAME = "neocog"  # of the study in its file
FORMAT = 1
LOCK_SECONDS = 120.0  # to wait for a lock that another process holds
BEAT, GRACE = 15, 180  # seconds between signs of life, and without one until a worker counts as dead
ATTEMPTS = 3  # whose workers died, after which a place is given up: its settings may be what kills them
STARTUP = 5  # whole trials before any is cut short
WARM_UP = 0.25  # share of its epochs before a trial may be cut short: early accuracies say little of late ones


def load_optuna() -> ModuleType:
    """UsageError where it is not installed."""
    try:
        with warnings.catch_warnings(action="ignore"):
            import optuna
    except ImportError:
        raise UsageError("neocog compare --search needs Optuna", f"install it with `{remedy('search')}`") from None
    return optuna


@contextmanager
def quiet() -> Iterator[ModuleType]:
    """Optuna without its log and its warnings of what is experimental; afterwards as before."""
    optuna = load_optuna()
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield optuna
    finally:
        optuna.logging.set_verbosity(before)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """One process at a time. The lock is SQLite's own, on an empty file: it works wherever the study does, and ends
    with its process."""
    lock = sqlite3.connect(path.with_name(f"{path.name}.lock"), timeout=LOCK_SECONDS, isolation_level=None)
    try:
        try:
            lock.execute("PRAGMA journal_mode = OFF")  # nothing is ever written
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            hint = "wait for the other processes of this search, or stop one"
            raise ResourceError(f"{path} is locked ({error})", hint) from None
        yield
    finally:
        lock.close()


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """What SQLite says of a file, as neocog says it."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (StorageInternalError, SQLAlchemyError, sqlite3.Error) as error:
        text = str(error.__cause__ or error).splitlines()[0]
        if "locked" in text or "full" in text or "disk I/O" in text:
            raise ResourceError(f"{path} cannot be written ({text})", "see to it; the same command goes on") from error
        raise ModelFileError(f"{path} cannot be read ({text})", "give another --study or --out") from error


@dataclass
class Claim:
    """An attempt that this process is to make at a place."""

    trial: "Trial"
    place: int
    candidate: str
    settings: dict[str, Any]
    before: int  # attempts there


class SharedStudy:
    """The open file. `candidates`: what each one is, with its "settings", "defaults" and "epochs"."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with quiet() as optuna, translated(path):
            try:
                self.storage = storage_of(path)
                self.study: Study = optuna.load_study(study_name=NAME, storage=self.storage)
            except RuntimeError as error:  # of tables that another version of Optuna made
                raise ModelFileError(f"{path}: {error}", "use the version of Optuna that made it") from None
            except KeyError:
                self.close()
                raise UsageError(f"{path} holds no search of neocog", "give another --study") from None
            facts = self.study.user_attrs
            if facts["format"] > FORMAT:
                raise ModelFileError(f"{path} was written by a newer neocog", "upgrade neocog")
            self.asked: dict[str, Any] = facts["asked"]
            self.candidates: dict[str, dict[str, Any]] = facts["candidates"]
            self._id = self.storage.get_study_id_from_name(NAME)

    def close(self) -> None:
        self.storage.remove_session()
        self.storage.engine.dispose()

    def trials(self) -> "list[FrozenTrial]":
        with translated(self.path):
            return self.study.get_trials(deepcopy=False)

    def compare(self, asked: Mapping[str, Any]) -> None:
        """UsageError that names in what the search in the file differs from the one that is asked for."""
        before, now = self.asked, json.loads(json.dumps(asked))
        names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        if names:
            said = ", ".join(f"{name} was {short(before.get(name))} and is {short(now.get(name))}" for name in names)
            raise UsageError(f"the search in {self.path} is another one: {said}", "give another --study or --out")

    def next(self, trials: int | None) -> Claim | None:
        """The next attempt, which is this process's from now on; None where `trials` places have all been taken."""
        with quiet() as optuna, alone(self.path), translated(self.path):
            self._mend(optuna)
            known = self.trials()
            places = {trial.user_attrs["place"] for trial in known if "place" in trial.user_attrs}
            waits = any(trial.state == optuna.trial.TrialState.WAITING for trial in known)
            if not waits and trials is not None and len(places) >= trials:
                return None
            if not waits and len(places) < len(self.candidates):
                self._enqueue_defaults(len(places))
            seed = one_seed(self.asked["seed"], len(places), 0, "search") % 2**32
            self.study.sampler = optuna.samplers.TPESampler(seed=seed)
            trial = self.study.ask()
            place = trial.user_attrs.get("place", len(places))
            name, settings = suggest(trial, {name: one["defaults"] for name, one in self.candidates.items()})
            trial.set_user_attr("candidate", name)
            self.beat(trial.number)
            trial.set_user_attr("worker", worker())  # from here on it is an attempt
            if "place" not in trial.user_attrs:
                trial.set_user_attr("place", place)  # last: without it nobody would begin this place again
            warm_up = ceil(WARM_UP * self.candidates[name]["epochs"])
            self.study.pruner = optuna.pruners.MedianPruner(STARTUP, n_warmup_steps=warm_up)
            before = sum(one.user_attrs.get("place") == place and "worker" in one.user_attrs for one in known)
            return Claim(trial, place, name, settings, before)

    def _enqueue_defaults(self, place: int) -> None:
        """Of each candidate in turn, before anything else: no search ends below them."""
        name = list(self.candidates)[place]
        given = ({CANDIDATE: name} if len(self.candidates) > 1 else {}) | self.candidates[name]["defaults"]
        self.study.enqueue_trial(given, user_attrs={"place": place, "given": given})

    def _mend(self, optuna: ModuleType) -> None:
        """Attempts of the dead have failed, and every place without an end waits for one. Twice done is once done."""
        state = optuna.trial.TrialState
        for trial in self.trials():
            if trial.state == state.RUNNING and is_dead(trial.user_attrs.get("worker")):
                self.study.tell(trial.number, state=state.FAIL)
        optuna.storages.fail_stale_trials(self.study)
        known = self.trials()
        for place, trial in latest(known).items():
            if trial.state != state.FAIL or "error" in trial.user_attrs or len(deaths(known, place)) >= ATTEMPTS:
                continue
            again = trial.params if "worker" in trial.user_attrs else trial.user_attrs.get("given")
            if again is not None:
                self.study.enqueue_trial(again, user_attrs={"place": place, "given": again})

    def beat(self, number: int) -> None:
        """A sign of life."""
        self.storage.record_heartbeat(self.storage.get_trial_id_from_study_id_trial_number(self._id, number))

    @contextmanager
    def beating(self, number: int) -> Iterator[None]:
        """Signs of life of an attempt while it is made."""
        done = Event()

        def beat() -> None:
            from optuna.exceptions import StorageInternalError

            while not done.wait(BEAT):
                try:
                    self.beat(number)
                except StorageInternalError:
                    continue  # a locked file; GRACE is many beats long
            self.storage.remove_session()

        thread = Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def end(self, claim: Claim, state: str, value: float | None = None, **facts: Any) -> bool:
        """Says how an attempt ended: COMPLETE with a value, PRUNED or FAIL. False where another process had given it
        up before, and its place has another attempt."""
        with quiet() as optuna, alone(self.path), translated(self.path):
            try:
                for name, fact in facts.items():
                    claim.trial.set_user_attr(name, fact)
                self.study.tell(claim.trial, value, state=optuna.trial.TrialState[state])
            except (optuna.exceptions.UpdateFinishedTrialError, ValueError):
                return False
            return True


def storage_of(path: Path) -> "RDBStorage":
    """A connection is made by hand: a path may hold what a URL cannot."""
    from optuna.storages import RDBStorage
    from sqlalchemy.pool import QueuePool

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(path, timeout=LOCK_SECONDS, check_same_thread=False)

    return RDBStorage(
        "sqlite://", {"creator": connect, "poolclass": QueuePool}, heartbeat_interval=BEAT, grace_period=GRACE
    )


def create(path: Path, asked: Mapping[str, Any], candidates: Mapping[str, Mapping[str, Any]]) -> None:
    """A study without trials. The file is whole or absent; where another process was first, its file stays."""

    def write(temporary: Path) -> None:
        storage = storage_of(temporary)
        study = optuna.create_study(storage=storage, study_name=NAME, direction="maximize")
        for name, fact in (("format", FORMAT), ("asked", asked), ("candidates", candidates)):
            study.set_user_attr(name, fact)
        storage.remove_session()
        storage.engine.dispose()

    with quiet() as optuna, alone(path), translated(path):
        for left in path.parent.glob(f".{path.name}.*.tmp*"):  # of a process that was killed here
            left.unlink()
        if not path.exists():
            write_atomic(path, write)


def worker() -> dict[str, Any]:
    """Who this process is. Containers of one host may have its name, but not its process numbers."""
    try:
        numbers = os.readlink("/proc/self/ns/pid")
    except OSError:
        numbers = ""
    return {"host": platform.node(), "numbers": numbers, "pid": os.getpid(), "started": started(os.getpid())}


def is_dead(who: Mapping[str, Any] | None) -> bool:
    """Certainly. Whoever is on another machine is dead when it gives no sign of life."""
    if who is None:
        return True
    here = worker()
    same = who["host"] == here["host"] and who["numbers"] == here["numbers"] and who["started"] is not None
    return same and started(who["pid"]) != who["started"]


def latest(trials: "list[FrozenTrial]") -> "dict[int, FrozenTrial]":
    """The last attempt at every place."""
    return {trial.user_attrs["place"]: trial for trial in trials if "place" in trial.user_attrs}


def deaths(trials: "list[FrozenTrial]", place: int) -> "list[FrozenTrial]":
    """Attempts at a place that ended with their worker, or with an error that is not theirs."""
    return [
        trial for trial in trials
        if trial.user_attrs.get("place") == place and trial.state.name == "FAIL" and "worker" in trial.user_attrs
        and not {"error", "stopped"} & trial.user_attrs.keys()
    ]  # fmt: skip


def short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
