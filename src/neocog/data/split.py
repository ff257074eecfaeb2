"""Who trains, who validates, who tests: fixed by the seed and the pictures' content, and never overlapping.

A picture's place is decided by a hash of (seed, its sha256), class by class. So copies of one picture always stay
together, the split does not depend on file names or their order, and adding pictures moves few others.
"""

import csv
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from neocog.core.cells import from_cell, to_cell
from neocog.core.errors import DataError
from neocog.core.files import write_atomic
from neocog.data.scan import Kept

UNUSED = "unused"  # a copy of a test or validation picture in an official training set
HEADER = ["file", "class", "set", "sha256"]
_RANK = {"test": 0, "val": 1, "train": 2}


def split(kept: Sequence[Kept], *, val_fraction: float, test_fraction: float, seed: int) -> list[str]:
    """One of train, val, test or unused for every picture.

    Splits that the data brings stay as they are; what is missing (val, test or both) is drawn from train, the
    fractions being of what is drawn from. Where an official training picture is a copy of a validation or test
    picture it is left `unused`. DataError where a class has too few pictures for the sets that are asked for.
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
    taken: dict[str, str] = {}  # sha256 -> set, also of pictures that lie in several classes
    for label, groups in _groups(kept, sets).items():
        _draw(label, groups, wanted, taken, seed)
    return [taken[one.sha256] if name == "train" else name for one, name in zip(kept, sets, strict=True)]


def _without_leaks(kept: Sequence[Kept], sets: list[str]) -> list[str]:
    best: dict[str, str] = {}
    for one, name in zip(kept, sets, strict=True):
        if _RANK[name] < _RANK[best.get(one.sha256, "train")]:
            best[one.sha256] = name
    return [name if best.get(one.sha256, name) == name else UNUSED for one, name in zip(kept, sets, strict=True)]


def _groups(kept: Sequence[Kept], sets: list[str]) -> dict[str, dict[str, int]]:
    """class -> {sha256: copies} of the pictures to draw from."""
    groups: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for one, name in zip(kept, sets, strict=True):
        if name == "train":
            groups[one.label][one.sha256] += 1
    return dict(sorted(groups.items()))


def _draw(label: str, groups: dict[str, int], wanted: dict[str, float], taken: dict[str, str], seed: int) -> None:
    total = sum(groups.values())
    need = 1 + len(wanted)
    names = " and ".join(["train", *reversed(wanted)])
    if len(groups) < need:
        cause = f"the class {label!a} has {len(groups)} different picture{'s' * (len(groups) != 1)}"
        raise DataError(cause, f"it needs at least {need}, one each for {names}; add some or remove the class")
    counts = {name: sum(n for sha, n in groups.items() if taken.get(sha) == name) for name in (*wanted, "train")}
    order = sorted((sha for sha in groups if sha not in taken), key=lambda sha: _place(seed, sha))
    for name, share in wanted.items():
        target = max(1, round(share * total))
        need -= 1  # sets that come later, train among them: one is left for each
        while counts[name] < target and len(order) > need:
            sha = order.pop()
            taken[sha] = name
            counts[name] += groups[sha]
    for sha in order:
        taken[sha] = "train"
        counts["train"] += groups[sha]
    if not all(counts.values()):
        cause = f"the class {label!a} shares its pictures with other classes, and {names} cannot all have one"
        raise DataError(cause, "keep each picture in one class")


def _place(seed: int, sha256: str) -> bytes:
    return hashlib.sha256(f"{seed} {sha256}".encode()).digest()


def describe_split(kept: Sequence[Kept], sets: Sequence[str], seed: int) -> str:
    """One sentence for people: which sets the data brought, which were drawn, what was left out."""
    official = sorted({str(one.split) for one in kept} - {"None"}, key=lambda name: -_RANK[name])
    if not official:
        text = f"drawn by class and content with seed {seed}; copies of a picture stay together"
    else:
        text = f"{', '.join(official)} as the data has them"
        drawn = [name for name in ("val", "test") if name in sets and name not in official]
        if drawn:
            text += f"; {' and '.join(drawn)} drawn from train by class and content with seed {seed}"
    if unused := sum(name == UNUSED for name in sets):
        text += f"; {unused} training pictures are copies of validation or test pictures and are not used"
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
