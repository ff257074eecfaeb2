"""Where the decoded pictures of a data set lie: in memory where that is small and regular, else in a file.

`Cache` is a folder per data set under ~/.cache/neocog/pictures: pixels.bin holds the shrunk pictures one after
the other (uint8, height x width x channels), found.json what the scan learned. It is found by names and sizes,
trusted only if every picture's sha256 is still the same, and written under another name until it is whole.
"""

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neocog.core.errors import ResourceError
from neocog.core.files import sha256_of
from neocog.core.spec import Preprocessing
from neocog.data.decode import DecodeOptions
from neocog.data.named import cache_folder
from neocog.data.preprocess import nhwc, view
from neocog.data.scan import Found
from neocog.data.source import Item
from neocog.data.threads import ordered_map

VERSION = 1  # of what the cache holds: raise it when decoding or shrinking changes pixels
MEMORY_LIMIT = 2**30  # bytes of pixels that are kept in memory
KEEP_BYTES = 20 * 2**30  # the oldest caches beyond this are removed when a new one is written


class Store(Protocol):
    """uint8 pictures by row. `channels`: 1 or 3, the same for all."""

    channels: int

    def __len__(self) -> int: ...

    def picture(self, row: int) -> Tensor:
        """(C, H, W) uint8, channels_last in memory; not to be written to."""
        ...


class MemoryStore:
    """Pictures of one size in one tensor: uint8 (N, C, H, W), channels_last in memory."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        """`pixels`: uint8 (N, H, W, C)."""
        self.pixels = torch.from_numpy(np.require(pixels, requirements=["C", "W"])).permute(0, 3, 1, 2)
        self.channels = pixels.shape[3]
        self._views: tuple[tuple[int, int, str], Tensor] | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def equal_size(self) -> tuple[int, int] | None:
        return int(self.pixels.shape[2]), int(self.pixels.shape[3])

    def with_channels(self, channels: int) -> "MemoryStore":
        if channels == self.channels:
            return self
        pixels = self.pixels.permute(0, 2, 3, 1).numpy()
        return MemoryStore(pixels.repeat(3, axis=3) if channels == 3 else np.ascontiguousarray(pixels[..., :1]))

    def picture(self, row: int) -> Tensor:
        return self.pixels[row]

    def views(self, preprocessing: Preprocessing) -> Tensor | None:
        """All evaluation views, uint8 (N, C, size, size), made once; None where they would not fit in memory."""
        key = preprocessing.size, preprocessing.resize, preprocessing.interpolation
        if len(self) * self.channels * preprocessing.size**2 > MEMORY_LIMIT:
            return None
        if self._views is None or self._views[0] != key:
            parts = [view(part, preprocessing) for part in torch.split(self.pixels, 256)]
            whole = parts[0].shape[2:] == self.pixels.shape[2:]  # nothing was resized or cropped
            self._views = key, self.pixels if whole else nhwc(torch.cat([nhwc(part) for part in parts]))
        return self._views[1]


class CacheStore:
    """Pictures of any size in a memory-mapped file. Grey pictures are stored once and shown in all channels."""

    def __init__(self, path: Path, offsets: NDArray[np.int64], shapes: NDArray[np.int64], channels: int) -> None:
        self.channels = channels
        self._path, self._offsets, self._shapes = path, offsets, shapes
        self._bytes: NDArray[np.uint8] = np.memmap(path, np.uint8, "r") if len(offsets) else np.empty(0, np.uint8)

    def __len__(self) -> int:
        return len(self._offsets)

    @property
    def equal_size(self) -> tuple[int, int] | None:
        sizes = {(int(height), int(width)) for height, width, _ in self._shapes}
        return sizes.pop() if len(sizes) == 1 else None

    def with_channels(self, channels: int) -> "CacheStore":
        return CacheStore(self._path, self._offsets, self._shapes, channels)

    def picture(self, row: int) -> Tensor:
        height, width, channels = (int(n) for n in self._shapes[row])
        start = int(self._offsets[row])
        pixels = np.array(self._bytes[start : start + height * width * channels]).reshape(height, width, channels)
        if channels != self.channels:
            pixels = pixels.repeat(3, axis=2) if self.channels == 3 else np.ascontiguousarray(pixels[..., :1])
        return torch.from_numpy(pixels).permute(2, 0, 1)

    def in_memory(self) -> MemoryStore | None:
        """The same pictures as a MemoryStore, where they share a size and are small."""
        if self.equal_size is None:
            return None
        height, width = self.equal_size
        if len(self) * height * width * self.channels > MEMORY_LIMIT:
            return None
        pixels = np.empty((len(self), height, width, self.channels), np.uint8)
        for row in range(len(self)):
            pixels[row] = self.picture(row).permute(1, 2, 0).numpy()
        return MemoryStore(pixels)


class Cache:
    """One data set's folder: `found()` if it holds the same pictures already, else `write` while scanning."""

    def __init__(
        self, items: Sequence[Item], options: DecodeOptions, resize: int | None, interpolation: str, root: Path | None
    ) -> None:
        self.items = items
        digest = hashlib.sha256(json.dumps([VERSION, asdict(options), resize, interpolation]).encode())
        for item in items:
            digest.update(os.fsencode(f"\0{item.file}\0{_size(item.path)}"))
        self.root = root or cache_folder() / "pictures"
        self.folder = self.root / digest.hexdigest()[:32]

    def found(self, threads: int, on_progress: Callable[[int, int], object] | None = None) -> list[Found] | None:
        """What the scan learned when the cache was written; None where there is none or a picture has changed."""
        try:
            rows = json.loads((self.folder / "found.json").read_bytes())
        except (OSError, ValueError):
            return None
        hashes = ordered_map(_hash, self.items, threads=threads)
        for index, (row, digest) in enumerate(zip(rows, hashes, strict=True)):
            if row["sha256"] != digest:
                return None
            if on_progress:
                on_progress(index + 1, len(rows))
        os.utime(self.folder)  # used now: the last to be removed
        return [Found(**{**row, "notes": tuple(row["notes"])}) for row in rows]

    def write(self) -> "CacheWriter":
        return CacheWriter(self.root, self.folder)

    def store(self, channels: int) -> CacheStore:
        index = np.load(self.folder / "index.npz")
        return CacheStore(self.folder / "pixels.bin", index["offsets"], index["shapes"], channels)


class CacheWriter:
    """`with cache.write() as writer`: `add` every good picture in order, then `finish`; else nothing stays."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.folder = root, folder
        self._temporary = root / f".{folder.name}.{secrets.token_hex(4)}.tmp"
        self._shapes: list[tuple[int, ...]] = []
        self._file: BinaryIO | None = None

    def __enter__(self) -> "CacheWriter":
        try:
            self._temporary.mkdir(parents=True)
            self._file = (self._temporary / "pixels.bin").open("wb", buffering=2**20)
        except OSError as error:
            raise _no_room(self.root, error) from None
        return self

    def add(self, pixels: NDArray[np.uint8]) -> None:
        """uint8 (H, W, C)."""
        assert self._file is not None
        try:
            self._file.write(pixels.tobytes())
        except OSError as error:
            raise _no_room(self.root, error) from None
        self._shapes.append(pixels.shape)

    def finish(self, found: Sequence[Found]) -> None:
        assert self._file is not None
        shapes = np.array(self._shapes, np.int64).reshape(-1, 3)
        offsets = np.concatenate([[0], np.cumsum(shapes.prod(axis=1))])[:-1].astype(np.int64)
        rows = [{k: v for k, v in _plain(one).items() if k != "prepared"} for one in found]
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            np.savez(self._temporary / "index.npz", offsets=offsets, shapes=shapes)
            (self._temporary / "found.json").write_text(json.dumps(rows, allow_nan=False))
            shutil.rmtree(self.folder, ignore_errors=True)  # of pictures that have changed since
            self._temporary.rename(self.folder)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):  # another run was faster, with the same pictures
                return
            raise _no_room(self.root, error) from None
        prune(self.root, self.folder)

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            self._file.close()
        shutil.rmtree(self._temporary, ignore_errors=True)


def prune(root: Path, keep: Path, limit: int = KEEP_BYTES) -> None:
    """Removes the least recently used caches until the others and `keep` fit into `limit` bytes."""
    folders = sorted(
        (path for path in root.iterdir() if (path / "found.json").exists()), key=lambda p: -p.stat().st_mtime
    )
    total = 0
    for folder in folders:
        total += sum(file.stat().st_size for file in folder.iterdir())
        if total > limit and folder != keep:
            shutil.rmtree(folder, ignore_errors=True)


def _plain(found: Found) -> dict[str, Any]:
    return {name: getattr(found, name) for name in Found.__dataclass_fields__}


def _size(path: Path | None) -> int:
    try:
        return path.stat().st_size if path is not None else 0
    except OSError:
        return -1


def _hash(item: Item) -> str:
    try:
        return sha256_of(item.path) if item.path is not None and item.path.is_file() else ""
    except OSError:
        return ""


def _no_room(root: Path, error: OSError) -> ResourceError:
    cause = f"decoded pictures cannot be kept in {root} ({error.strerror})"
    return ResourceError(cause, "free some space there, or set XDG_CACHE_HOME to another folder")
