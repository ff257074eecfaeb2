"""Are two pictures one picture? What is left of one when the other is moved, zoomed, brightened and taken away.

Two thumbnails are registered by least squares (Lucas and Kanade 1981): one is explained by the other, its gradients
(shift and zoom) and a constant. A copy that was re-encoded, resized, brightened or cropped by a few per cent leaves
about a hundredth of its variance unexplained; different pictures of like things leave many times that.

NumPy and not torch: many operations on little data, which threads that wait for each other would slow down.
"""

from functools import cache

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from neocog.data.looks import cosines

SIDE = 32
CELLS = 8  # along a side: parts of a picture that must all be explained
NOISE = 12.0  # variance of grey levels, after smoothing, that re-encoding may add
PART = 32  # pairs at a time, whose columns stay in a core's cache
LARGEST = 0.2  # shift or zoom, as a share of half the picture
STEP = 0.12  # in one iteration, where the gradients still tell the truth

Floats = NDArray[np.float32]


def thumbnail(picture: Tensor) -> tuple[Floats, Floats]:
    """uint8 (C, H, W) -> grey (SIDE, SIDE), and the colour without brightness: red and blue minus green (2, 4, 4); of
    other bands than colours their mean, and each band minus it (C, 4, 4)."""
    small = F.interpolate(picture[None], size=(SIDE, SIDE), mode="bilinear", antialias=True)[0].numpy()
    if small.shape[0] == 1:
        return small[0].astype(np.float32), np.zeros((2, 4, 4), np.float32)
    if small.shape[0] != 3:
        values = small.astype(np.float32)
        mean = values.mean(axis=0)
        return mean, (values - mean).reshape(-1, 4, SIDE // 4, 4, SIDE // 4).mean(axis=(2, 4))
    red, green, blue = small.astype(np.float32)
    coarse = np.stack([red - green, blue - green]).reshape(2, 4, SIDE // 4, 4, SIDE // 4).mean(axis=(2, 4))
    return red * np.float32(0.299) + green * np.float32(0.587) + blue * np.float32(0.114), coarse


def unexplained(first: Floats, second: Floats, limit: float, iterations: int = 2) -> tuple[Floats, Floats]:
    """(N, S, S) twice -> (N,) twice: the share of the variance of either that the other does not explain, 0..1, and the
    mean of that share over the parts of the picture. Beyond `limit` both may be of one direction only."""
    first, second = _smooth(first), _smooth(second)
    left = np.ones((2, len(first)), np.float32)
    for start in range(0, len(first), PART):
        a, b = first[start : start + PART], second[start : start + PART]
        part = left[:, start : start + PART]
        part[:] = _register(a, b, iterations)
        close = part[0] < limit
        if close.any():
            part[:, close] = np.maximum(part[:, close], _register(b[close], a[close], iterations))
    return left[0], left[1]


def unmoved(first: Floats, second: Floats) -> Floats:
    """Signatures (N, 63) of two pictures -> (N,): what of the second's length, one, is explained neither by the first
    nor by its shifting and zooming a little."""
    columns = (first @ _motions()).reshape(-1, 5, 63)
    columns = columns / np.maximum(np.sqrt((columns**2).sum(axis=2, keepdims=True)), 1e-6)
    gram = columns @ columns.transpose(0, 2, 1) + np.float32(1e-4) * np.eye(5, dtype=np.float32)
    weights = np.linalg.solve(gram, columns @ second[..., None])
    left: Floats = ((second[..., None] - columns.transpose(0, 2, 1) @ weights) ** 2).sum(axis=(1, 2))
    return left


@cache
def _motions() -> Floats:
    """(63, 5 * 63): a signature times this is itself and its changes with a shift along x and y and a zoom along x
    and y."""
    basis = cosines()
    each = np.pad(np.eye(63, dtype=np.float32), ((0, 0), (1, 0))).reshape(63, 8, 8)
    pictures = basis.T @ each @ basis
    along_x, along_y = np.gradient(pictures, axis=2), np.gradient(pictures, axis=1)
    changed = np.stack(
        [pictures, along_x, along_y, along_x * _centres(SIDE), along_y * _centres(SIDE)[:, None]], axis=1
    )
    motions: Floats = (basis @ changed @ basis.T).reshape(63, 5, 64)[..., 1:].reshape(63, 5 * 63)
    return motions


def same_colours(first: Floats, second: Floats) -> NDArray[np.bool_]:
    """(N, 2 or C, 4, 4) twice -> (N,): a red shirt and the same shirt in blue are two pictures."""
    apart = np.abs(first - second).mean(axis=(1, 2, 3))
    strength = np.maximum(np.abs(first), np.abs(second)).mean(axis=(1, 2, 3))
    same: NDArray[np.bool_] = apart < 6 + strength / 4
    return same


def _smooth(pictures: Floats) -> Floats:
    """(1, 2, 1) / 4 along both sides: gradients of single pixels are noise."""
    padded = np.pad(pictures, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    smoothed: Floats = (rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) / np.float32(16)
    return smoothed


def _register(moved: Floats, fixed: Floats, iterations: int) -> tuple[Floats, Floats]:
    n, side = fixed.shape[:2]
    centres = _centres(side)
    motion = np.zeros((n, 4, 1), np.float32)  # shift along x and y, zoom along x and y
    best, local = np.ones(n, np.float32), np.ones(n, np.float32)
    for iteration in range(iterations):
        at_x, at_y = centres + motion[:, 0] + motion[:, 2] * centres, centres + motion[:, 1] + motion[:, 3] * centres
        warped = _between(at_y) @ moved @ _between(at_x).transpose(0, 2, 1) if iteration else moved
        seen = _inside(at_y)[:, :, None] * _inside(at_x)[:, None]
        columns = np.zeros((n, 5, side, side), np.float32)
        columns[:, 0] = warped
        columns[:, 1, :, 1:-1] = (warped[:, :, 2:] - warped[:, :, :-2]) * (side / 4)
        columns[:, 2, 1:-1] = (warped[:, 2:] - warped[:, :-2]) * (side / 4)
        np.multiply(columns[:, 1], centres, out=columns[:, 3])
        np.multiply(columns[:, 2], centres[:, None], out=columns[:, 4])
        flat, target = _centred(columns, seen[:, None]), _centred(fixed[:, None], seen[:, None])
        gram, product = flat @ flat.transpose(0, 2, 1), flat @ target.transpose(0, 2, 1)
        length = np.maximum(np.sqrt(gram.diagonal(axis1=1, axis2=2)), 1e-3)[..., None]
        # The ridge: a picture of stripes has gradients that are zero, or alike.
        gram = gram / (length * length.transpose(0, 2, 1)) + np.float32(1e-5) * np.eye(5, dtype=np.float32)
        weights = np.linalg.solve(gram, product / length) / length
        rest = target - weights.transpose(0, 2, 1) @ flat
        left = (rest**2).sum(axis=(1, 2)) / np.maximum((target**2).sum(axis=(1, 2)), 1e-3)
        gain = weights[:, 0, 0]
        better = (left < best) & (gain > 0.3)  # the picture, not its negative
        best = np.where(better, left, best)
        local = np.where(better, _by_cells(rest, target, side), local)
        step = (weights[:, 1:] / np.maximum(gain, 0.3)[:, None, None]).clip(-STEP, STEP)
        motion = (motion + step).clip(-LARGEST, LARGEST)
    return best, local


def _by_cells(rest: Floats, target: Floats, side: int) -> Floats:
    """(N, 1, side²) twice -> (N,): what is left in each cell that shows anything, as a share of the cell's variance,
    averaged. Two shirts on one carpet differ little in all, and completely in the cells that show the cloth."""
    shape = (len(rest), CELLS, side // CELLS, CELLS, side // CELLS)
    variance = target.reshape(shape).var(axis=(2, 4))
    share = ((rest.reshape(shape) ** 2).mean(axis=(2, 4)) / (variance + NOISE)).clip(0, 1)
    shows = variance > NOISE
    mean: Floats = (share * shows).sum(axis=(1, 2)) / np.maximum(shows.sum(axis=(1, 2)), 1)
    return mean


@cache
def _centres(side: int) -> Floats:
    return np.linspace(-1 + 1 / side, 1 - 1 / side, side, dtype=np.float32)


def _inside(places: Floats) -> Floats:
    """(N, side): 1 where a line of places lies in the picture and has neighbours, else 0."""
    inside = (np.abs(places) <= 1).astype(np.float32)
    inside[:, [0, -1]] = 0
    return inside


def _between(places: Floats) -> Floats:
    """(N, side) in -1..1 -> (N, side, side): the weights of linear interpolation at these places."""
    side = places.shape[1]
    pixels = ((places + 1) * (side / 2) - 0.5).clip(0, side - 1)
    weights: Floats = np.maximum(0, 1 - np.abs(pixels[..., None] - np.arange(side, dtype=np.float32)))
    return weights


def _centred(columns: Floats, seen: Floats) -> Floats:
    """(N, P, side, side) -> (N, P, side²): without their means over what is seen, and 0 elsewhere."""
    columns = columns * seen
    mean = columns.sum(axis=(2, 3), keepdims=True) / seen.sum(axis=(2, 3), keepdims=True)
    centred: Floats = (columns - mean * seen).reshape(*columns.shape[:2], -1)
    return centred
