"""Batches of one epoch, in an order fixed by (seed, epoch), computed ahead in threads where that takes work.

Pictures in memory are selected on the spot. Pictures in the cache file are cropped and resized by threads, a few
whole batches ahead; they travel to the device as 8 bits and become float there.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neocog.core import seeding
from neocog.core.noise import Noise
from neocog.core.spec import Preprocessing
from neocog.data import crops
from neocog.data.augment import Augment, changed, flip, to_float
from neocog.data.corruption import corrupt
from neocog.data.dataset import Dataset
from neocog.data.mixing import mix
from neocog.data.plan import Plan
from neocog.data.preprocess import normalise, view
from neocog.data.store import MEMORY_LIMIT, MemoryStore
from neocog.data.threads import cores, ordered_map


@dataclass
class Batch:
    """`images`: (B, C, S, S) normalised float on the device. `targets`: (B,) int64 class numbers on the device, or
    (B, K) float class shares after MixUp or CutMix; of a loader with `noise`, (B, C, S, S) float, the pictures as they
    were, in 0..1. `indices`: (B,) int64 rows of the data set, on the CPU."""

    images: Tensor
    targets: Tensor
    indices: Tensor


class Loader:
    """`for batch in loader.epoch(n)`. Evaluation: no shuffling, no augmentation."""

    def __init__(
        self,
        dataset: Dataset,
        rows: NDArray[np.int64],
        *,
        preprocessing: Preprocessing,
        batch_size: int,
        augment: Augment | None = None,
        seed: int = 0,
        shuffle: bool = False,
        drop_last: bool = False,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        channels_last: bool = False,
        threads: int = 0,
        ahead: int = 2,
        num_classes: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        noise: Noise | None = None,
    ) -> None:
        """`ahead`: batches that are computed before they are asked for. `noise`: what is done to the pictures, which
        then are their own targets; Noise() leaves them as they are. `num_classes`: the width of mixed targets
        (default: the data set's classes). `rank`, `world_size`: see `Plan`."""
        self.dataset, self.rows = dataset, np.asarray(rows, np.int64)
        self.plan = Plan(len(self.rows), batch_size, seed, shuffle, drop_last, rank, world_size)
        self.preprocessing, self.augment = preprocessing, augment
        self.seed = seed
        self.device, self.dtype = torch.device(device), dtype
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.threads = threads or cores()
        self.ahead = max(ahead, self.threads)
        self.num_classes = num_classes or len(dataset.classes)
        self.noise = noise
        self._labels = torch.from_numpy(dataset.labels)
        self._resident = self._views_in_memory()
        self._padded = self._padded_in_memory()

    def __len__(self) -> int:
        """Batches per epoch: of all processes together in training, of this one in evaluation."""
        return len(self.plan)

    @property
    def rounds(self) -> int:
        """Evaluation batches of the process that has most of them."""
        return self.plan.rounds

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """The batches of an epoch without the first `skip`, which are not computed."""
        plan = self.plan.epoch(epoch, skip)
        pixels: Iterator[Tensor]
        if self._resident is not None:
            pixels = (self._pixels(epoch, positions) for positions in plan)
        else:
            pixels = ordered_map(
                lambda positions: self._pixels(epoch, positions), plan, threads=self.threads, ahead=self.ahead
            )
        for positions, batch in zip(plan, pixels, strict=True):
            yield self._finish(epoch, self.rows[positions], batch)

    def _views_in_memory(self) -> Tensor | None:
        if isinstance(self.dataset.store, MemoryStore) and not (self.augment and self.augment.crop == "resized"):
            return self.dataset.store.views(self.preprocessing)
        return None

    def _padded_in_memory(self) -> NDArray[np.uint8] | None:
        """The rows of this loader, padded once for all epochs: (n, S + 2 pad, S + 2 pad, C)."""
        if self._resident is None or self.augment is None or self.augment.crop != "padded":
            return None
        channels, width = self.dataset.channels, self.preprocessing.size + 2 * self.augment.crop_pad
        if self._resident.nbytes + len(self.rows) * channels * width**2 > MEMORY_LIMIT:
            return None
        return crops.pad_mirrored(self._resident.permute(0, 2, 3, 1).numpy()[self.rows], self.augment.crop_pad)

    def _pixels(self, epoch: int, positions: NDArray[np.int64]) -> Tensor:
        """Cropped and flipped uint8 (B, C, S, S), channels_last in memory. Runs in threads."""
        rows, augment = self.rows[positions], self.augment
        size = self.preprocessing.size
        if augment is not None and augment.crop == "padded":
            shifts = crops.random_shifts(self.seed, epoch, rows, augment.crop_pad)
            padded, places = self._padded, positions
            if padded is None:
                padded = crops.pad_mirrored(self._views(rows).permute(0, 2, 3, 1).numpy(), augment.crop_pad)
                places = np.arange(len(rows))
            pixels = torch.from_numpy(crops.shifted(padded, places, size, shifts)).permute(0, 3, 1, 2)
        elif augment is not None and augment.crop == "resized":
            pixels = self._empty(len(rows))
            luck = seeding.uniform(self.seed, epoch, rows, "crop", 4)
            for place, row in enumerate(rows):
                picture = self.dataset.store.picture(int(row))
                kind = self.preprocessing.interpolation
                pixels[place] = crops.resized_crop(picture, luck[place], augment.crop_scale, size, kind)
        else:
            pixels = self._views(rows)
        if augment is not None and augment.flip:
            flip(pixels, rows, self.seed, epoch)
        return pixels.pin_memory() if self.device.type == "cuda" else pixels

    def _views(self, rows: NDArray[np.int64]) -> Tensor:
        if self._resident is not None:
            chosen = self._resident.permute(0, 2, 3, 1).index_select(0, torch.from_numpy(rows))
            return chosen.permute(0, 3, 1, 2)
        pixels = self._empty(len(rows))
        for place, row in enumerate(rows):
            pixels[place] = view(self.dataset.store.picture(int(row)), self.preprocessing)
        return pixels

    def _empty(self, n: int) -> Tensor:
        size = self.preprocessing.size
        return torch.empty(n, size, size, self.dataset.channels, dtype=torch.uint8).permute(0, 3, 1, 2)

    def _finish(self, epoch: int, rows: NDArray[np.int64], pixels: Tensor) -> Batch:
        """8 bits -> float on the device, with the changes that are done batch by batch."""
        indices = torch.from_numpy(rows)
        pixels = pixels.to(self.device, non_blocking=True)
        if self.noise is not None:
            return self._pair(epoch, rows, pixels, self.noise)
        targets = self._labels[indices].to(self.device, non_blocking=True)
        if self.augment is None:
            images = normalise(pixels, self.preprocessing, dtype=self.dtype, memory_format=self.memory_format)
            return Batch(images, targets, indices)
        images = to_float(
            pixels, rows, self.seed, epoch, self.augment, self.preprocessing,
            dtype=self.dtype, memory_format=self.memory_format,
        )  # fmt: skip
        if self.augment.mixup or self.augment.cutmix:
            images, targets = mix(
                images, targets, rows, self.seed, epoch,
                mixup=self.augment.mixup, cutmix=self.augment.cutmix, num_classes=self.num_classes,
            )  # fmt: skip
        return Batch(images, targets, indices)

    def _pair(self, epoch: int, rows: NDArray[np.int64], pixels: Tensor, noise: Noise) -> Batch:
        """The pictures made worse, and the pictures; where they are drawn from their values, these twice."""
        if self.augment is not None and self.augment.changes_colour:
            values = changed(pixels, rows, self.seed, epoch, self.augment)
        else:
            values = pixels.to(torch.float32, memory_format=self.memory_format)
        worse = corrupt(values, rows, self.seed, epoch, noise)
        images = normalise(worse, self.preprocessing, dtype=self.dtype, memory_format=self.memory_format)
        targets = worse if noise.kind == "binary" else values
        return Batch(images, targets / 255, torch.from_numpy(rows))
