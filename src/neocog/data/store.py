"""Where the decoded pictures of a data set lie: in memory where they are small and of one size, else in a file."""

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neocog.core.spec import Preprocessing
from neocog.data.preprocess import nhwc, view

MEMORY_LIMIT = 2**30  # bytes of pixels that are kept in memory


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

    def __init__(
        self, pixels: NDArray[np.uint8], offsets: NDArray[np.int64], shapes: NDArray[np.int64], channels: int
    ) -> None:
        """`pixels`: all bytes of the file; `offsets` (N,) and `shapes` (N, 3): where each picture lies in it."""
        self.channels = channels
        self._bytes, self._offsets, self._shapes = pixels, offsets, shapes

    def __len__(self) -> int:
        return len(self._offsets)

    @property
    def equal_size(self) -> tuple[int, int] | None:
        sizes = {(int(height), int(width)) for height, width, _ in self._shapes}
        return sizes.pop() if len(sizes) == 1 else None

    def with_channels(self, channels: int) -> "CacheStore":
        return CacheStore(self._bytes, self._offsets, self._shapes, channels)

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
