"""Look at every picture once, completely, before anything is learned from it.

What decodes is kept, with its hash, size, look and notes; what does not is excluded with a reason, never replaced. The
pixels of the one decoding can be handed on (`prepare`, `sink`), so that a cache is filled on the way.
"""

import hashlib
import json
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neocog.core.errors import DataError
from neocog.core.words import counted
from neocog.data.bad_picture import BadPicture
from neocog.data.colour import is_grey
from neocog.data.decode import DecodeOptions, Picture, decode, read_bytes
from neocog.data.looks import looks, one_colour
from neocog.data.outliers import find_outliers
from neocog.data.source import Item, Source
from neocog.data.threads import ordered_map

LISTED = 100  # findings of a kind that scan.json lists; it counts them all, and lists every excluded file
TOGETHER = 256  # pictures of one array that are looked at together
PORTION, PORTION_BYTES = 64, 2**17  # small files that a thread takes at once
SMALL_PICTURE = 2**16  # bytes of pixels up to which pictures of a portion are looked at together
UNBALANCED = 10  # times as many pictures in the largest class as in the smallest

Progress = Callable[[int, int], object]


@dataclass(frozen=True, slots=True)
class Kept:
    """A good picture. `width`, `height`: as shown, after turning upright. `grey`: all channels are equal. `look`: see
    looks.py."""

    file: str
    path: Path | None
    label: str
    split: str | None
    sha256: str
    width: int
    height: int
    mode: str
    notes: tuple[str, ...]
    grey: bool
    look: str = ""


@dataclass(frozen=True, slots=True)
class Excluded:
    file: str
    label: str
    reason: str
    detail: str
    sha256: str = ""  # empty where the file could not be read


@dataclass(frozen=True, slots=True)
class Found:
    """What the scan learned about one file: facts, or a reason; `prepared` is on its way to the sink."""

    sha256: str
    width: int = 0
    height: int = 0
    mode: str = ""
    notes: tuple[str, ...] = ()
    grey: bool = False
    look: str = ""
    reason: str = ""
    detail: str = ""
    prepared: Any = None


@dataclass
class Duplicates:
    """Groups of files with the same content, or pairs of files with nearly the same, by where the copies lie. One group
    can be in all three lists."""

    within_class: list[list[str]] = field(default_factory=list)
    across_classes: list[list[str]] = field(default_factory=list)  # conflicts: one picture, two labels
    across_splits: list[list[str]] = field(default_factory=list)  # leaks: the test would be partly known


@dataclass
class Scan:
    kept: list[Kept]
    excluded: list[Excluded]
    ignored: dict[str, int]
    warnings: list[str]
    classes: list[str]  # of the kept pictures, sorted: a class's number is its place here
    near_pairs: list[tuple[int, int]] | None = None  # rows of `kept`; None: not searched (see near.py)

    def __post_init__(self) -> None:
        self.modes = dict(Counter(kept.mode for kept in self.kept).most_common())
        self.notes = dict(Counter(note for kept in self.kept for note in kept.notes).most_common())
        self.counts = dict(sorted(Counter(kept.label for kept in self.kept).items()))
        self.duplicates = _duplicates(self.kept)
        self.outliers = find_outliers(self.kept)
        self.grey = bool(self.kept) and all(kept.grey for kept in self.kept)

    @property
    def near(self) -> Duplicates:
        """The pairs of near duplicates, by file name."""
        result = Duplicates()
        for rows in self.near_pairs or []:
            _sort_in(result, [self.kept[row] for row in rows])
        return result

    @property
    def problems(self) -> int:
        """Groups of copies and pairs of near duplicates that lie in several classes, or on both sides of the data's own
        split: each makes a result wrong."""
        both = (self.duplicates, self.near)
        return sum(len(found.across_classes) + len(found.across_splits) for found in both)

    def to_json(self) -> str:
        """Every exclusion, all counts, and the first of each kind of finding. Pure ASCII, so file names that are no
        valid Unicode survive."""
        facts = {
            "kept": len(self.kept),
            "excluded": [asdict(excluded) for excluded in self.excluded],
            "ignored": self.ignored,
            "warnings": self.warnings,
            "problems": self.problems,
            "classes": self.counts,
            "modes": self.modes,
            "notes": self._noted(),
            "width": _range([kept.width for kept in self.kept]),
            "height": _range([kept.height for kept in self.kept]),
            "grey": self.grey,
            "duplicates": _listed(self.duplicates),
            "near_duplicates": None if self.near_pairs is None else _listed(self.near),
            "outliers": self._outliers(),
        }
        return json.dumps(facts, indent=1, allow_nan=False) + "\n"

    def _noted(self) -> dict[str, Any]:
        first: dict[str, list[str]] = defaultdict(list)
        for kept in self.kept:
            for note in kept.notes:
                if len(first[note]) < LISTED:
                    first[note].append(kept.file)
        return {note: {"count": count, "first": first[note]} for note, count in self.notes.items()}

    def _outliers(self) -> dict[str, Any]:
        first: dict[str, list[dict[str, str]]] = defaultdict(list)
        for one in self.outliers:
            if len(first[one.kind]) < LISTED:
                first[one.kind].append({"file": self.kept[one.row].file, "detail": one.detail})
        counts = Counter(one.kind for one in self.outliers)
        return {kind: {"count": counts[kind], "first": rows} for kind, rows in first.items()}


class ScanError(DataError):
    """Too much is wrong with the data. `scan` holds all that was found, so that it can be shown and saved."""

    def __init__(self, cause: str, hint: str, scan: Scan) -> None:
        super().__init__(cause, hint)
        self.scan = scan


def scan(
    source: Source,
    options: DecodeOptions,
    *,
    threads: int = 0,
    max_excluded: float = 0.01,
    strict: bool = False,
    on_progress: Progress | None = None,
    prepare: Callable[[NDArray[np.uint8]], Any] | None = None,
    sink: Callable[[int, Any], object] | None = None,
) -> Scan:
    """Decodes every picture of the source in threads.

    `prepare(pixels)` runs in the thread that decoded, `sink(index, prepared)` on the caller's, in the order of
    source.items and only for good pictures. ScanError (exit code 3) with more than `max_excluded` of the pictures
    excluded, with any excluded if `strict`, and with a class that lost all of its pictures.
    """
    found = []
    for index, one in enumerate(examine(source, options, threads, prepare)):
        if sink and not one.reason:
            sink(index, one.prepared)
        found.append(one if one.prepared is None else replace(one, prepared=None))
        if on_progress:
            on_progress(index + 1, len(source.items))
    return assemble(source, found, max_excluded=max_excluded, strict=strict)


def examine(
    source: Source, options: DecodeOptions, threads: int, prepare: Callable[[NDArray[np.uint8]], Any] | None
) -> Iterator[Found]:
    """One Found per item, in order."""

    def look(items: list[Item]) -> list[Found]:
        found: list[Found] = []
        alike: dict[tuple[int, ...], list[tuple[int, Picture]]] = defaultdict(list)  # small pictures, by their size
        for item in items:
            digest = ""
            try:
                assert item.path is not None
                data = read_bytes(item.path, options)
                digest = hashlib.sha256(data).hexdigest()
                picture = decode(data, options, name=item.path.name)
            except BadPicture as error:
                found.append(Found(digest, reason=error.reason, detail=error.detail))
                continue
            text = ""
            if len(items) > 1 and picture.pixels.nbytes < SMALL_PICTURE:
                alike[picture.pixels.shape].append((len(found), picture))
            else:
                text = looks(picture.pixels[None])[0]
            found.append(facts(digest, picture.pixels, picture.mode, picture.notes, text))
        for group in alike.values():
            for (row, _), text in zip(group, looks(np.stack([picture.pixels for _, picture in group])), strict=True):
                found[row] = replace(found[row], look=text)
        return found

    def facts(digest: str, pixels: NDArray[np.uint8], mode: str, notes: tuple[str, ...], text: str) -> Found:
        height, width = pixels.shape[:2]
        prepared = prepare(pixels) if prepare else None
        notes = (*notes, "one_colour") if one_colour(pixels) else notes
        return Found(digest, width, height, mode, notes, is_grey(pixels), text, prepared=prepared)

    if source.arrays is None:
        for portion in ordered_map(look, portions(source.items), threads=threads):
            yield from portion
        return
    arrays = source.arrays["pixels"]
    mode = "L" if arrays.shape[3] == 1 else "RGB"
    for start in range(0, len(arrays), TOGETHER):
        part = arrays[start : start + TOGETHER]
        for pixels, text in zip(part, looks(part), strict=True):
            yield facts(hashlib.sha256(pixels.tobytes()).hexdigest(), pixels, mode, (), text)


def portions(items: Sequence[Item]) -> Iterator[list[Item]]:
    """Photographs one by one, small files many at a time: to hand one to a thread costs as much as to decode it."""
    portion: list[Item] = []
    size = 0
    for item in items:
        portion.append(item)
        size += size_of(item.path)
        if size > PORTION_BYTES or len(portion) == PORTION:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def size_of(path: Path | None) -> int:
    """Bytes; -1 where there is nothing."""
    try:
        return os.stat(path).st_size if path is not None else 0
    except (OSError, ValueError):
        return -1


def assemble(source: Source, found: Sequence[Found], *, max_excluded: float, strict: bool) -> Scan:
    """Facts and items become a Scan, or a ScanError."""
    kept, excluded = [], []
    for item, one in zip(source.items, found, strict=True):
        if one.reason:
            excluded.append(Excluded(item.file, item.label, one.reason, one.detail, one.sha256))
        else:
            # One string for all: of a million pictures, a million copies of "RGB" would be read from a cache.
            facts = one.sha256, one.width, one.height, sys.intern(one.mode), one.notes, one.grey, one.look
            kept.append(Kept(item.file, item.path, item.label, item.split, *facts))
    classes = sorted({item.label for item in kept})
    result = Scan(kept, excluded, dict(source.ignored), list(source.warnings), classes)
    _warn(result)
    _judge(source, result, max_excluded, strict)
    return result


def _judge(source: Source, result: Scan, max_excluded: float, strict: bool) -> None:
    if not result.excluded:
        return
    named = ", ".join(f"{one.file!a} ({one.reason})" for one in result.excluded[:3])
    more = f" and {len(result.excluded) - 3} more" if len(result.excluded) > 3 else ""
    bad, total = len(result.excluded), len(source.items)
    first = result.excluded[0]
    bands = f"--channels must fit the pictures; of {first.file!a}: {first.detail}" if first.reason == "channels" else ""
    if emptied := sorted({item.label for item in source.items} - set(result.classes)):
        cause = f"no picture of the class {emptied[0]!a} can be used: {named}{more}"
        raise ScanError(cause, bands or "repair the files or remove the class", result)
    if strict:
        cause = f"{bad} of {total} pictures cannot be used: {named}{more}"
        raise ScanError(cause, bands or "repair or remove them", result)
    if bad > max_excluded * total:
        cause = f"{bad} of {total} pictures ({bad / total:.1%}) cannot be used: {named}{more}"
        hint = f"repair or remove them, or allow more than {max_excluded:.1%} with --max-excluded"
        raise ScanError(cause, bands or hint, result)


def _warn(result: Scan) -> None:
    """What a careful person must know before believing a result."""
    found = result.duplicates
    if conflicts := found.across_classes:
        same = " = ".join(f"{file!a}" for file in conflicts[0][:3])
        number = counted(len(conflicts), "picture lies", "pictures lie")
        result.warnings.append(f"{number} in more than one class, such as {same}")
    if leaks := found.across_splits:
        same = " = ".join(f"{file!a}" for file in leaks[0][:3])
        number = counted(len(leaks), "picture lies", "pictures lie")
        text = f"{number} in several sets, such as {same}; training copies of what is in another set are not used"
        result.warnings.append(text)
    if result.outliers:
        kinds = Counter(one.kind.replace("_", " ") for one in result.outliers)
        counts = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())
        result.warnings.append(f"unlike the rest: {counts} (`neocog check` shows them)")
    if len(result.counts) > 1:
        largest, smallest = (pick(result.counts, key=lambda name: result.counts[name]) for pick in (max, min))
        most, least = result.counts[largest], result.counts[smallest]
        if most > UNBALANCED * least:
            text = f"{largest!a} has {counted(most, 'picture')}, {smallest!a} {least:,}: look at the balanced accuracy"
            result.warnings.append(text)


def _duplicates(kept: Sequence[Kept]) -> Duplicates:
    groups: dict[str, list[Kept]] = defaultdict(list)
    for one in kept:
        groups[one.sha256].append(one)
    result = Duplicates()
    for group in groups.values():
        if len(group) > 1:
            _sort_in(result, group)
    return result


def _sort_in(result: Duplicates, group: Sequence[Kept]) -> None:
    files = [one.file for one in group]
    labels, splits = {one.label for one in group}, {one.split for one in group}
    if len(labels) > 1:
        result.across_classes.append(files)
    if len(splits) > 1:
        result.across_splits.append(files)
    if len({(one.label, one.split) for one in group}) < len(group):
        result.within_class.append(files)


def _listed(found: Duplicates) -> dict[str, Any]:
    return {
        where: {"count": len(groups), "first": [files[:LISTED] for files in groups[:LISTED]]}
        for where, groups in vars(found).items()
    }


def _range(values: list[int]) -> list[int]:
    """Least, median and largest."""
    return [min(values), int(np.median(values)), max(values)] if values else []
