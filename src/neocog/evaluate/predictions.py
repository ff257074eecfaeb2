"""The predictions of a network, one row per picture: the file from which every reported number is recomputed.

`predictions.csv` has the columns file, set, class, predicted, confidence, then p:<class> for each class. The
probabilities have nine digits, which give back the same float32.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neocog.core.cells import from_cell, to_cell
from neocog.core.errors import DataError
from neocog.core.files import write_atomic

COLUMNS = ("file", "set", "class", "predicted", "confidence")


@dataclass(frozen=True)
class Predictions:
    """N pictures, K classes. Errors: ValueError where the lengths disagree, a label is no class number or a
    probability is outside 0..1."""

    files: list[str]  # N
    split: list[str]  # N: "train", "val", "test" or any other name of a set
    classes: list[str]  # K
    labels: NDArray[np.int64]  # (N,) class numbers, -1 where the class is not known
    probabilities: NDArray[np.float32]  # (N, K)

    def __post_init__(self) -> None:
        n, k = len(self.files), len(self.classes)
        if len(self.split) != n or self.labels.shape != (n,) or self.probabilities.shape != (n, k):
            raise ValueError(
                f"{n} files of {k} classes do not fit {len(self.split)} sets, labels {self.labels.shape} "
                f"and probabilities {self.probabilities.shape}"
            )
        if k == 0 or len(set(self.classes)) != k:
            raise ValueError("class names must exist and differ")
        if n and not (self.labels.min() >= -1 and self.labels.max() < k):
            raise ValueError(f"labels must be in -1..{k - 1}")
        # written so that NaN fails too
        if n and not (self.probabilities.min() >= 0 and self.probabilities.max() <= 1 + 1e-6):
            raise ValueError("probabilities must be in 0..1")

    @property
    def predicted(self) -> NDArray[np.int64]:
        """(N,) the most probable class of each picture."""
        predicted: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return predicted

    @property
    def confidence(self) -> NDArray[np.float32]:
        """(N,) its probability."""
        confidence: NDArray[np.float32] = self.probabilities.max(axis=1)
        return confidence

    def rows(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> "Predictions":
        """The predictions of some rows."""
        numbers = np.arange(len(self.files))[keep].tolist()
        return Predictions(
            [self.files[i] for i in numbers],
            [self.split[i] for i in numbers],
            self.classes,
            self.labels[numbers],
            self.probabilities[numbers],
        )

    def of(self, split: str) -> "Predictions":
        """The predictions of one set ("test")."""
        return self.rows(np.array([name == split for name in self.split], bool))

    def mistakes(self) -> NDArray[np.int64]:
        """Row numbers of the wrong predictions, the most confident first."""
        wrong = np.flatnonzero((self.labels >= 0) & (self.predicted != self.labels))
        return wrong[np.argsort(-self.confidence[wrong], kind="stable")]

    def write(self, path: Path) -> None:
        """Writes the CSV as a whole or not at all (UTF-8)."""

        def save(temporary: Path) -> None:
            with temporary.open("w", encoding="utf-8", newline="") as file:
                file.writelines(self._lines())

        write_atomic(path, save)

    def _lines(self) -> Iterator[str]:
        names = [to_cell(name) for name in self.classes]
        yield ",".join([*COLUMNS, *(to_cell(f"p:{name}") for name in self.classes)]) + "\n"
        numbers = ",".join(["%.9g"] * (len(names) + 1)) + "\n"
        facts = zip(self.files, self.split, self.labels.tolist(), self.predicted.tolist(), strict=True)
        for (file, split, label, guess), p in zip(facts, self.probabilities, strict=True):
            truth = names[label] if label >= 0 else ""
            yield f"{to_cell(file)},{to_cell(split)},{truth},{names[guess]},"
            yield numbers % (p[guess], *p.tolist())

    @classmethod
    def read(cls, path: Path) -> "Predictions":
        """The inverse of `write`. Errors: DataError naming the file and the line."""
        hint = "evaluate the run again to write a new one"
        files, split, labels, probabilities = [], [], [], []
        line = 0
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                reader = csv.reader(file, strict=True)
                header = next(reader, [])
                if tuple(header[:5]) != COLUMNS or not all(name.startswith("p:") for name in header[5:]):
                    raise ValueError(f"the columns are not {','.join(COLUMNS)},p:<class>...")
                classes = [from_cell(name).removeprefix("p:") for name in header[5:]]
                number_of = {"": -1} | {name: i for i, name in enumerate(classes)}
                for row in reader:
                    line = reader.line_num
                    if len(row) != len(header):
                        raise ValueError(f"it has {len(row)} cells instead of {len(header)}")
                    name = from_cell(row[2])
                    if name not in number_of:
                        raise ValueError(f"there is no class {name!r}")
                    files.append(from_cell(row[0]))
                    split.append(from_cell(row[1]))
                    labels.append(number_of[name])
                    probabilities.append(np.array([float(cell) for cell in row[5:]], np.float32))
            stacked = np.stack(probabilities) if probabilities else np.zeros((0, len(classes)), np.float32)
            return cls(files, split, classes, np.array(labels, np.int64), stacked)
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror})", hint) from None
        except (ValueError, csv.Error) as error:  # UnicodeDecodeError is a ValueError
            where = f"{path}, line {line}" if line else str(path)
            raise DataError(f"{where} is not a predictions file: {error}", hint) from None
