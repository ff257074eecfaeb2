"""What two files of a run say about the same thing, and where they disagree: one line for each difference."""

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from neocog.core.cells import from_cell
from neocog.data.split import Row
from neocog.evaluate import Predictions


def columns(path: Path, found: Predictions) -> Iterator[str]:
    """Where `predicted` and `confidence` are not what the probabilities say."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))[1:]
    for row, file_name, guess, sure in zip(rows, found.files, found.predicted.tolist(), found.confidence, strict=True):
        if from_cell(row[3]) != found.classes[guess]:
            yield f"{file_name}: predicted is {from_cell(row[3])!a}, the probabilities say {found.classes[guess]!a}"
        if row[4] != f"{sure:.9g}":
            yield f"{file_name}: confidence is {row[4]}, the probabilities say {sure:.9g}"


def places(found: Predictions, kept: dict[str, Row]) -> Iterator[str]:
    """Where a picture has no row or several, or have another class or set than split.csv."""
    rows = Counter(found.files)
    yield from (f"{file}: has {rows[file]} rows" for file in sorted(kept) if rows[file] != 1)
    for file, name, label in zip(found.files, found.split, found.labels.tolist(), strict=True):
        if file not in kept:
            yield f"{file}: split.csv keeps it not from training"
        else:
            now, was = f"{found.classes[label]!a} in {name}", f"{kept[file].label!a} in {kept[file].set}"
            if now != was:
                yield f"{file}: is {now}, in split.csv {was}"


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """("test.per_class.0.recall", 0.5) of everything below."""
    if isinstance(value, (dict, list)):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(one, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def differences(now: Any, before: Any) -> Iterator[str]:
    again, was = dict(leaves(now)), dict(leaves(before))
    for path in dict.fromkeys([*was, *again]):
        if path not in again or path not in was or again[path] != was[path]:
            yield f"{path} is {was.get(path, 'absent')}, recomputed {again.get(path, 'absent')}"
