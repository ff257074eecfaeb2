"""What an autoencoder gave back, one row per picture: the file from which every reported mean is recomputed.

`reconstructions.csv` has the columns file, set, class, then one for each measure:

    mse, psnr, ssim     of the output, against the picture as it was; squared on the 0..1 scale, decibels, 0..1
    input_psnr          of what the network saw, where that was made worse
    median_psnr         of that after a median filter of 3 x 3 pixels, where it was Gaussian noise or salt and pepper
    zeros               share of the code that is exactly 0
    bound               nats: the negative evidence lower bound of variational codes; empty where it was not estimated
    tighter_bound       nats: the same with importance weights (Burda et al. 2016)

Row i of `codes.npy` is the code of the i-th picture, float32.
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neocog.core.cells import from_cell, to_cell
from neocog.core.errors import DataError
from neocog.core.files import write_atomic
from neocog.metrics.interval import mean_interval

COLUMNS = ("file", "set", "class")
MEASURES = ("mse", "psnr", "ssim", "input_psnr", "median_psnr", "zeros", "bound", "tighter_bound")


@dataclass(frozen=True)
class Reconstructions:
    """N pictures. `measures`: by name (N,) float, NaN where a picture was not measured."""

    files: list[str]
    split: list[str]
    classes: list[str]  # of each picture, "" where it has none
    measures: dict[str, NDArray[np.float64]]

    def of(self, split: str) -> "Reconstructions":
        keep = np.array([name == split for name in self.split], bool)
        numbers = np.flatnonzero(keep).tolist()
        return Reconstructions(
            [self.files[i] for i in numbers], [self.split[i] for i in numbers], [self.classes[i] for i in numbers],
            {name: values[keep] for name, values in self.measures.items()},
        )  # fmt: skip

    def write(self, path: Path) -> None:
        """The whole CSV or nothing (UTF-8)."""

        def save(temporary: Path) -> None:
            with temporary.open("w", encoding="utf-8", newline="") as file:
                file.write(",".join([*COLUMNS, *self.measures]) + "\n")
                rows = zip(self.files, self.split, self.classes, *self.measures.values(), strict=True)
                for name, split, kind, *values in rows:
                    cells = [to_cell(name), to_cell(split), to_cell(kind), *(number(value) for value in values)]
                    file.write(",".join(cells) + "\n")

        write_atomic(path, save)

    @classmethod
    def read(cls, path: Path) -> "Reconstructions":
        """The inverse of `write`. DataError naming the file and the line."""
        hint = "restore it from a copy, or train again"
        line = 0
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                reader = csv.reader(file, strict=True)
                header = next(reader, [])
                if tuple(header[:3]) != COLUMNS or not set(header[3:]) <= set(MEASURES):
                    raise ValueError(f"the columns are not {','.join(COLUMNS)} and measures")
                rows = []
                for row in reader:
                    line = reader.line_num
                    if len(row) != len(header):
                        raise ValueError(f"it has {len(row)} cells instead of {len(header)}")
                    names = [from_cell(cell) for cell in row[:3]]
                    rows.append((*names, *(float(cell) if cell else np.nan for cell in row[3:])))
            columns = list(zip(*rows, strict=True)) or [()] * len(header)
            measures = {name: np.array(values, float) for name, values in zip(header[3:], columns[3:], strict=True)}
            return cls(list(columns[0]), list(columns[1]), list(columns[2]), measures)
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror})", hint) from None
        except (ValueError, csv.Error) as error:  # UnicodeDecodeError is a ValueError
            where = f"{path}, line {line}" if line else str(path)
            raise DataError(f"{where} is not a reconstructions file: {error}", hint) from None


def number(value: float) -> str:
    """Nine digits; nothing for NaN."""
    return "" if np.isnan(value) else f"{value:.9g}"


def summarise_reconstructions(found: Reconstructions) -> dict[str, Any]:
    """{"pictures": N, and of each measure its mean and "NAME_interval": [low, high], 95 %}. A PSNR counts up to 100 dB,
    so that one picture given back exactly does not make the mean infinite."""
    numbers: dict[str, Any] = {"pictures": len(found.files)}
    for name, values in found.measures.items():
        known = values[~np.isnan(values)]
        if len(known):
            known = np.minimum(known, 100.0) if name.endswith("psnr") else known
            numbers[name] = float(known.mean())
            numbers[f"{name}_interval"] = list(mean_interval(known))
    return numbers
