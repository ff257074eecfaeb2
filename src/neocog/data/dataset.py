"""A data set, ready to learn from: classes, names, labels, splits and pixels, one row per picture.

Class numbers are the places of the class names in their sorted order, given once, here.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from neocog.core.errors import DataError
from neocog.data.colour import is_grey
from neocog.data.decode import DecodeOptions
from neocog.data.preprocess import shrink
from neocog.data.scan import Found, Scan, assemble, examine
from neocog.data.source import Source, check_classes, open_source
from neocog.data.split import Row, split
from neocog.data.store import Cache, CacheStore, MemoryStore


@dataclass
class Dataset:
    """Row i is picture i everywhere: `files[i]`, `labels[i]` (its class number), `splits[i]` (train, val, test,
    unused), `sha256[i]` of the file (of the pixels where there is no file), `store.picture(i)`."""

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

    @property
    def channels(self) -> int:
        return self.store.channels

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
    *,
    channels: int | None = None,
    resize: int | None = None,
    interpolation: str = "bilinear",
    options: DecodeOptions = DecodeOptions(),
    val_fraction: float = 0.15,
    test_fraction: float = 0.15,
    seed: int = 0,
    threads: int = 0,
    max_excluded: float = 0.01,
    strict: bool = False,
    follow_links: bool = False,
    allow_empty_classes: bool = False,
    cache_dir: Path | None = None,
    on_progress: Callable[[int, int], object] | None = None,
) -> Dataset:
    """Source, scan, split and store in one go. DataError, ScanError, ResourceError.

    `channels` None: 1 where every picture is grey, else 3. `resize`: pictures with a longer short side are kept
    shrunk to it; None keeps them as they are. `cache_dir`: default ~/.cache/neocog/pictures.
    """
    if isinstance(data, str):
        data = open_source(data, follow_links=follow_links, allow_empty_classes=allow_empty_classes)
    options = replace(options, channels=channels or 3)

    def prepare(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, C) as decoded -> as kept: shrunk, and one channel where all are equal."""
        if is_grey(pixels):
            pixels = np.ascontiguousarray(pixels[..., :1])
        if resize is not None:
            pixels = shrink(torch.from_numpy(pixels).permute(2, 0, 1), resize, interpolation).permute(1, 2, 0).numpy()
        return np.ascontiguousarray(pixels)

    def judge(found: list[Found]) -> Scan:
        result = assemble(data, found, max_excluded=max_excluded, strict=strict)
        check_classes(Source(data.name, [item for item, one in zip(data.items, found, strict=True) if not one.reason]))
        return result

    store: MemoryStore | CacheStore
    if data.arrays is not None:
        found = list(examine(data, options, threads, None))
        scan = judge(found)
        store = MemoryStore(_in_channels(data.arrays["pixels"], channels))
        if on_progress:
            on_progress(len(found), len(found))
    else:
        cache = Cache(data.items, options, resize, interpolation, cache_dir)
        known = cache.found(threads, on_progress)
        if known is None:
            known = _scan_into(cache, data, options, threads, prepare, judge, on_progress)
        scan = judge(known)
        flat = cache.store(channels or (1 if scan.grey else 3))
        store = flat.in_memory() or flat
    sets = split(scan.kept, val_fraction=val_fraction, test_fraction=test_fraction, seed=seed)
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
        options=replace(options, channels=store.channels),
    )


def _scan_into(
    cache: Cache,
    source: Source,
    options: DecodeOptions,
    threads: int,
    prepare: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
    judge: Callable[[list[Found]], Scan],
    on_progress: Callable[[int, int], object] | None,
) -> list[Found]:
    found = []
    with cache.write() as writer:
        for one in examine(source, options, threads, prepare):
            if not one.reason:
                writer.add(one.prepared)
            found.append(replace(one, prepared=None))
            if on_progress:
                on_progress(len(found), len(source.items))
        judge(found)  # before the cache is kept: data that is refused leaves nothing behind
        writer.finish(found)
    return found


def _in_channels(pixels: NDArray[np.uint8], channels: int | None) -> NDArray[np.uint8]:
    """(N, H, W, C) with the channels that are wanted; colour becomes grey by the same weights as in decoding."""
    have = pixels.shape[3]
    if channels in (None, have):
        return pixels
    if channels == 3:
        return pixels.repeat(3, axis=3)
    if channels == 1:
        weights = np.array([19595, 38470, 7471], np.uint32)
        grey: NDArray[np.uint8] = (((pixels * weights).sum(axis=3, keepdims=True) + 0x8000) >> 16).astype(np.uint8)
        return grey
    raise DataError(f"pictures have 1 or 3 channels, not {channels}", "use grey or rgb")
