"""What is known about a trained autoencoder's codes: their distribution, and what they are good for beside pixels."""

import math
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
from neocog.core.words import counted
from neocog.evaluate import evaluating
from neocog.metrics.bound import active_units

if TYPE_CHECKING:
    from neocog.app.session import Session

MOST = 5000  # training pictures that are looked at
VALUES = 40_000_000  # numbers of these pictures held at once
AT_ONCE = 64  # codes that are decoded together
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
class Size:
    """How much a code holds of a picture of `values` numbers: `shape` numbers, or, with a `book`, indices into it, of
    that many vectors."""

    shape: tuple[int, ...]
    book: int
    values: int

    @classmethod
    def of(cls, network: Autoencoder, side: int) -> "Size":
        """`side`: of the pictures, in pixels."""
        shape = network.code_shape[1:] if network.book else network.code_shape
        return cls(tuple(shape), network.book, network.in_channels * side**2)

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    @property
    def kind(self) -> str:
        """ "numbers", "indices into a book of 512 vectors"."""
        if self.book:
            return f"{'indices' if self.count != 1 else 'index'} into a book of {counted(self.book, 'vector')}"
        return "numbers" if self.count != 1 else "number"

    @property
    def excess(self) -> str:
        """What is to be said where nothing is saved; else ""."""
        if self.book or self.count < self.values:
            return ""
        how = "more than" if self.count > self.values else "as many as"
        return f", {how} the picture has: no compression"

    def __str__(self) -> str:
        """ "32 numbers", "16 x 7 x 7 numbers", "8 x 8 indices into a book of 512 vectors"."""
        return f"{' x '.join(map(str, self.shape))} {self.kind}"


@dataclass(frozen=True)
class Prior:
    """Where codes are drawn from: N(mean, root.T @ root)."""

    mean: Tensor  # (D,)
    root: Tensor | None  # (R, D); None: the identity

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, D)"""
        noise = torch.randn(n, len(self.mean if self.root is None else self.root), generator=generator)
        return self.mean + (noise if self.root is None else noise @ self.root)


def prior_of(network: Autoencoder, codes: Floats) -> Prior:
    """N(0, 1) for variational codes, which were trained for it; for others the normal distribution of these (N, D)
    codes, with all correlations."""
    if network.probabilistic:
        return Prior(torch.zeros(codes.shape[1]), None)
    mean = codes.mean(0)
    _, scale, axes = np.linalg.svd((codes - mean) / max(1.0, (len(codes) - 1) ** 0.5), full_matrices=False)
    return Prior(torch.from_numpy(mean), torch.from_numpy(scale[:, None] * axes))


def decoded(network: Autoencoder, codes: Tensor) -> Tensor:
    """(N, D) or (N, *code_shape) -> (N, C, H, W) in 0..1, on the CPU."""
    device = next(network.parameters()).device
    with evaluating(network), torch.inference_mode():
        whole = codes.reshape(-1, *network.code_shape)
        parts = [network.decode(part.to(device)).float().sigmoid().cpu() for part in torch.split(whole, AT_ONCE)]
    return torch.cat(parts)


def between(first: Tensor, last: Tensor, steps: int) -> Tensor:
    """(steps, ...) codes from one to another, both included."""
    return torch.stack([torch.lerp(first, last, t) for t in torch.linspace(0, 1, steps).tolist()])


def fan(codes: Tensor, steps: int, most: int = 4) -> Iterator[tuple[int, Tensor]]:
    """(its place, from 0, (steps, D)) for the numbers of (N, D) codes that vary most: a way from 2.5 standard
    deviations below to 2.5 above in this number, 0 in the others."""
    deviation = codes.std(0)
    for place in deviation.argsort(descending=True, stable=True)[:most].tolist():
        way = torch.zeros(steps, codes.shape[1])
        way[:, place] = deviation[place] * torch.linspace(-2.5, 2.5, steps)
        yield place, way


@dataclass(frozen=True)
class Baselines:
    """What the code is held against. `pca`: mean squared error of as many principal components as the code has numbers;
    `linear`, `neighbours`: accuracy of a linear and of a nearest-neighbour classifier on (codes, pixels)."""

    pca: float | None
    components: int
    linear: tuple[float, float] | None
    neighbours: tuple[float, float] | None
    pictures: int
    active: tuple[int, int] | None  # numbers of a variational code that say something, of how many

    def lines(self) -> Iterator[tuple[str, str]]:
        if self.active is not None:
            yield "numbers of the code that vary with the picture", "{} of {}".format(*self.active)
        if self.pca is not None:
            yield f"squared error of PCA with {counted(self.components, 'component')}", f"{self.pca:.5f}"
        for name, found in (("linear", self.linear), (f"{NEIGHBOURS} nearest neighbours", self.neighbours)):
            if found is not None:
                how = f"{name}, learned from {self.pictures:,} labelled pictures: accuracy on codes, on pixels"
                yield how, f"{found[0]:.1%}, {found[1]:.1%}"


def baselines(session: "Session", train: Codes, kept: Codes) -> Baselines:
    """`kept`: of pictures that were kept from training."""
    labels = session.dataset.labels
    linear = neighbours = None
    if len(np.unique(labels[train.rows])) > 1:
        linear, neighbours = classified(train, kept, labels[train.rows], labels[kept.rows])
    network = session.loaded.network
    assert isinstance(network, Autoencoder)
    components = min(Size.of(network, session.preprocessing.size).count, *train.pixels.shape)
    pca = None
    if components < min(train.pixels.shape) and Noise.parse(session.config.noise or "none").kind == "none":
        pca = pca_error(train.pixels, kept.pixels, components)
    active = None
    if network.probabilistic and len(kept.codes) > 1:
        active = active_units(torch.from_numpy(kept.codes)), kept.codes.shape[1]
    return Baselines(pca, components, linear, neighbours, len(train.rows), active)


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
