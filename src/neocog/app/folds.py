"""Cross-validation and repeated hold-out: one ordinary run for each fold, and what they say together.

    RUN/config.toml        the settings of all, without a `fold`: with it the whole goes on
    RUN/fold-01/ ...       runs, each with its own split, checkpoint and report
    RUN/folds.json         the numbers of each and of all (`neocog.evaluate.folds`), after every finished fold
    RUN/predictions.csv    every picture as the network saw it that had not learned it
    RUN/report.html

What is here knows folders and numbers; the runs are made in folding.py.
"""

import json
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import neocog
from neocog.app import folder as run_folder
from neocog.app import records
from neocog.app.reporting import settings_of
from neocog.app.run import FOLDS, Run
from neocog.core.config import TrainConfig, load_config
from neocog.core.errors import DataError, ModelFileError, UsageError
from neocog.core.files import write_atomic
from neocog.core.registry import lookup
from neocog.data.folds import number_of_folds
from neocog.data.split import read_split
from neocog.evaluate import Predictions, summarise
from neocog.evaluate.folds import join, summarise_folds
from neocog.report.folds import FoldsPage, WrongPicture, render_folds
from neocog.report.model import Scores

MISTAKES = 200  # in the report
# Settings that change no fold's split and that the rest may have other ones of.
FREE = frozenset(("data", "time", "threads", "device"))


@dataclass(frozen=True)
class Folds:
    """The finished runs of all folds. `predictions()` and `metrics()` are of all their test pictures together."""

    folder: Path

    @classmethod
    def open(cls, path: str | Path) -> "Folds":
        """ModelFileError where the folder holds no finished folds."""
        folds = cls(Path(path))
        if not folds.numbers["complete"]:
            done = len(folds.numbers["runs"])
            raise ModelFileError(
                f"{folds.folder} has {done} finished folds of {folds.numbers['of']}",
                f"`neocog resume {folds.folder}` goes on",
            )
        return folds

    @cached_property
    def numbers(self) -> dict[str, Any]:
        """`folds.json`: every fold's numbers, and those of all (`neocog.evaluate.folds.summarise_folds`)."""
        path = self.folder / FOLDS
        try:
            numbers: dict[str, Any] = json.loads(path.read_bytes())
            if not numbers.keys() >= {"complete", "of", "runs", "over", "pooled"}:
                raise ValueError("a key is missing")
            return numbers
        except (OSError, ValueError, AttributeError) as error:
            hint = f"`neocog resume {self.folder}` writes it again"
            raise ModelFileError(f"{path} cannot be read ({error})", hint) from None

    @property
    def config(self) -> TrainConfig:
        return load_config(self.folder / run_folder.MARK, {})

    @property
    def runs(self) -> list[Run]:
        return [Run.open(self.folder / one["folder"]) for one in self.numbers["runs"]]

    @property
    def classes(self) -> list[str]:
        return self.runs[0].classes

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    def predictions(self, split: str = "test") -> Predictions:
        """One row for each picture, from the network that had not learned it; with `repeats` one for each repeat in
        which it was tested. There are no others than "test" ones."""
        found = Predictions.read(self.folder / "predictions.csv").of(split)
        if not found.files:
            raise DataError(f"{self.folder}/predictions.csv has no {split} pictures", "ask for test, or one of .runs")
        return found

    def has(self, split: str) -> bool:
        return split == "test"

    def metrics(self, split: str = "test") -> dict[str, Any]:
        """`neocog.evaluate.summarise` of all predictions together."""
        return summarise(self.predictions(split))


def is_whole(config: TrainConfig) -> bool:
    """All folds are asked for, not one of them."""
    return config.fold is None and number_of_folds(config.folds, config.repeats) > 0


def check(config: TrainConfig) -> None:
    """UsageError, before any picture is read, for folds that cannot be."""
    number = number_of_folds(config.folds, config.repeats)
    if config.fold is not None and not 1 <= config.fold <= number:
        of = f"folds and repeats make {number}" if number else "neither folds nor repeats are given"
        raise UsageError(f"fold = {config.fold}: {of}", "give --folds K or --repeats R and a --fold among them")
    if config.repeats is not None and config.folds is None and config.test_fraction == 0:
        raise UsageError("repeats: without test pictures the runs could not be compared",
                         "give --test-fraction more than 0, or --folds")  # fmt: skip


def is_folds(folder: Path) -> bool:
    """Whether the folder holds, or is going to hold, the runs of folds."""
    return run_folder.is_run(folder) and is_whole(load_config(folder / run_folder.MARK, {}))


def compare(folder: Path, config: TrainConfig) -> None:
    """UsageError that lists every setting in which the folder's folds and those that are asked for differ."""
    before, now = (one.model_dump() for one in (load_config(folder / run_folder.MARK, {}), config))
    differences = [
        f"{name} was {before[name]!r} and is {value!r}"
        for name, value in now.items()
        if name not in FREE and before[name] != value
    ]
    if differences:
        raise UsageError(
            f"the folds of {folder} were begun with other settings: {', '.join(differences)}",
            f"`neocog resume {folder}` goes on with those; give another --out for these",
        )


def name_of(fold: int, number: int) -> str:
    return f"fold-{fold:0{max(2, len(str(number)))}}"


def finished(folder: Path, number: int) -> list[str]:
    """The names of the folds whose runs are finished."""
    names = [name_of(fold, number) for fold in range(1, number + 1)]
    begun = [name for name in names if run_folder.is_run(folder / name)]
    return [name for name in begun if records.read(folder / name).sittings[-1].ended == "finished"]


def write_config(folder: Path, config: TrainConfig) -> None:
    comment = f"neocog {neocog.__version__}; replay with: neocog train --config {folder}/config.toml"
    write_atomic(folder / run_folder.MARK, config.to_toml(comment))


def write_numbers(folder: Path, number: int, gone: float) -> tuple[dict[str, Any], list[Predictions]]:
    """folds.json, and the test predictions of each finished fold."""
    names = finished(folder, number)
    numbers, tests = numbers_of(folder, names)
    facts = {"format": 1, "complete": len(names) == number, "of": number, "seconds": gone}
    write_atomic(folder / FOLDS, json.dumps(facts | numbers, indent=1, allow_nan=False) + "\n")
    return numbers, tests


def numbers_of(folder: Path, names: list[str]) -> tuple[dict[str, Any], list[Predictions]]:
    """What the runs in the folders `names` say together, and the test predictions of each."""
    tests = [Run(folder / name).predictions("test") for name in names]
    learned = [sum(row.set == "train" for row in read_split(folder / name / "split.csv")) for name in names]
    numbers = summarise_folds(tests, learned)
    numbers["runs"] = [{"folder": name} | one for name, one in zip(names, numbers["runs"], strict=True)]
    return numbers, tests


def conclude(folder: Path, config: TrainConfig, number: int, gone: float) -> None:
    """The files of all folds together. Written again where they lie there already: a fold may have become longer."""
    numbers, tests = write_numbers(folder, number, gone)
    together = join(tests)
    together.write(folder / "predictions.csv")
    names = [one["folder"] for one, test in zip(numbers["runs"], tests, strict=True) for _ in test.files]
    classes = together.classes
    page = FoldsPage(
        model=lookup(config.model).spec.name,
        data_name=Path(config.data).name,
        created=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        how=how(config),
        **{key: numbers[key] for key in ("runs", "over", "pooled", "note")},
        scores=Scores(**summarise(together)),
        mistakes=tuple(
            WrongPicture(
                together.files[row], classes[together.labels[row]], classes[together.predicted[row]],
                float(together.confidence[row]), names[row],
            )
            for row in together.mistakes()[:MISTAKES].tolist()
        ),
        settings=settings_of(config),
        command=f"neocog train --config {shlex.quote(str(folder / run_folder.MARK))}",
    )  # fmt: skip
    write_atomic(folder / "report.html", render_folds(page))


def how(config: TrainConfig) -> str:
    """What was done, in a sentence or two."""
    if config.folds is None:
        return f"{config.repeats} independent divisions into training, validation and test pictures, a run on each."
    times = f", {config.repeats} times anew" if config.repeats else ""
    return (
        f"The pictures were divided into {config.folds} parts{times}. Each part was the test of one run that learned "
        "from the others, so every picture was named by a network that had not learned it."
    )
