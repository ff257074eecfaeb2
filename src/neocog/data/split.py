"""Who trains, who validates, who tests: fixed by the seed and the pictures' content, and never overlapping.

A picture's place is decided by a hash of (seed, its sha256), class by class, a group's by the first hash among its
pictures. So copies of one picture always stay together, and so does any group that is asked for; the split does not
depend on file names or their order, and adding pictures moves few others.
"""

import csv
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neocog.core.cells import from_cell, to_cell
from neocog.core.errors import DataError
from neocog.core.files import write_atomic
from neocog.core.words import counted
from neocog.data.scan import Kept

ATTEMPTS = 20  # draws before groups that span classes are given up
UNUSED = "unused"  # a copy of a test or validation picture in an official training set
HEADER = ["file", "class", "set", "sha256"]
_RANK = {"test": 0, "val": 1, "train": 2}


def split(
    kept: Sequence[Kept],
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    groups: Sequence[int] | NDArray[np.int64] | None = None,
) -> list[str]:
    """One of train, val, test or unused for every picture.

    Splits that the data brings stay as they are; what is missing (val, test or both) is drawn from train, the
    fractions being of what is drawn from. Where an official training picture is a copy of a validation or test
    picture it is left `unused`. Pictures with the same number in `groups` (see groups.py) are drawn together; without
    it copies are. DataError where a class has too few pictures, or too few groups, for the sets that are asked for.
    """
    official = {one.split for one in kept} - {None}
    sets = [one.split or "train" for one in kept]
    if official and "train" not in official:
        raise DataError(f"the data has {', '.join(sorted(map(str, official)))} but no training pictures", "add some")
    sets = _without_leaks(kept, sets)
    wanted = {"test": test_fraction, "val": val_fraction}
    wanted = {name: share for name, share in wanted.items() if share > 0 and name not in official}
    if not wanted:
        return sets
    keys = _keys(kept, sets, groups)
    counts = _counts(kept, sets, keys)
    for attempt in range(ATTEMPTS):
        taken: dict[str, str] = {}  # key -> set, also of groups with pictures in several classes
        try:
            # The class with the fewest groups chooses first: it has no others to take.
            for label in sorted(counts, key=lambda label: (len(counts[label]), label)):
                _draw(label, counts[label], wanted, taken, f"{seed}" if attempt == 0 else f"{seed} {attempt}")
            break
        except _Shared as error:
            if attempt == ATTEMPTS - 1:
                raise DataError(error.cause, error.hint) from None
    return [taken[key] if name == "train" else name for key, name in zip(keys, sets, strict=True)]


class _Shared(DataError):
    """This draw left a class without pictures in one of its sets; another may not."""


def _without_leaks(kept: Sequence[Kept], sets: list[str]) -> list[str]:
    best: dict[str, str] = {}
    for one, name in zip(kept, sets, strict=True):
        if _RANK[name] < _RANK[best.get(one.sha256, "train")]:
            best[one.sha256] = name
    return [name if best.get(one.sha256, name) == name else UNUSED for one, name in zip(kept, sets, strict=True)]


def _keys(kept: Sequence[Kept], sets: list[str], groups: Sequence[int] | NDArray[np.int64] | None) -> list[str]:
    """What is drawn as one, named by content: the smallest sha256 of the group's pictures to draw from."""
    if groups is None:
        return [one.sha256 for one in kept]
    first: dict[int, str] = {}
    for one, name, group in zip(kept, sets, groups, strict=True):
        if name == "train":
            first[int(group)] = min(first.get(int(group), one.sha256), one.sha256)
    return [first.get(int(group), one.sha256) for one, group in zip(kept, groups, strict=True)]


def _counts(kept: Sequence[Kept], sets: list[str], keys: list[str]) -> dict[str, dict[str, int]]:
    """class -> {key: pictures of the class} of what there is to draw from."""
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for one, name, key in zip(kept, sets, keys, strict=True):
        if name == "train":
            counts[one.label][key] += 1
    return counts


def _draw(label: str, groups: dict[str, int], wanted: dict[str, float], taken: dict[str, str], seed: str) -> None:
    total = sum(groups.values())
    need = 1 + len(wanted)
    names = " and ".join(["train", *reversed(wanted)])
    if len(groups) < need:
        cause = f"the class {label!a} has {len(groups)} different picture{'s' * (len(groups) != 1)}"
        if total > len(groups):
            n = len(groups)
            cause = f"the {total} pictures of the class {label!a} are {n} group{'s' * (n != 1)} that must stay together"
        raise DataError(cause, f"it needs at least {need}, one each for {names}; add some or remove the class")
    counts = {name: sum(n for key, n in groups.items() if taken.get(key) == name) for name in (*wanted, "train")}
    order = sorted((key for key in groups if key not in taken), key=lambda key: _place(seed, key), reverse=True)
    for name, share in wanted.items():
        target = max(1, round(share * total))
        later = sum(not counts[other] for other in counts if other != name)  # sets that still need a group
        chosen = _choose(order, groups, target - counts[name], len(order) - later, least=not counts[name])
        counts[name] += sum(groups[key] for key in chosen)
        taken |= dict.fromkeys(chosen, name)
        order = [key for key in order if key not in chosen]
    counts["train"] += sum(groups[key] for key in order)
    taken |= dict.fromkeys(order, "train")
    if not all(counts.values()):
        cause = f"the class {label!a} shares its pictures or groups with other classes, and {names} cannot all have one"
        raise _Shared(cause, "keep each picture in one class, or let groups be smaller")


def _choose(order: list[str], groups: dict[str, int], target: int, most: int, least: bool) -> set[str]:
    """At most `most` groups that come close to `target` pictures, and one in any case if `least`."""
    chosen: set[str] = set()
    for key in order:
        if len(chosen) >= most or target <= 0:
            break
        if groups[key] <= 2 * target:  # else the sum is nearer to the target without it
            chosen.add(key)
            target -= groups[key]
    if least and not chosen and most > 0:
        chosen.add(min(order, key=lambda key: groups[key]))
    return chosen


def _place(seed: str, sha256: str) -> bytes:
    return hashlib.sha256(f"{seed} {sha256}".encode()).digest()


def describe_split(kept: Sequence[Kept], sets: Sequence[str], seed: int) -> str:
    """One sentence for people: which sets the data brought, which were drawn, what was left out."""
    official = sorted({str(one.split) for one in kept} - {"None"}, key=lambda name: -_RANK[name])
    by = "class and content" if len({one.label for one in kept}) > 1 else "content"
    if not official:
        text = f"drawn by {by} with seed {seed}; copies of a picture stay together"
    else:
        text = f"{', '.join(official)} as the data has them"
        drawn = [name for name in ("val", "test") if name in sets and name not in official]
        if drawn:
            text += f"; {' and '.join(drawn)} drawn from train by {by} with seed {seed}"
    if unused := sum(name == UNUSED for name in sets):
        what = counted(unused, "training picture is a copy", "training pictures are copies")
        text += f"; {what} of validation or test pictures, and not used"
    return text


@dataclass(frozen=True, slots=True)
class Row:
    """One line of split.csv."""

    file: str
    label: str
    set: str
    sha256: str


def write_split(path: Path, rows: Iterable[Row]) -> None:
    """CSV with the columns file, class, set, sha256; whole or not at all. File names of any bytes survive."""
    lines = (f"{to_cell(row.file)},{to_cell(row.label)},{row.set},{row.sha256}\n" for row in rows)
    write_atomic(path, ",".join(HEADER) + "\n" + "".join(lines))


def read_split(path: Path) -> list[Row]:
    """What `write_split` wrote. DataError where it is something else."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.reader(file, strict=True))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})", "give a run folder that is complete") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path} is damaged ({error})", "take it from a backup") from None
    if not lines or lines[0] != HEADER:
        raise DataError(f"{path} does not begin with {','.join(HEADER)}", "take it from a backup")
    rows = []
    for number, line in enumerate(lines[1:], 2):
        if len(line) != 4 or line[2] not in (*_RANK, UNUSED):
            raise DataError(f"{path}: row {number} is damaged", "take it from a backup")
        rows.append(Row(from_cell(line[0]), from_cell(line[1]), line[2], line[3]))
    return rows
