"""Vectors of pictures on a plane, as reports, `neocog explain` and `neocog embed --picture` draw them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from neocog import report
from neocog.core.errors import UsageError
from neocog.core.words import counted
from neocog.data.source import SPLITS

Method = Literal["pca", "tsne"]
Axes = tuple[str, str]  # what the plane's right and its up mean

FEW = 3


def on_plane(vectors: NDArray[np.float32], method: Method = "pca") -> tuple[NDArray[np.float64], Axes]:
    """(N, D) -> (N, 2), and its axes. By PCA vectors of two numbers stay as they are, of one number lie on a line."""
    numbers = vectors.astype(np.float64)
    if method == "tsne":
        from sklearn.manifold import TSNE

        points = TSNE(random_state=0, perplexity=min(30, (len(numbers) - 1) / 3)).fit_transform(numbers)
        return points, ("t-SNE: the axes and far distances mean nothing, who is near whom does", "")
    if numbers.shape[1] == 2:
        return numbers, ("number 0", "number 1")
    if numbers.shape[1] < 2 or len(numbers) < FEW or not np.ptp(numbers, axis=0).any():
        return np.pad(numbers[:, :1], ((0, 0), (0, 1))), ("number 0", "nothing")
    from sklearn.decomposition import PCA

    pca = PCA(2, random_state=0)
    points = pca.fit_transform(numbers)
    right, up = (
        f"component {i} ({share:.0%} of the variance)" for i, share in enumerate(pca.explained_variance_ratio_, 1)
    )
    return points, (right, up)


def map_of(vectors: NDArray[np.float32], labels: Sequence[str], method: Method, title: str) -> bytes:
    """A PNG of (N, D) vectors, each coloured by its label. UsageError where there are fewer than FEW."""
    if len(vectors) < FEW:
        cause = f"{counted(len(vectors), 'vector makes', 'vectors make')} no map"
        raise UsageError(cause, f"give at least {FEW} pictures")
    points, axes = on_plane(vectors, method)
    return report.scatter_picture(report.Scatter(tuple((float(x), float(y)) for x, y in points), tuple(labels), axes),
                                  title)  # fmt: skip


def labels_of(files: Iterable[Path], given: Iterable[str | Path]) -> list[str]:
    """The class of each of the files that were found in what was given, by its folder as `neocog train` reads it: the
    first one below a folder that was given (train, val and test passed over), else the one that it lies in."""
    folders = [path for path in map(Path, given) if path.is_dir()]
    labels = []
    for file in files:
        root = next((folder for folder in folders if folder in file.parents), file.parent)
        names = file.relative_to(root).parts[:-1]
        names = names[1:] if len(names) > 1 and names[0].lower() in SPLITS else names
        labels.append(names[0] if names else file.resolve().parent.name)
    return labels
