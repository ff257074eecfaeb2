"""Pictures for prediction: any number of files, a few batches in memory."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from neocog.core.spec import Preprocessing
from neocog.data.bad_picture import BadPicture
from neocog.data.decode import DecodeOptions, decode
from neocog.data.folders import Walk
from neocog.data.preprocess import view
from neocog.data.threads import ordered_map


def find_pictures(arguments: Iterable[str | Path]) -> Iterator[Path]:
    """Files as they are given, whatever they are called; folders with all pictures below them, by name, without
    hidden files and links. Nothing is listed before it is asked for, but one folder at a time."""
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            yield from Walk(path).pictures(path)
        else:
            yield path  # a missing file is reported when it is read


class Views(NamedTuple):
    """The good files of a batch, what evaluation sees of them, their own sizes, and the bad files among them."""

    files: list[Path]
    pixels: Tensor  # uint8 (B, C, S, S)
    sizes: list[tuple[int, int]]  # (height, width), turned upright
    bad: list[tuple[Path, BadPicture]]


def stream(
    paths: Iterable[Path], options: DecodeOptions, preprocessing: Preprocessing, batch_size: int, threads: int = 0
) -> Iterator[Views]:
    """Batches in order.

    At most `batch_size` good and `batch_size` bad files per batch; memory does not grow with the number of files.
    """

    def load(path: Path) -> tuple[Path, tuple[Tensor, tuple[int, int]] | BadPicture]:
        try:
            pixels = torch.from_numpy(decode(path, options).pixels)
        except BadPicture as error:
            return path, error
        return path, (view(pixels.permute(2, 0, 1), preprocessing), (pixels.shape[0], pixels.shape[1]))

    good: list[Path] = []
    views: list[Tensor] = []
    sizes: list[tuple[int, int]] = []
    bad: list[tuple[Path, BadPicture]] = []
    empty = torch.empty(0, options.channels, preprocessing.size, preprocessing.size, dtype=torch.uint8)
    for path, result in ordered_map(load, paths, threads=threads):
        if isinstance(result, BadPicture):
            bad.append((path, result))
        else:
            good.append(path)
            views.append(result[0])
            sizes.append(result[1])
        if batch_size in (len(good), len(bad)):
            yield Views(good, torch.stack(views) if views else empty, sizes, bad)
            good, views, sizes, bad = [], [], [], []
    if good or bad:
        yield Views(good, torch.stack(views) if views else empty, sizes, bad)
