"""The audit of a data set alone: what is there, what would be left out, how it would be split."""

from typing import Any

from neocog.app.session import open_data
from neocog.core.config import TrainConfig
from neocog.core.events import Events
from neocog.data.dataset import Dataset


def check(config: TrainConfig, events: Events) -> Dataset:
    """Reads every picture once. DataError, as `train` would raise it, where the data cannot be trained on."""
    return open_data(config, 256, None, events)


def facts(dataset: Dataset) -> dict[str, Any]:
    """Pictures per class and set, and what the scan found, for a table or for JSON."""
    table = {
        name: {split: int((dataset.labels[dataset.rows(split)] == number).sum()) for split in ("train", "val", "test")}
        for number, name in enumerate(dataset.classes)
    }
    return {
        "data": dataset.name,
        "pictures": len(dataset.files),
        "classes": table,
        "excluded": [{"file": e.file, "reason": e.reason, "detail": e.detail} for e in dataset.scan.excluded],
        "ignored": dataset.scan.ignored,
        "modes": dataset.scan.modes,
        "notes": dataset.scan.notes,
        "warnings": dataset.warnings,
    }
