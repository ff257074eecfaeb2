"""Random changes of training pictures. Every number is keyed by (seed, epoch, row): a picture's change does not
depend on the batch it sits in, on batch size, on threads, or on what was drawn before. (MixUp and CutMix need a
partner, which depends on the rows of the batch: mixing.py.)

Crops happen per picture on 8 bits (crops.py), before the batch exists; the rest happens here, on the whole batch:

    uint8   flip
    0..255  rotation, colour, noise
    float   normalisation, erasing, MixUp and CutMix
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from neocog.core import seeding
from neocog.core.spec import Preprocessing
from neocog.data.preprocess import normalise, normalise_into, parts

Rows = NDArray[np.int64]
LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as in decoding
ERASED_AREA = (0.02, 1 / 3)  # Zhong et al., "Random Erasing Data Augmentation", AAAI 2020, arXiv:1708.04896
ERASED_ASPECT = (0.3, 3.3)


@dataclass(frozen=True)
class Augment:
    """`crop_pad`: pixels. `crop_scale`: smallest share of the area. `rotation`: largest angle in degrees, either
    way. `colour`: brightness, contrast and saturation factors in 1 - colour .. 1 + colour. `noise`: standard
    deviation on the 0..1 scale. `erasing`: probability. `mixup`, `cutmix`: alpha, 0 is off."""

    crop: Literal["none", "padded", "resized"] = "none"
    crop_pad: int = 4
    crop_scale: float = 0.35
    flip: bool = False
    rotation: float = 0.0
    colour: float = 0.0
    noise: float = 0.0
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    @property
    def changes_colour(self) -> bool:
        """Whether values change that crops and flips only move."""
        return bool(self.rotation or self.colour or self.noise)


def flip(pixels: Tensor, rows: Rows, seed: int, epoch: int) -> Tensor:
    """uint8 (B, C, S, S) in channels_last memory: every second picture mirrored left and right, in place."""
    mirrored = np.flatnonzero(seeding.uniform(seed, epoch, rows, "flip")[:, 0] < 0.5)
    memory = pixels.permute(0, 2, 3, 1)
    if memory[:1].numel() <= 4096:  # small pictures: few calls; large ones: PyTorch is 20 times faster one by one
        chosen = torch.from_numpy(mirrored)
        memory.index_copy_(0, chosen, memory.index_select(0, chosen).flip(2))
    else:
        for place in mirrored.tolist():
            memory[place] = memory[place].flip(1)
    return pixels


def to_float(
    pixels: Tensor, rows: Rows, seed: int, epoch: int, augment: Augment, preprocessing: Preprocessing, *,
    dtype: torch.dtype, memory_format: torch.memory_format,
) -> Tensor:  # fmt: skip
    """uint8 (B, C, S, S) -> changed and normalised float (B, C, S, S), everything but the mixing."""
    if not augment.changes_colour:
        images = normalise(pixels, preprocessing, dtype=dtype, memory_format=memory_format)
    else:
        images = torch.empty(pixels.shape, dtype=dtype, device=pixels.device, memory_format=memory_format)
        for part in parts(pixels):
            values = changed(pixels[part], rows[part], seed, epoch, augment)
            normalise_into(images[part], values, preprocessing)
    if augment.erasing:
        images.masked_fill_(rectangles(images, seeding.uniform(seed, epoch, rows, "erasing", 5), augment.erasing), 0)
    return images


def changed(pixels: Tensor, rows: Rows, seed: int, epoch: int, augment: Augment) -> Tensor:
    """uint8 (B, C, S, S) -> float (B, C, S, S), still on the 0..255 scale."""
    values = pixels.contiguous().to(torch.float32)
    if augment.rotation:
        values = rotate(values, seeding.uniform(seed, epoch, rows, "rotation")[:, 0], augment.rotation)
    if augment.colour:
        values = recolour(values, pixels, seeding.uniform(seed, epoch, rows, "colour", 3), augment.colour)
    if augment.noise:
        values.add_(gaussian(values, rows, seed, epoch), alpha=255 * augment.noise)
    return values


def rotate(values: Tensor, luck: NDArray[np.float64], degrees: float) -> Tensor:
    """(B, C, S, S) float turned about the centre by -degrees..degrees, bilinear; corners are filled by mirroring."""
    size = values.shape[-1]
    angle = torch.from_numpy(((2 * luck - 1) * np.deg2rad(degrees)).astype(np.float32)).to(values.device)
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    line = (2 * torch.arange(size, device=values.device, dtype=torch.float32) + 1) / size - 1
    y, x = line[None, :, None], line[None, None, :]
    grid = torch.stack([cos * x + sin * y, cos * y - sin * x], dim=-1)  # (B, S, S, 2), where each pixel comes from
    return F.grid_sample(values, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def recolour(values: Tensor, pixels: Tensor, luck: NDArray[np.float64], strength: float) -> Tensor:
    """Brightness, contrast (towards the picture's mean grey), saturation (towards each pixel's grey), in this order,
    joined into one linear map per picture and cut to 0..255 once at the end. Bands that are no colours have no
    saturation: they change alike, and their grey is their mean.

    values (B, C, S, S) 0..255 float, pixels the same as uint8 before rotation, luck (B, 3).
    """
    factors = torch.from_numpy((1 + strength * (2 * luck - 1)).astype(np.float32)).to(values.device)
    brightness, contrast, saturation = (factors[:, i, None, None] for i in range(3))  # (B, 1, 1)
    bands = values.shape[1]
    weights = torch.tensor(LUMA if bands == 3 else (1 / bands,) * bands, device=values.device)
    if bands != 3:
        saturation = torch.ones_like(saturation)
    gain = brightness * contrast
    own = torch.eye(bands, device=values.device)
    matrix = gain * (saturation * own + (1 - saturation) * weights)  # (B, C, C)
    shift = (1 - contrast) * brightness * (_mean(pixels) @ weights)[:, None, None]
    return torch.baddbmm(shift, matrix, values.flatten(2)).view_as(values).clamp_(0, 255)


def _mean(pixels: Tensor) -> Tensor:
    """(B, C) over every n-th row of large pictures. Sums of whole numbers in float64 are exact, so a picture's
    mean does not depend on the batch around it."""
    some = pixels[:, :, :: max(1, pixels.shape[2] // 56)]
    return some.mean(dim=(2, 3), dtype=torch.float64).float()


def gaussian(values: Tensor, rows: Rows, seed: int, epoch: int) -> Tensor:
    """Standard normal numbers in the shape of (B, C, S, S), from one generator per picture."""
    noise = torch.empty_like(values)
    generator = torch.Generator(device=values.device)
    for place, key in enumerate(seeding.keys(seed, epoch, rows, "noise")):
        generator.manual_seed(int(key >> np.uint64(1)))
        noise[place].normal_(generator=generator)
    return noise


def rectangles(images: Tensor, luck: NDArray[np.float64], probability: float) -> Tensor:
    """(B, 1, S, S) bool: the rectangle that is erased from each picture, with the given probability, else nothing."""
    height, width = images.shape[2:]
    area = (ERASED_AREA[0] + (ERASED_AREA[1] - ERASED_AREA[0]) * luck[:, 1]) * height * width
    aspect = ERASED_ASPECT[0] * (ERASED_ASPECT[1] / ERASED_ASPECT[0]) ** luck[:, 2]
    h = np.clip(np.rint(np.sqrt(area * aspect)), 1, height) * (luck[:, 0] < probability)
    w = np.clip(np.rint(np.sqrt(area / aspect)), 1, width)
    top, left = np.floor(luck[:, 3] * (height - h + 1)), np.floor(luck[:, 4] * (width - w + 1))
    first_row, last_row, first, last = (
        torch.from_numpy(edge).to(images.device)[:, None, None, None] for edge in (top, top + h, left, left + w)
    )
    y = torch.arange(height, device=images.device)[None, None, :, None]
    x = torch.arange(width, device=images.device)[None, None, None, :]
    return (y >= first_row) & (y < last_row) & (x >= first) & (x < last)
