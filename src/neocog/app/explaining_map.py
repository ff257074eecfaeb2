"""The test pictures on a plane: near each other is what the classifier can hardly tell apart."""

import numpy as np
import torch
from numpy.typing import NDArray

from neocog import report
from neocog.app.explaining_training import chosen, embeddings, passing
from neocog.app.opened import Opened
from neocog.app.pictures import thumbnail
from neocog.app.plane import FEW, Method, on_plane
from neocog.core.errors import DataError
from neocog.core.events import Events
from neocog.data.dataset import Dataset
from neocog.data.preprocess import denormalise
from neocog.explaining.taps import untouched

MAPPED = 600  # pictures
THUMBNAILS, CELLS, SIDE = 300, 20, 48  # at most; cells along a side, each of which has room for one; pixels
EDGE = 0.01  # of the pictures each way lie on the map's edge, so that a few far ones do not squeeze the others


def map_of(opened: Opened, data: Dataset, method: Method, events: Events) -> report.PictureMap | None:
    """None where fewer than FEW pictures were kept from training. DataError where they are not those of the run."""
    run, network = opened.run, opened.network
    split = "test" if len(data.rows("test")) else "val"
    rows = chosen(data.rows(split), MAPPED)
    if len(rows) < FEW:
        return None
    small: dict[int, bytes] = {}  # by row; the pictures themselves would fill hundreds of megabytes
    with untouched(network), torch.no_grad(), opened.precision(), embeddings(network) as vectors:
        for numbers, images in passing(opened, data, rows, events):
            network(images)
            shown = denormalise(images, run.card.preprocessing).cpu().clamp(0, 1)
            small |= {row: thumbnail(picture, SIDE) for row, picture in zip(numbers.tolist(), shown, strict=True)}
    points, (right, up) = on_plane(torch.cat(vectors).numpy(), method)
    axes = f"Right: {right}. Up: {up}." if up else f"{right}."
    known = run.predictions(split)
    answers = {file: known.classes[best] for file, best in zip(known.files, known.predicted, strict=True)}
    files = [data.files[row] for row in small]
    if strangers := [file for file in files if file not in answers]:
        cause = f"{strangers[0]} is no {split} picture of this run: the data have changed since then"
        raise DataError(cause, "bring them back, or `--no-training` makes the page without pictures")
    labels = [data.classes[data.labels[row]] for row in small]
    wrong = np.array([answers[file] != label for file, label in zip(files, labels, strict=True)])
    places, first = laid_out(points, wrong)
    spots = [
        report.Spot(x, y, file, label, answers[file], picture if with_picture else None)
        for (x, y), with_picture, file, label, picture in zip(
            places.tolist(), first.tolist(), files, labels, small.values(), strict=True
        )
    ]
    return report.PictureMap(method, axes, tuple(spots), split, len(data.rows(split)), CELLS)


def laid_out(points: NDArray[np.float64], wrong: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(N, 2) -> places from the left and the top, each 0..1, and which have a thumbnail. Of several in one cell the
    first has it, wrong answers before right ones, else by chance; a thumbnail stands in the middle of its cell."""
    low, high = np.quantile(points, [EDGE, 1 - EDGE], axis=0)
    places = ((points - low) / np.where(high > low, high - low, 1)).clip(0, 1)
    places[:, 1] = 1 - places[:, 1]
    cells = np.minimum((places * CELLS).astype(int), CELLS - 1)
    order = np.random.default_rng(0).permutation(len(points))
    order = order[np.argsort(~wrong[order], kind="stable")]
    _, earliest = np.unique(cells[order] @ (CELLS, 1), return_index=True)
    first = np.zeros(len(points), bool)
    first[order[np.sort(earliest)[:THUMBNAILS]]] = True
    return np.where(first[:, None], (cells + 0.5) / CELLS, places), first
