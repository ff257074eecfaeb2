"""Folders of small pictures that a small network can tell apart, drawn with noise from a seed."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def colours(
    folder: Path, number: int, *, names: Sequence[str] = ("blue", "green", "red"), noise: int = 90, tint: int = 120,
    seed: int = 0,
) -> Path:  # fmt: skip
    """`number` pictures of 16 x 16 for each of three classes, noise up to `noise` with one channel `tint` lighter."""
    draw = np.random.default_rng(seed)
    for channel, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for i in range(number):
            pixels = draw.integers(0, noise, (16, 16, 3), np.uint8)
            pixels[..., 2 - channel] += tint
            Image.fromarray(pixels).save(folder / name / f"{i:02}.png")
    return folder


def steps(
    folder: Path, numbers: Mapping[str, int], *, shape: tuple[int, ...] = (16, 16, 3), noise: int = 120, step: int = 45
) -> Path:
    """So many pictures of each class, noise up to `noise`, each class `step` lighter than the one before."""
    draw = np.random.default_rng(0)
    for place, (name, number) in enumerate(numbers.items()):
        (folder / name).mkdir(parents=True)
        for i in range(number):
            pixels = draw.integers(0, noise, shape) + step * place
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i}.png")
    return folder
