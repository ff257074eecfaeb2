"""Decoded pictures, kept in the user's cache folder so that the next run need not decode them again.

One folder per data set under ~/.cache/neocog/pictures, named by what it depends on (file names and sizes, how they
are decoded and shrunk) and by the content of every file. pixels.bin holds the pictures one after the other (uint8,
height x width x channels), index.npz their places, found.jsonl what the scan learned. A folder is written under another
name until it is whole, and never changed after that.
"""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import time
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from neocog.core.errors import ResourceError
from neocog.core.files import sha256_of
from neocog.core.folders import cache_folder
from neocog.data.decode import DecodeOptions
from neocog.data.scan import Found, portions, size_of
from neocog.data.source import Item
from neocog.data.store import CacheStore, PixelFile
from neocog.data.threads import ordered_map

VERSION = 3  # of what the cache holds: raise it when decoding or shrinking changes pixels, or a scan learns more
KEEP_BYTES = 20 * 2**30  # the least recently used caches beyond this are removed when a new one is written
STALE_SECONDS = 86_400  # after which an unfinished folder is one of a run that was killed


class Cache:
    """`find()` gives what is known if these very pictures were seen before; else `write()` while scanning."""

    def __init__(
        self, items: Sequence[Item], options: DecodeOptions, resize: int | None, interpolation: str, root: Path | None
    ) -> None:
        self.items = items
        self.root = root or cache_folder() / "pictures"
        digest = hashlib.sha256(json.dumps([VERSION, asdict(options), resize, interpolation]).encode())
        for item in items:
            digest.update(os.fsencode(f"\0{item.file}\0{size_of(item.path)}"))
        self._names = digest.hexdigest()[:16]

    def find(
        self, threads: int, on_progress: Callable[[int, int], object] | None = None
    ) -> tuple[list[Found], CacheStore] | None:
        """What the scan learned, and the pixels. Reads every file again to compare its hash, but only if a data set
        of the same names and sizes was seen before."""
        if not any(self.root.glob(f"{self._names}-*")):
            return None
        hashes: list[str] = []
        for digests in ordered_map(
            lambda items: [_hash(item) for item in items], portions(self.items), threads=threads
        ):
            hashes += digests
            if on_progress:
                on_progress(len(hashes), len(self.items))
        folder = self.root / f"{self._names}-{_content(hashes)}"
        if not folder.is_dir():
            return None
        try:
            return load(folder)
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
            shutil.rmtree(folder, ignore_errors=True)  # damaged from outside: it is written again
            return None

    def write(self) -> "CacheWriter":
        return CacheWriter(self.root, self._names)


def load(folder: Path) -> tuple[list[Found], CacheStore]:
    """Facts and pixels of a finished folder, in three channels. ValueError and others where it is damaged."""
    with (folder / "found.jsonl").open(encoding="utf-8") as file:  # line by line: there may be a million
        found = [_found(json.loads(line)) for line in file]
    with np.load(folder / "index.npz") as index:
        offsets, shapes = index["offsets"], index["shapes"]
    size = (folder / "pixels.bin").stat().st_size
    if size != int(shapes.prod(axis=1).sum()) or len(shapes) != sum(not one.reason for one in found):
        raise ValueError("the parts do not belong together")
    os.utime(folder)  # used now: the last to be removed
    return found, CacheStore(PixelFile(folder / "pixels.bin"), offsets, shapes, 3)


def _found(row: dict[str, Any]) -> Found:
    return Found(**row | {"notes": tuple(row["notes"])})


class CacheWriter:
    """`with cache.write() as writer`: `add` every good picture in order, then `finish`; else nothing stays."""

    def __init__(self, root: Path, names: str) -> None:
        self.root, self._names = root, names
        self._temporary = root / f".{names}.{secrets.token_hex(4)}.tmp"
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

    def finish(self, found: Sequence[Found]) -> CacheStore:
        """Gives the folder its name, and the pixels in it."""
        assert self._file is not None
        shapes = np.array(self._shapes, np.int64).reshape(-1, 3)
        offsets = np.cumsum(shapes.prod(axis=1)) - shapes.prod(axis=1)
        folder = self.root / f"{self._names}-{_content(one.sha256 for one in found)}"
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            np.savez(self._temporary / "index.npz", offsets=offsets, shapes=shapes)
            with (self._temporary / "found.jsonl").open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(_plain(one), allow_nan=False) + "\n" for one in found)
            try:
                self._temporary.rename(folder)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # another run was faster, with the same pictures
                    raise
            prune(self.root, folder)
            return load(folder)[1]
        except OSError as error:
            raise _no_room(self.root, error) from None

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            self._file.close()
        shutil.rmtree(self._temporary, ignore_errors=True)


def prune(root: Path, keep: Path, limit: int = KEEP_BYTES, *, mark: str = "found.jsonl") -> None:
    """Removes what killed runs left, and the least recently used caches (folders in which there is a `mark`) until the
    rest and `keep` fit into `limit`."""
    finished, total = [], 0
    for folder in root.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another run may be removing the same
            used = folder.stat().st_mtime
            if folder.name.endswith(".tmp") and time.time() - used > STALE_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
            elif any(folder.glob(mark)):
                finished.append((folder != keep, -used, folder, sum(file.stat().st_size for file in folder.iterdir())))
    for _, _, folder, size in sorted(finished):
        total += size
        if total > limit and folder != keep:
            shutil.rmtree(folder, ignore_errors=True)


def _content(hashes: Iterable[str]) -> str:
    return hashlib.sha256(" ".join(hashes).encode()).hexdigest()[:32]


def _plain(found: Found) -> dict[str, Any]:
    return {name: getattr(found, name) for name in Found.__dataclass_fields__ if name != "prepared"}


def _hash(item: Item) -> str:
    """The content's hash; "" where there is nothing to read, as the scan records it."""
    try:
        return sha256_of(item.path) if item.path is not None and item.path.is_file() else ""
    except OSError:
        return ""


def _no_room(root: Path, error: OSError) -> ResourceError:
    cause = f"decoded pictures cannot be kept in {root} ({error.strerror})"
    return ResourceError(cause, "free some space there, or set XDG_CACHE_HOME to another folder")
