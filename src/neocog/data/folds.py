"""Cross-validation and repeated hold-out: the sets of one fold, fixed by the seed and the pictures' content.

K folds: the pictures are dealt out, class by class, to K parts of equal size; fold i tests on part i, learns from the
others, and draws its validation pictures from them. Repeats without folds: so many independent draws of test and
validation. What belongs together (copies, near duplicates, what `group_by` joins) stays in one part.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from neocog.core.errors import DataError, UsageError
from neocog.core.seeding import one_seed
from neocog.data.dataset import Dataset
from neocog.data.scan import Kept
from neocog.data.split import UNUSED, split


@dataclass
class Divided(Dataset):
    """A data set whose sets are those of one fold. `division` says how they came about."""

    division: str = ""

    @property
    def how_split(self) -> str:
        return self.division


def number_of_folds(folds: int | None, repeats: int | None) -> int:
    """Of all divisions together; 0 where there is nothing to divide."""
    return 0 if folds is None and repeats is None else (folds or 1) * (repeats or 1)


def divide(
    dataset: Dataset, fold: int, folds: int | None, repeats: int | None, *, val_fraction: float, test_fraction: float
) -> Dataset:
    """The data set with the sets of fold number `fold`, which counts from 1 through all repeats.

    Test pictures that the data itself has stay aside, `unused`, and so do training pictures that are their copies;
    its training and validation pictures are divided. With `folds`, `test_fraction` has no say and `val_fraction` is
    of what is not tested. UsageError where there is no such fold, DataError where a class has too few pictures, or
    too few groups, to be in each set.
    """
    most = number_of_folds(folds, repeats)
    if not 1 <= fold <= most:
        raise UsageError(f"there is no fold {fold}: folds and repeats make {most}", f"give --fold 1 to {most}")
    kept = dataset.scan.kept
    official = {one.sha256 for one in kept if one.split == "test"}
    pool = [row for row, one in enumerate(kept) if one.sha256 not in official]
    repeat, part = divmod(fold - 1, folds or 1)
    sets = [UNUSED] * len(kept)
    if folds is not None:
        parts = deal([kept[row] for row in pool], dataset.groups[pool].tolist(), folds, f"{dataset.seed} {repeat}")
        tested = [row for row, own in zip(pool, parts, strict=True) if own == part]
        pool = [row for row, own in zip(pool, parts, strict=True) if own != part]
        for row in tested:
            sets[row] = "test"
        test_fraction = 0.0
    drawn = split(
        [replace(kept[row], split=None) for row in pool], val_fraction=val_fraction, test_fraction=test_fraction,
        seed=one_seed(dataset.seed, fold, 0, "fold"), groups=dataset.groups[pool],
    )  # fmt: skip
    for row, name in zip(pool, drawn, strict=True):
        sets[row] = name
    text = describe(part, repeat, folds, repeats, dataset.seed)
    if aside := sum(one.split == "test" for one in kept):
        text += f"; the {aside:,} test pictures that the data itself has stay aside"
    if copies := sets.count(UNUSED) - aside:
        text += f", and so do {copies:,} copies of them"
    return Divided(**(vars(dataset) | {"splits": np.array(sets), "division": text}))


def describe(part: int, repeat: int, folds: int | None, repeats: int | None, seed: int) -> str:
    """One sentence for people. `part` and `repeat` count from 0."""
    if folds is None:
        text = f"draw {repeat + 1} of {repeats} independent ones"
    else:
        text = f"part {part + 1} of {folds} is the test"
        text += f", in division {repeat + 1} of {repeats}" if repeats else ""
    return f"{text}; by class and content with seed {seed}; pictures that belong together stay together"


def deal(kept: Sequence[Kept], groups: Sequence[int], folds: int, seed: str) -> list[int]:
    """The part, 0 to `folds` - 1, of every picture: as many pictures of each class in every part, and as many pictures
    in all, as whole groups allow; within one where every group is one picture. DataError where a class cannot be in
    every part.

    Large groups are dealt first, each to the part that has the least of its classes. The order among equals is a hash
    of the seed and the group's smallest sha256, so names and their order do not matter.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        members[group].append(row)
    _check(kept, members, folds)
    total = Counter(one.label for one in kept)

    def turn(rows: list[int]) -> tuple[int, str, bytes]:
        key = min(kept[row].sha256 for row in rows)
        place = hashlib.sha256(f"{seed} {key}".encode()).digest()
        return -len(rows), min(kept[row].label for row in rows), place

    counts = [Counter[str]() for _ in range(folds)]
    parts = [0] * len(kept)
    for rows in sorted(members.values(), key=turn):
        own = sorted(Counter(kept[row].label for row in rows).items())

        def grief(part: int, own: list[tuple[str, int]] = own) -> tuple[float, int]:
            """By how much the squares of the parts' shares of each class would grow; then the part's size."""
            have = counts[part]
            return sum(n * (2 * have[label] + n) / total[label] for label, n in own), have.total()

        chosen = min(range(folds), key=grief)
        counts[chosen].update(dict(own))
        for row in rows:
            parts[row] = chosen
    for label in sorted(total):
        if empty := sum(not have[label] for have in counts):
            cause = f"the class {label!a} shares its groups with other classes, and {empty} of {folds} parts would have"
            raise DataError(f"{cause} none of it", "use fewer --folds, or let groups be smaller")
    return parts


def _check(kept: Sequence[Kept], members: dict[int, list[int]], folds: int) -> None:
    number = Counter(label for rows in members.values() for label in {kept[row].label for row in rows})
    total = Counter(one.label for one in kept)
    for label, n in sorted(number.items()):
        if n < folds:
            what = f"{n} different pictures" if n == total[label] else f"{n} groups that must stay together"
            cause = f"the class {label!a} has {what}, fewer than {folds} folds"
            raise DataError(cause, "use fewer --folds, add pictures or remove the class")
