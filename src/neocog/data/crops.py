"""Where a training picture is looked at: random crops, on 8-bit pixels, one picture's luck at a time.

padded    the evaluation view, shifted by up to `crop_pad` pixels; what comes in at the edge is mirrored
resized   a random part of the picture, of random area and aspect, resized to the input (Szegedy et al. 2015)
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from neocog.core import seeding
from neocog.data.preprocess import limit_aspect, resize_to

Bytes = NDArray[np.uint8]
ASPECT = (3 / 4, 4 / 3)  # of a resized crop, as in Szegedy et al., "Going Deeper with Convolutions", 2015


def pad_mirrored(batch: Bytes, pad: int) -> Bytes:
    """(B, S, S, C) -> (B, S + 2 pad, S + 2 pad, C), mirrored at the edges without repeating the edge itself."""
    size = batch.shape[1]
    index = np.abs(np.arange(-pad, size + pad))
    index = np.clip(size - 1 - np.abs(size - 1 - index), 0, size - 1)  # clipped: a pad wider than the picture
    padded = np.empty((len(batch), size + 2 * pad, size + 2 * pad, batch.shape[3]), np.uint8)
    padded[:, pad : pad + size, pad : pad + size] = batch
    edge = [*range(pad), *range(pad + size, 2 * pad + size)]
    for row in edge:
        padded[:, row, pad : pad + size] = batch[:, index[row]]
    for column in edge:
        padded[:, :, column] = padded[:, :, pad + index[column]]
    return padded


def shifted(padded: Bytes, positions: NDArray[np.int64], size: int, shifts: NDArray[np.int64]) -> Bytes:
    """(N, W, W, C), (B,), (B, 2) -> (B, size, size, C): picture positions[i] from row and column shifts[i] on."""
    n, width, _, channels = padded.shape
    room = width - size + 1
    padded = np.ascontiguousarray(padded)
    by_picture, by_row, by_pixel, by_byte = padded.strides
    # All crops exist as views of the same memory; the index copies those that are wanted.
    crops = np.lib.stride_tricks.as_strided(
        padded,
        (n, room, room, size, size * channels),
        (by_picture, by_row, by_pixel, by_row, by_byte),
        writeable=False,
    )
    return crops[positions, shifts[:, 0], shifts[:, 1]].reshape(-1, size, size, channels)


def random_shifts(seed: int, epoch: int, rows: NDArray[np.int64], pad: int) -> NDArray[np.int64]:
    """(B, 2) whole numbers in 0..2 pad; pad means not shifted."""
    return (seeding.uniform(seed, epoch, rows, "shift", 2) * (2 * pad + 1)).astype(np.int64)


def resized_crop(picture: Tensor, luck: NDArray[np.float64], smallest: float, size: int, interpolation: str) -> Tensor:
    """uint8 (C, H, W), four numbers in [0, 1) -> (C, size, size). `smallest`: of the picture's area.

    The box is cut down to the picture where its aspect does not fit, instead of drawn again.
    """
    picture = limit_aspect(picture[None])
    height, width = picture.shape[2:]
    area = height * width * (smallest + (1 - smallest) * luck[0])
    aspect = ASPECT[0] * (ASPECT[1] / ASPECT[0]) ** luck[1]
    h = min(height, max(1, round((area / aspect) ** 0.5)))
    w = min(width, max(1, round((area * aspect) ** 0.5)))
    top, left = int(luck[2] * (height - h + 1)), int(luck[3] * (width - w + 1))
    return resize_to(picture[..., top : top + h, left : left + w], (size, size), interpolation)[0]
