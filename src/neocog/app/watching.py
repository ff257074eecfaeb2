"""A training seen from inside: what is measured while a network learns, and what the run's folder then holds of it.

watch.jsonl    a row at the start, after every epoch, and within long epochs where there are few
surface.json   the loss around the weights that were kept, on a plane through them
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from neocog.app.learning import Probe
from neocog.core.errors import DivergedError, ModelFileError
from neocog.core.events import Events
from neocog.core.files import read_json_lines, write_atomic
from neocog.explaining.diagnosis import Diagnosis, diagnose
from neocog.explaining.inside import inside
from neocog.explaining.steps import Steps
from neocog.explaining.surface import surface
from neocog.training.watched import FILE

SURFACE = "surface.json"
AT_LEAST = 12  # rows, where the epochs are long enough for several
APART = 2048  # training pictures between two rows, at least: to look inside then takes a few hundredths of the time
GRIDS = (11, 9, 7, 5)  # points of a side of the surface
SHARE = 0.1  # of a time budget, for the surface
DIGITS = 6


class Watching:
    """`neocog.training.contracts.Watcher`. `per_epoch`: rows; `points`: of a side of the surface, 0 for none."""

    def __init__(self, network: nn.Module, probe: Probe, *, per_epoch: int, points: int, seed: int) -> None:
        self.network, self.probe, self.per_epoch = network, probe, per_epoch
        self.points, self.seed = points, seed
        self.steps = Steps(network)

    def before_step(self) -> None:
        self.steps.before()

    def after_step(self) -> None:
        self.steps.after()

    def due(self, before: int, after: int, batches: int) -> bool:
        parts = self.per_epoch
        return after < batches and after * parts // batches > before * parts // batches

    def tensors(self) -> dict[str, Tensor]:
        return self.steps.tensors()

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        self.steps.load(tensors)

    def row(self) -> dict[str, Any]:
        stages, rectifiers = inside(self.network, [b.images for b in self.probe.batches], bf16=self.probe.bf16)
        return {
            "pictures": sum(len(batch.indices) for batch in self.probe.batches),
            "layers": [rounded(layer) for layer in self.steps.row()],
            "stages": [
                rounded({
                    "stage": s.name, "mean": s.mean, "standard_deviation": s.std, "not_finite": s.not_finite,
                    "histogram_from": s.low, "histogram_to": s.high, "histogram_counts": s.counts,
                })
                for s in stages
            ],
            "rectifiers": [
                {"rectifier": r.name, "channels": r.channels, "channels_dead": r.dead_channels, "units": r.units,
                 "units_dead": r.dead_units}
                for r in rectifiers
            ],
        }  # fmt: skip

    def words(self) -> str:
        """What will be measured, before it is."""
        often = f"{self.per_epoch} times an epoch" if self.per_epoch > 1 else "after every epoch"
        pictures = sum(len(batch.indices) for batch in self.probe.batches)
        surface = f"at the end, the loss at {self.points} x {self.points} places around the weights that were kept"
        if not self.points:
            surface = f"the loss around the weights is left out, as it would take more than {SHARE:.0%} of the time"
        layers = len(self.steps.layers)
        what = f"{layers} layer{'s' if layers != 1 else ''}"
        return f"{what} at every step, {pictures} {self.probe.of} pictures {often}; {surface}"

    def write_surface(self, folder: Path, events: Events) -> None:
        """Of the weights that the network has now."""
        if not self.points:
            (folder / SURFACE).unlink(missing_ok=True)
            return
        some = self.probe.batches[:1]

        def loss(network: nn.Module) -> float:
            try:
                return self.probe.loss(network, some)
            except DivergedError:  # far from where it learned
                return math.nan

        found = surface(
            self.network, loss, seed=self.seed, points=self.points,
            told=lambda done, total: events.emit("progress", what="surface", done=done, total=total),
        )  # fmt: skip
        losses = [[value if math.isfinite(value) else None for value in row] for row in found.losses]
        facts = {"pictures": sum(len(batch.indices) for batch in some), "places": found.places, "losses": losses}
        write_atomic(folder / SURFACE, json.dumps(facts, allow_nan=False) + "\n")


def rounded(values: dict[str, Any]) -> dict[str, Any]:
    """Floats to DIGITS digits; None for what is not finite, which JSON has not."""
    return {
        key: (float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None) if isinstance(value, float) else value
        for key, value in values.items()
    }


def rows_per_epoch(epochs: float, batches: int, batch: int) -> int:
    """How often to look within an epoch of so many batches."""
    return max(1, min(math.ceil(AT_LEAST / max(epochs, 1.0)), batches * batch // APART))


def points_within(each: float, seconds: float) -> int:
    """Points of a side of the surface that SHARE of so many seconds allows, where one place takes `each` seconds."""
    return next((points for points in GRIDS if points**2 * each <= SHARE * seconds), 0)


@dataclass(frozen=True)
class Watched:
    """What a run's folder holds. `surface`: {"pictures", "places", "losses"}, None where there is none."""

    rows: list[dict[str, Any]]
    surface: dict[str, Any] | None

    def diagnosis(self) -> Diagnosis:
        return diagnose(self.rows)


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """ModelFileError where the file is missing or damaged."""
    path = folder / FILE
    try:
        rows = read_json_lines(path)
        if not rows:
            raise ValueError("it is empty")
        return rows
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path} cannot be read ({error})", "restore it from a copy") from None


def read(folder: Path) -> Watched:
    """Errors: as `read_rows`."""
    rows = read_rows(folder)
    path = folder / SURFACE
    try:
        return Watched(rows, json.loads(path.read_text()) if path.is_file() else None)
    except ValueError as error:
        raise ModelFileError(f"{path} is damaged ({error})", "restore it from a copy") from None
