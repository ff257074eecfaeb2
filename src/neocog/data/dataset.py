"""A data set, ready to learn from: classes, names, labels, splits and pixels, one row per picture.

Class numbers are the places of the class names in their sorted order, given once, here.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from neocog.core.errors import DataError
from neocog.data.cache import Cache
from neocog.data.colour import is_grey
from neocog.data.decode import EXTREME_ASPECT, DecodeOptions
from neocog.data.groups import across_sets, compiled, named_groups, together
from neocog.data.near import near_pairs
from neocog.data.preprocess import shrink
from neocog.data.scan import Found, Scan, ScanError, assemble, examine
from neocog.data.source import Source, check_classes, open_source
from neocog.data.split import Row, describe_split, split
from neocog.data.store import CacheStore, MemoryStore


@dataclass
class Dataset:
    """Row i is picture i everywhere: `files[i]`, `labels[i]` (its class number), `splits[i]` (train, val, test,
    unused), `sha256[i]` of the file (of the pixels where there is no file), `store.picture(i)`; pictures with the same
    number in `groups` (copies, near duplicates, those that `group_by` joins) stay in one set when sets are drawn."""

    name: str
    classes: list[str]
    files: list[str]
    paths: list[Path | None]
    labels: NDArray[np.int64]
    splits: NDArray[np.str_]
    sha256: list[str]
    store: MemoryStore | CacheStore
    scan: Scan
    options: DecodeOptions
    groups: NDArray[np.int64]
    seed: int = 0

    @property
    def channels(self) -> int:
        return self.store.channels

    @property
    def grey(self) -> bool:
        """Whether every picture is grey, however it is stored."""
        return self.scan.grey

    @property
    def warnings(self) -> list[str]:
        return self.scan.warnings

    @property
    def equal_size(self) -> tuple[int, int] | None:
        """(H, W) of the kept pixels where all pictures agree."""
        return self.store.equal_size

    @property
    def unlabelled(self) -> bool:
        """Whether these are pictures of a folder without class folders: one class, called as the folder."""
        return self.classes == [self.name]

    @property
    def has_official_split(self) -> bool:
        return any(one.split is not None for one in self.scan.kept)

    @property
    def how_split(self) -> str:
        """For the report: who decided which picture is in which set."""
        return describe_split(self.scan.kept, self.splits.tolist(), self.seed)

    def with_channels(self, channels: int) -> "Dataset":
        """The same pictures with 1 or 3 channels; colour becomes grey only when it is decoded so (`options`). Other
        numbers of channels stay what they are."""
        if channels == 1 and self.channels == 3 and not self.grey:
            raise ValueError("colour pictures are made grey by decoding them with channels=1")
        options = replace(self.options, channels=channels)
        return replace(self, store=self.store.with_channels(channels), options=options)

    def mean_std(self, rows: NDArray[np.int64], most: int = 2000) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Per channel over all pixels of the rows (of `most` evenly spaced ones), on the 0..1 scale. A channel that
        never changes has a std of 1/255, so that it can be divided by."""
        chosen = rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64)] if len(rows) else rows
        counts = np.zeros((self.channels, 256), np.int64)
        for row in chosen:
            for channel, plane in enumerate(self.store.picture(int(row)).numpy()):
                counts[channel] += np.bincount(plane.ravel(), minlength=256)
        total = np.maximum(counts.sum(axis=1), 1)
        values = np.arange(256) / 255
        mean = counts @ values / total
        std = np.sqrt(np.maximum(counts @ values**2 / total - mean**2, 1 / 255**2))
        return tuple(mean.tolist()), tuple(std.tolist())

    def __len__(self) -> int:
        return len(self.files)

    def rows(self, name: str) -> NDArray[np.int64]:
        """The rows of train, val or test, ascending."""
        return np.flatnonzero(self.splits == name).astype(np.int64)

    def split_rows(self) -> list[Row]:
        """What split.csv holds."""
        facts = zip(self.files, self.labels, self.splits, self.sha256, strict=True)
        return [Row(file, self.classes[label], str(name), digest) for file, label, name, digest in facts]


def open_dataset(
    data: str | Source,
    options: DecodeOptions = DecodeOptions(),
    *,
    resize: int | None = None,
    interpolation: str = "bilinear",
    val_fraction: float = 0.15,
    test_fraction: float = 0.15,
    seed: int = 0,
    threads: int = 0,
    max_excluded: float = 0.01,
    strict: bool = False,
    follow_links: bool = False,
    allow_empty_classes: bool = False,
    unlabelled: bool = False,
    group_by: str | None = None,
    cache_dir: Path | None = None,
    resident: bool = True,
    on_progress: Callable[[int, int], object] | None = None,
) -> Dataset:
    """Source, scan, split and store in one go. DataError, ScanError (also where the pictures cannot be split),
    ResourceError; UsageError where `group_by`, searched in file names, is no regular expression.

    `options.channels` is what the pictures are decoded to; `with_channels(1)` follows where `grey` says that nothing
    is lost. `resize`: pictures with a longer short side are kept shrunk to it; None keeps them as they are.
    `unlabelled`: see `open_source`. `cache_dir`: default ~/.cache/neocog/pictures. `resident`: small pictures of one
    size are held in memory.
    """
    pattern = compiled(group_by)
    if isinstance(data, str):
        data = open_source(
            data, follow_links=follow_links, allow_empty_classes=allow_empty_classes, unlabelled=unlabelled
        )

    def prepare(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, C) as decoded -> as kept: shrunk, and one channel where all are equal."""
        if is_grey(pixels):
            pixels = np.ascontiguousarray(pixels[..., :1])
        short, long = sorted(pixels.shape[:2])
        if resize is not None and (short > resize or long > EXTREME_ASPECT * short):
            pixels = shrink(torch.from_numpy(pixels).permute(2, 0, 1), resize, interpolation).permute(1, 2, 0).numpy()
        return np.ascontiguousarray(pixels)

    def judge(found: list[Found]) -> Scan:
        result = assemble(data, found, max_excluded=max_excluded, strict=strict)
        try:
            good = [item for item, one in zip(data.items, found, strict=True) if not one.reason]
            check_classes(Source(data.name, good), least=1 if unlabelled else 2)
        except DataError as error:
            raise ScanError(error.cause, error.hint, result) from None
        return result

    store: MemoryStore | CacheStore
    if data.arrays is not None:
        found = list(examine(data, options, threads, None))
        scan = judge(found)
        store = MemoryStore(in_channels(data.arrays["pixels"], options.channels))
        scan.near_pairs = near_pairs(scan.kept, store.picture)
        if on_progress:
            on_progress(len(found), len(found))
    else:
        cache = Cache(data.items, options, resize, interpolation, cache_dir)
        known = cache.find(threads, on_progress)
        if known is None:
            known = _scan_into(cache, data, options, threads, prepare, judge, on_progress)
        scan = judge(known[0])
        flat = known[1].with_channels(options.channels)
        scan.near_pairs = near_pairs(scan.kept, flat.picture)  # before memory is taken for the pixels
        store = (flat.in_memory() if resident else None) or flat
    try:
        groups, sets = _divide(scan, pattern, val_fraction, test_fraction, seed)
    except DataError as error:
        raise ScanError(error.cause, error.hint, scan) from None
    numbers = {name: number for number, name in enumerate(scan.classes)}
    return Dataset(
        name=data.name,
        classes=scan.classes,
        files=[one.file for one in scan.kept],
        paths=[one.path for one in scan.kept],
        labels=np.array([numbers[one.label] for one in scan.kept], np.int64),
        splits=np.array(sets),
        sha256=[one.sha256 for one in scan.kept],
        store=store,
        scan=scan,
        options=options,
        groups=groups,
        seed=seed,
    )


def _divide(
    scan: Scan, pattern: re.Pattern[str] | None, val_fraction: float, test_fraction: float, seed: int
) -> tuple[NDArray[np.int64], list[str]]:
    """The group and the set of every picture; warns of what the sets cannot keep apart."""
    kept, near = scan.kept, scan.near_pairs or []
    named: list[list[int]] = []
    if pattern is not None:
        named, warnings = named_groups(kept, pattern)
        scan.warnings += warnings
        if torn := across_sets(kept, named):
            first = " and ".join(f"{kept[row].file!a}" for row in (torn[0][0], torn[0][-1]))
            scan.warnings.append(f"group_by: the data's own sets divide {len(torn)} groups, such as that of {first}")
    _warn_of_near(scan)
    fractions = {"val_fraction": val_fraction, "test_fraction": test_fraction}
    groups = together(kept, named, near)
    try:
        return groups, split(kept, **fractions, seed=seed, groups=groups)
    except DataError:
        if not near:
            raise
    # Frames of one video may all be near duplicates of the next: then there is nothing else to divide.
    groups = together(kept, named)
    sets = split(kept, **fractions, seed=seed, groups=groups)
    scan.warnings.append("near duplicates lie in several sets, because a class has too few other pictures")
    return groups, sets


def _warn_of_near(scan: Scan) -> None:
    found = scan.near
    for pairs, what in (
        (found.across_classes, "lie in different classes"),
        (found.across_splits, "lie in different sets"),
    ):
        if pairs:
            first = " and ".join(f"{file!a}" for file in pairs[0])
            pairs_of = "1 pair" if len(pairs) == 1 else f"{len(pairs):,} pairs"
            scan.warnings.append(f"{pairs_of} of nearly the same picture: they {what}, such as {first}")


def _scan_into(
    cache: Cache,
    source: Source,
    options: DecodeOptions,
    threads: int,
    prepare: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
    judge: Callable[[list[Found]], Scan],
    on_progress: Callable[[int, int], object] | None,
) -> tuple[list[Found], CacheStore]:
    found = []
    with cache.write() as writer:
        for one in examine(source, options, threads, prepare):
            if not one.reason:
                writer.add(one.prepared)
            found.append(replace(one, prepared=None))
            if on_progress:
                on_progress(len(found), len(source.items))
        judge(found)  # before the cache is kept: data that is refused leaves nothing behind
        return found, writer.finish(found)


def in_channels(pixels: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """(N, H, W, C) with the channels that are wanted; colour becomes grey by the same weights as in decoding."""
    have = pixels.shape[3]
    if channels == have:
        return pixels
    if channels == 3:
        return pixels.repeat(3, axis=3)
    if channels == 1:
        weights = np.array([19595, 38470, 7471], np.uint32)
        grey: NDArray[np.uint8] = (((pixels * weights).sum(axis=3, keepdims=True) + 0x8000) >> 16).astype(np.uint8)
        return grey
    raise DataError(f"pictures have 1 or 3 channels, not {channels}", "use grey or rgb")
