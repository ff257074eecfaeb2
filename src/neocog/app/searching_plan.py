"""What a search decides before its first trial: every candidate's regime, its defaults, and how long a trial is.

All trials of a candidate have one length, so that they can be compared after every epoch. It is that of an ordinary
run, or shorter where a time budget would not hold enough of those: a search of three trials finds nothing.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

from neocog.app.compare_folder import Row
from neocog.app.compare_plan import SLACK, Measured
from neocog.app.compare_run import FREE, measure
from neocog.app.folding import quieter
from neocog.app.preparing import prepare
from neocog.app.searching_space import defaults
from neocog.core.config import TrainConfig
from neocog.core.errors import UsageError
from neocog.core.events import Events
from neocog.core.files import sha256_of
from neocog.data.dataset import Dataset

ENOUGH = 20  # trials that a time budget should hold: half of them random ones, from which TPE then learns
OWN = FREE | {"model", "regime", "weights", "time"}  # settings that are asked for in another place, or free


def fingerprint(config: TrainConfig, rows: Sequence[Row], pictures: Dataset) -> dict[str, Any]:
    """What two processes must agree on to share a search; places of files may differ."""
    digest = hashlib.sha256()
    for row in pictures.split_rows():
        digest.update(f"{row.file}\0{row.label}\0{row.set}\0{row.sha256}\n".encode("utf-8", "surrogateescape"))
    files = {row.name: row.weights and weights_of(row.weights) for row in rows}
    own = {name: value for name, value in config.model_dump().items() if name not in OWN}
    return {"candidates": files, "pictures": digest.hexdigest()[:16]} | own


def weights_of(word: str) -> str:
    """The sha256 of a file; else the word."""
    return sha256_of(Path(word)) if Path(word).is_file() else word


class Lengths:
    """What a trial of every candidate takes in this process, measured where there is a budget of `left` seconds."""

    def __init__(self, rows: Sequence[Row], config: TrainConfig, folder: Path, left: float, trials: int | None) -> None:
        self.rows, self.left, self.share = rows, left, left * (1 - SLACK) / max(trials or ENOUGH, len(rows))
        self.measured: dict[str, Measured] = {}
        self.settings: dict[str, dict[str, Any]] = {}
        for row in rows:
            found = measure(row.config(config), folder / row.name, left, self.share)
            self.measured[row.name], self.settings[row.name] = found[0], found[1]["settings"]

    def epochs(self, name: str) -> int:
        """How many fit into a trial's share; one at least."""
        one = self.measured[name]
        return one.epochs_at_once or max(1, one.epochs(max(self.share - one.setup - one.ending, 0.0)))

    def seconds(self, name: str, epochs: int) -> float:
        """Of a trial, beginning and end included."""
        one = self.measured[name]
        return one.setup + one.seconds(0, epochs) + one.ending

    def check(self, candidates: Mapping[str, Mapping[str, Any]], time: str, gone: float) -> None:
        """UsageError where not even the defaults of all could be tried. `gone`: seconds of the budget."""
        least = sum(self.seconds(name, one["epochs"]) for name, one in candidates.items())
        if least > self.left:
            each = f"one trial of each of {len(candidates)} candidates" if len(candidates) > 1 else "one trial"
            enough = ceil(gone + least * (1 + SLACK))
            hint = f"give --time {enough}s, or fewer --epochs"
            raise UsageError(f"{time} is not enough for {each}: about {enough} s would do", hint)


def decide(
    rows: Sequence[Row], config: TrainConfig, given: Mapping[str, Any], folder: Path, lengths: Lengths | None,
    events: Events,
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Of every candidate: "model" and "regime", the "settings" and "epochs" of its trials, the "defaults" of what is
    searched. Errors: those of its run."""
    found: dict[str, dict[str, Any]] = {}
    heard: set[str] = set()
    for row in rows:
        measured = lengths.settings[row.name] if lengths is not None else {}
        wanted = replace(row, regime=measured.get("regime", row.regime), settings=measured)
        own = quieter(events, heard, whole=False)
        decided = prepare(wanted.config(config), folder / row.name, own, resumed=True).config
        assert decided.epochs is not None
        epochs = decided.epochs
        if lengths is not None and config.epochs is None:
            epochs = min(epochs, lengths.epochs(row.name))
        fixed = {"epochs": epochs} | ({"views": decided.views} if decided.regime == "features" else {})
        found[row.name] = {
            "model": row.model, "regime": decided.regime, "epochs": epochs, "settings": fixed,
            "defaults": defaults(decided, given),
        }  # fmt: skip
    return found


def config_of(row: Row, one: Mapping[str, Any], config: TrainConfig, searched: Mapping[str, Any]) -> TrainConfig:
    """The settings of a trial: those that all share, what was decided, what is tried. `row`: the candidate here, whose
    weights may lie in another place on each machine."""
    return replace(row, regime=one["regime"], settings={**one["settings"], **searched}).config(config)
