"""Pictures for prediction: any number of files, a few batches in memory."""

from collections.abc import Iterable, Iterator
from pathlib import Path

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


def stream(
    paths: Iterable[Path], options: DecodeOptions, preprocessing: Preprocessing, batch_size: int, threads: int = 0
) -> Iterator[tuple[list[Path], Tensor, list[tuple[Path, BadPicture]]]]:
    """Batches in order: the good files, their evaluation views uint8 (B, C, S, S), and the bad files among them.

    At most `batch_size` good and `batch_size` bad files per batch; memory does not grow with the number of files.
    """

    def load(path: Path) -> tuple[Path, Tensor | BadPicture]:
        try:
            pixels = torch.from_numpy(decode(path, options).pixels)
        except BadPicture as error:
            return path, error
        return path, view(pixels.permute(2, 0, 1), preprocessing)

    good: list[Path] = []
    views: list[Tensor] = []
    bad: list[tuple[Path, BadPicture]] = []
    empty = torch.empty(0, options.channels, preprocessing.size, preprocessing.size, dtype=torch.uint8)
    for path, result in ordered_map(load, paths, threads=threads):
        if isinstance(result, BadPicture):
            bad.append((path, result))
        else:
            good.append(path)
            views.append(result)
        if batch_size in (len(good), len(bad)):
            yield good, torch.stack(views) if views else empty, bad
            good, views, bad = [], [], []
    if good or bad:
        yield good, torch.stack(views) if views else empty, bad
