"""What is known about a trained autoencoder's codes: their distribution, and what they are good for beside pixels."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neocog.app.building import evaluation_loader, noise_of
from neocog.core.autoencoder import Autoencoder
from neocog.core.noise import Noise
from neocog.evaluate import evaluating

if TYPE_CHECKING:
    from neocog.app.session import Session

MOST = 5000  # training pictures that are looked at
VALUES = 40_000_000  # numbers of these pictures held at once
NEIGHBOURS = 5
Floats = NDArray[np.float32]


class Codes(NamedTuple):
    """Some training pictures: their rows in the data set, (N,), their codes, (N, D), as the network saw them, and they
    themselves, (N, P) in 0..1."""

    rows: NDArray[np.int64]
    codes: Floats
    pixels: Floats


def trained_codes(session: "Session") -> Codes:
    data = session.dataset
    rows = data.rows("train")
    values = session.loaded.network.in_channels * session.preprocessing.size**2
    number = max(1, min(MOST, len(rows), VALUES // values))
    chosen = rows[np.linspace(0, len(rows) - 1, number).astype(np.int64)]
    return codes_of(session, chosen)


def codes_of(session: "Session", rows: NDArray[np.int64]) -> Codes:
    """In the order of `rows`."""
    network = session.loaded.network
    assert isinstance(network, Autoencoder)
    loader = evaluation_loader(
        session.dataset, rows, session.preprocessing, session.machine, session.config.threads,
        noise=noise_of(session.config),
    )  # fmt: skip
    codes, pixels = [], []
    with evaluating(network), torch.inference_mode():
        for batch in loader.epoch(0):
            codes.append(network.encode(batch.images).flatten(1).float().cpu().numpy())
            pixels.append(batch.targets.flatten(1).cpu().numpy())
    return Codes(rows, np.concatenate(codes), np.concatenate(pixels))


@dataclass(frozen=True)
class Prior:
    """Where codes are drawn from: N(mean, root @ root.T), in the shape of a code."""

    mean: Tensor  # (D,)
    root: Tensor  # (D, D)
    shape: tuple[int, ...]

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, *shape)"""
        noise = torch.randn(n, len(self.mean), generator=generator)
        return (self.mean + noise @ self.root.T).view(-1, *self.shape)


def prior_of(network: Autoencoder, codes: Floats) -> Prior:
    """N(0, 1) for variational codes, which were trained for it; for others the normal distribution of their training
    codes, with all correlations."""
    d = codes.shape[1]
    if network.probabilistic:
        return Prior(torch.zeros(d), torch.eye(d), network.code_shape)
    mean = codes.mean(0)
    _, scale, axes = np.linalg.svd((codes - mean) / max(1.0, (len(codes) - 1) ** 0.5), full_matrices=False)
    root = np.zeros((d, d), np.float32)
    root[:, : len(scale)] = axes.T * scale
    return Prior(torch.from_numpy(mean), torch.from_numpy(root), network.code_shape)


def fan(codes: Tensor, steps: int, most: int = 4) -> Iterator[tuple[str, Tensor]]:
    """(what it is, (steps, D)) for the numbers of (N, D) codes that vary most: each from 2.5 standard deviations below
    its mean to 2.5 above, the others at their mean."""
    mean, deviation = codes.mean(0), codes.std(0)
    for number in deviation.argsort(descending=True, stable=True)[:most].tolist():
        line = mean.repeat(steps, 1)
        line[:, number] += deviation[number] * torch.linspace(-2.5, 2.5, steps)
        yield f"Number {number + 1} of the code, from low to high, the others at their mean", line


def nearest_rows(
    session: "Session", made: Tensor, rows: NDArray[np.int64]
) -> list[tuple[int, Tensor]]:  # fmt: skip
    """(row, picture) of the training picture of `rows` with the least squared difference from each made one."""
    known = torch.from_numpy(codes_of(session, rows).pixels)
    place = torch.cdist(made.flatten(1), known).argmin(1)
    return [(int(rows[i]), known[i].view_as(made[0])) for i in place.tolist()]


@dataclass(frozen=True)
class Baselines:
    """What the code is held against. `pca`: mean squared error of as many principal components as the code has numbers;
    `linear`, `neighbours`: accuracy of a linear and of a nearest-neighbour classifier on (codes, pixels)."""

    pca: float | None
    components: int
    linear: tuple[float, float] | None
    neighbours: tuple[float, float] | None
    pictures: int

    def lines(self) -> Iterator[tuple[str, str]]:
        if self.pca is not None:
            yield f"squared error of PCA with {self.components} components", f"{self.pca:.5f}"
        for name, found in (("linear", self.linear), (f"{NEIGHBOURS} nearest neighbours", self.neighbours)):
            if found is not None:
                how = f"{name}, learned from {self.pictures:,} labelled pictures: accuracy on codes, on pixels"
                yield how, f"{found[0]:.1%}, {found[1]:.1%}"


def baselines(session: "Session", codes: Floats, rows: NDArray[np.int64]) -> Baselines:
    """`codes`: (N, D) of the pictures of `rows`, which were kept from training."""
    train = trained_codes(session)
    kept = codes_of(session, rows[:MOST])
    labels = session.dataset.labels
    linear = neighbours = None
    if len(np.unique(labels[train.rows])) > 1:
        linear, neighbours = classified(train, kept, labels[train.rows], labels[kept.rows])
    components = min(codes.shape[1], *train.pixels.shape)
    pca = None
    if components < min(train.pixels.shape) and Noise.parse(session.config.noise or "none").kind == "none":
        pca = pca_error(train.pixels, kept.pixels, components)
    return Baselines(pca, components, linear, neighbours, len(train.rows))


def pca_error(train: Floats, kept: Floats, components: int) -> float:
    """The mean squared error of `kept` after the way through so many principal components of `train`, cut to 0..1."""
    from sklearn.decomposition import PCA

    pca = PCA(components, svd_solver="randomized" if components < 0.8 * min(train.shape) else "full", random_state=0)
    pca.fit(train)
    back = pca.inverse_transform(pca.transform(kept)).clip(0, 1)
    return float(np.square(back - kept).mean())


def classified(
    train: Codes, kept: Codes, known: NDArray[np.int64], truth: NDArray[np.int64]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """((on codes, on pixels) of a linear classifier, of nearest neighbours): accuracies."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    found = []
    for a, b in ((train.codes, kept.codes), (train.pixels, kept.pixels)):
        linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)).fit(a, known)
        near = KNeighborsClassifier(min(NEIGHBOURS, len(a))).fit(a, known)
        found.append((float(linear.score(b, truth)), float(near.score(b, truth))))
    (linear_code, near_code), (linear_pixels, near_pixels) = found
    return (linear_code, linear_pixels), (near_code, near_pixels)
