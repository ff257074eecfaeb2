"""Where the decoded pictures of a data set lie: in memory where they are small and of one size, else in a file."""

import math
import os
import threading
import weakref
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neocog.core.errors import DataError
from neocog.core.spec import Preprocessing
from neocog.data.preprocess import nhwc, view

MEMORY_LIMIT = 640 * 2**20  # bytes of pixels that are kept in memory, copies included


class Store(Protocol):
    """uint8 pictures by row. `channels`: the same for all."""

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
        return MemoryStore(np.ascontiguousarray(pixels[..., :1]) if channels == 1 else pixels.repeat(channels, axis=3))

    def picture(self, row: int) -> Tensor:
        return self.pixels[row]

    def views(self, preprocessing: Preprocessing) -> Tensor | None:
        """All evaluation views, uint8 (N, C, size, size), made once; None where they would not fit in memory."""
        key = preprocessing.size, preprocessing.resize, preprocessing.interpolation
        size = preprocessing.size
        copies = 0 if preprocessing.resize == size and self.equal_size == (size, size) else len(self) * size**2
        if copies and self.pixels.nbytes + copies * self.channels > MEMORY_LIMIT:
            return None
        if self._views is None or self._views[0] != key:
            parts = [view(part, preprocessing) for part in torch.split(self.pixels, 256)]
            whole = parts[0].shape[2:] == self.pixels.shape[2:]  # nothing was resized or cropped
            self._views = key, self.pixels if whole else nhwc(torch.cat([nhwc(part) for part in parts]))
        return self._views[1]


class PixelFile:
    """Bytes of a file by place. It is read, not mapped: mapped pages count as the process's memory, and a mapped file
    that somebody cuts short kills it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self._lock = threading.Lock()
        weakref.finalize(self, os.close, self._descriptor)

    def read(self, start: int, count: int) -> NDArray[np.uint8]:
        """(count,), writable. DataError where the file has become shorter."""
        pixels = np.empty(count, np.uint8)
        if hasattr(os, "preadv"):
            got = os.preadv(self._descriptor, [pixels.data], start)
        else:
            with self._lock:
                os.lseek(self._descriptor, start, os.SEEK_SET)
                found = os.read(self._descriptor, count)
            got = len(found)
            pixels[:got] = np.frombuffer(found, np.uint8)
        if got != count:
            raise DataError(f"{self._path} was changed while it was in use", "do it again: it is then made anew")
        return pixels


class CacheStore:
    """Pictures of any size in a file. Grey pictures are stored once and shown in all channels."""

    def __init__(self, pixels: PixelFile, offsets: NDArray[np.int64], shapes: NDArray[np.int64], channels: int) -> None:
        """`pixels`: all bytes of the file; `offsets` (N,) and `shapes` (N, 3): where each picture lies in it."""
        self.channels = channels
        self._file, self._offsets, self._shapes = pixels, offsets, shapes

    def __len__(self) -> int:
        return len(self._offsets)

    @property
    def equal_size(self) -> tuple[int, int] | None:
        if len(self) == 0 or (self._shapes[:, :2] != self._shapes[0, :2]).any():
            return None
        return int(self._shapes[0, 0]), int(self._shapes[0, 1])

    def with_channels(self, channels: int) -> "CacheStore":
        return CacheStore(self._file, self._offsets, self._shapes, channels)

    def picture(self, row: int) -> Tensor:
        shape = tuple(int(n) for n in self._shapes[row])
        pixels = self._file.read(int(self._offsets[row]), math.prod(shape)).reshape(shape)
        return torch.from_numpy(self._in_channels(pixels)).permute(2, 0, 1)

    def _in_channels(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(..., 1 or more) -> (..., channels)."""
        if pixels.shape[-1] == self.channels:
            return pixels
        return np.ascontiguousarray(pixels[..., :1]) if self.channels == 1 else pixels.repeat(self.channels, axis=-1)

    def in_memory(self) -> MemoryStore | None:
        """The same pictures as a MemoryStore, where they share a size and are small."""
        if self.equal_size is None:
            return None
        height, width = self.equal_size
        if len(self) * height * width * self.channels > MEMORY_LIMIT:
            return None
        pixels = np.empty((len(self), height, width, self.channels), np.uint8)
        # Stretches of pictures that are stored with the same channels, at most 1,000 of them at once.
        changes = np.flatnonzero(np.diff(self._shapes[:, 2])) + 1
        edges = sorted({*range(0, len(self), 1000), *changes.tolist(), len(self)})
        for first, last in pairwise(edges):
            stored = int(self._shapes[first, 2])
            count = (last - first) * height * width * stored
            part = self._file.read(int(self._offsets[first]), count).reshape(-1, height, width, stored)
            pixels[first:last] = self._in_channels(part)
        return MemoryStore(pixels)
