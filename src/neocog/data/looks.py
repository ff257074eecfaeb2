"""What a picture looks like, in 66 bytes: how dark, how light, how sharp, and a signature that survives re-encoding.

The signature is the perceptual hash of Zauner's "pHash" (2010) kept as numbers instead of signs: the 8 x 8 lowest
frequencies of the discrete cosine transform of a 32 x 32 grey thumbnail, without its mean and scaled to length one, so
that brightness and contrast fall out. Distances between signatures are then true distances between thumbnails, which
a search can bound (near.py). Large pictures are sampled, not averaged, on the way to the thumbnail: it must cost little
beside decoding.
"""

import base64
import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SIDE = 32  # of the thumbnail
SAMPLED = 96  # pixels on the short side that are looked at, at least
FLAT = 2.0  # grey levels: a thumbnail that varies less has no signature and no sharpness
LOOK = np.dtype([("darkest", "u1"), ("lightest", "u1"), ("sharpness", "u1"), ("signature", "i1", 63)])
UNKNOWN = 255  # sharpness of a flat picture
_STEPS, _LOWEST = 14.0, -14.0  # sharpness is stored as round(_STEPS * (log - _LOWEST))

Floats = NDArray[np.float32]


def looks(pixels: NDArray[np.uint8]) -> list[str]:
    """uint8 (N, H, W, C) -> one text of 88 ASCII characters per picture, which `unpack` reads."""
    step = max(1, min(pixels.shape[1:3]) // SAMPLED)
    grey = _grey(pixels[:, ::step, ::step])
    thumbnails = (_area(grey.shape[1]) @ grey @ _area(grey.shape[2]).T).reshape(len(pixels), -1).astype(np.float32)
    mean = thumbnails.sum(axis=1) / SIDE**2
    length = np.sqrt(np.maximum(_squares(thumbnails) - SIDE**2 * mean**2, 1))
    varied = length > FLAT * SIDE
    table = np.empty(len(pixels), LOOK)
    table["darkest"] = np.rint(thumbnails.min(axis=1))
    table["lightest"] = np.rint(thumbnails.max(axis=1))
    # In double precision: what is rounded then does not depend on how many pictures are multiplied at once.
    exact = thumbnails.astype(np.float64) @ _frequencies().astype(np.float64)
    table["signature"] = np.rint(exact * np.where(varied, 127 / length, 0)[:, None])
    table["sharpness"] = np.where(varied, _sharpness(grey), UNKNOWN)
    return [base64.b64encode(row.tobytes()).decode("ascii") for row in table]


def unpack(packed: Sequence[str]) -> NDArray[np.void]:
    """The texts of `looks` -> a table of dtype LOOK; an empty text is a picture of which nothing is known."""
    nothing = base64.b64encode(bytes(2) + bytes([UNKNOWN]) + bytes(63)).decode("ascii")
    return np.frombuffer(base64.b64decode("".join(text or nothing for text in packed)), LOOK)


def log_sharpness(stored: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The natural logarithm of the share of fine detail, NaN where it is unknown."""
    return np.where(stored == UNKNOWN, np.nan, stored / _STEPS + _LOWEST)


def one_colour(pixels: NDArray[np.uint8], tolerance: int = 8) -> bool:
    """Whether no channel of (H, W, C) varies by more than `tolerance`, which leaves room for the noise of JPEG."""
    height, width, channels = pixels.shape
    centre = pixels[height // 2, width // 2].tolist()
    for row, column in ((0, 0), (height // 3, width // 3), (-1, -1), (height // 2, 0), (0, width // 2)):
        if any(abs(a - b) > tolerance for a, b in zip(pixels[row, column].tolist(), centre, strict=True)):
            return False  # as most pictures show at once
    flat = pixels.reshape(-1, channels)
    return bool((flat.max(axis=0).astype(int) - flat.min(axis=0)).max() <= tolerance)


def _grey(pixels: NDArray[np.uint8]) -> Floats:
    """ITU-R 601 luma of (N, H, W, C), rounded down; of other bands than colours, their mean."""
    if pixels.shape[3] == 1:
        return pixels[..., 0].astype(np.float32)
    if pixels.shape[3] != 3:
        mean: Floats = np.floor(pixels.mean(axis=3, dtype=np.float32))
        return mean
    grey = pixels[..., 1] * np.uint16(150)
    grey += pixels[..., 0] * np.uint16(77)
    grey += pixels[..., 2] * np.uint16(29)
    grey >>= 8
    return grey.astype(np.float32)


def _sharpness(grey: Floats) -> Floats:
    """The variance of the Laplacian over that of the picture: the share of fine detail, whatever the contrast."""
    count, height, width = grey.shape
    if min(height, width) < 3:
        return np.full(count, UNKNOWN, np.float32)
    laplacian = 4 * grey[:, 1:-1, 1:-1]
    laplacian -= grey[:, :-2, 1:-1]
    laplacian -= grey[:, 2:, 1:-1]
    laplacian -= grey[:, 1:-1, :-2]
    laplacian -= grey[:, 1:-1, 2:]
    flat = grey.reshape(count, -1)
    mean = flat.sum(axis=1) / flat.shape[1]
    variance = np.maximum(_squares(flat) / flat.shape[1] - mean**2, 1e-3)
    share = _squares(laplacian.reshape(count, -1)) / ((height - 2) * (width - 2)) / variance
    stored: Floats = np.rint(_STEPS * (np.log(np.maximum(share, 1e-6)) - _LOWEST)).clip(0, UNKNOWN - 1)
    return stored


def _squares(rows: Floats) -> Floats:
    """(N, M) -> (N,): sums of squares."""
    squares: Floats = np.einsum("ij,ij->i", rows, rows)
    return squares


@functools.lru_cache(maxsize=512)
def _area(size: int) -> Floats:
    """(SIDE, size): means over SIDE equal parts of a line of `size` pixels."""
    edges = np.linspace(0, size, SIDE + 1)
    pixel = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    overlap = np.maximum(overlap, 0)
    means: Floats = (overlap / overlap.sum(axis=1, keepdims=True)).astype(np.float32)
    return means


@functools.cache
def cosines() -> Floats:
    """(8, SIDE): the lowest rows of the orthonormal DCT-II."""
    rows = np.cos(np.pi * (np.arange(SIDE) + 0.5) * np.arange(8)[:, None] / SIDE) * np.sqrt(2 / SIDE)
    rows[0] /= np.sqrt(2)
    basis: Floats = rows.astype(np.float32)
    return basis


@functools.cache
def _frequencies() -> Floats:
    """(SIDE², 63): a thumbnail's pixels times this are its low frequencies, without the mean."""
    basis = cosines()
    return np.ascontiguousarray(np.einsum("ky,lx->yxkl", basis, basis).reshape(SIDE**2, 64)[:, 1:])
