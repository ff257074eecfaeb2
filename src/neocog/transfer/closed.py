"""Heads that are fitted at once instead of step by step. What each can choose, it chooses without the validation
pictures: by what it would say of a training picture that it had not seen."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from neocog.core.errors import DataError
from neocog.layers.similarity import MOST, Neighbours, Prototypes

COUNTS = (1, 3, 5, 10, 20, MOST)  # of neighbours
TEMPERATURES = (0.02, 0.05, 0.1, 0.2)
DOUBTS = (0.01, 0.03, 0.1, 0.3)
SCALES = tuple(float(s) for s in np.geomspace(0.25, 256, 41))
PENALTIES = tuple(float(c) for c in np.geomspace(1e-5, 1, 6))  # the SVM's C
PARTS = 5  # of the SVM's cross-validation
MOST_ROWS = 2000  # of the SVM's cross-validation
ROUNDING = 1e-4  # of a sum of unit vectors
BLOCK = 4096  # rows of a matrix of similarities at a time


@dataclass(frozen=True)
class Chosen:
    """What a fit chose, in words, and the share of training pictures that it named rightly without having seen them."""

    words: str
    accuracy: float


def fit_prototypes(head: Prototypes, features: Tensor, labels: Tensor, pictures: Tensor) -> Chosen:
    """(N, D), (N,), and (N,) the picture that each row is a view of: the mean direction of every class. The scale is
    judged by comparing each row with the mean of its class without that picture."""
    unit = F.normalize(features.float(), dim=1)
    k = len(head.means)
    counts = torch.bincount(labels, minlength=k)
    if int(counts.min()) == 0:
        none = int(counts.argmin())
        raise DataError(f"class number {none} has no training picture", "a prototype needs at least one")
    sums = torch.zeros(k, unit.shape[1]).index_add_(0, labels, unit)
    place = torch.from_numpy(np.unique(pictures.numpy(), return_inverse=True)[1])
    own = torch.zeros(int(place.max()) + 1, unit.shape[1]).index_add_(0, place, unit)[place]
    cosines = unit @ F.normalize(sums, dim=1).T
    others = sums[labels] - own  # zero, but for rounding, where a class has one picture: it then resembles nothing
    others = F.normalize(others, dim=1) * (others.norm(dim=1, keepdim=True) > ROUNDING)
    cosines[torch.arange(len(unit)), labels] = (others * unit).sum(1)
    losses = [F.cross_entropy(scale * cosines, labels).item() for scale in SCALES]
    scale = SCALES[int(np.argmin(losses))]
    head.means.copy_(F.normalize(sums, dim=1))
    head.scale.fill_(scale)
    accuracy = (cosines.argmax(1) == labels).float().mean().item()
    return Chosen(f"scale {scale:.3g}, by leaving each training picture out", accuracy)


def fit_neighbours(head: Neighbours, features: Tensor, labels: Tensor, pictures: Tensor) -> Chosen:
    """(N, D), (N,), and (N,) the picture that each row is a view of: remembers all rows; how many are asked, and how
    sharply, is what best names each of them by those of other pictures."""
    head.known.copy_(F.normalize(features.float(), dim=1))
    head.labels.copy_(labels)
    known = head.known
    some = torch.linspace(0, len(known) - 1, min(len(known), BLOCK)).long()
    cosines = known[some] @ known.T
    cosines[pictures[some][:, None] == pictures] = -2.0
    best = np.inf, 1, 0.1, 0.1
    for count, temperature, doubt in product(COUNTS, TEMPERATURES, DOUBTS):
        if count < len(known):
            _set(head, count, temperature, doubt)
            loss = F.nll_loss(head.vote(cosines), labels[some]).item()
            best = min(best, (loss, count, temperature, doubt))
    _, count, temperature, doubt = best
    _set(head, count, temperature, doubt)
    accuracy = (head.vote(cosines).argmax(1) == labels[some]).float().mean().item()
    words = f"{count} neighbours, temperature {temperature:g}, doubt {doubt:g}, by leaving each training picture out"
    return Chosen(words, accuracy)


def _set(head: Neighbours, count: int, temperature: float, doubt: float) -> None:
    head.count.fill_(count)
    head.temperature.fill_(temperature)
    head.doubt.fill_(doubt)


def fit_svm(
    head: nn.Linear, features: Tensor, labels: Tensor, pictures: Tensor, seed: int,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Chosen:  # fmt: skip
    """(N, D), (N,), and (N,) the picture that each row is a view of: a linear support vector machine, one class
    against the rest (scikit-learn's LinearSVC) on standardised features.

    Its penalty and the factor that makes its margins logits are those with the best mean log loss on pictures that it
    had not seen, by cross-validation over one view of each. `tell` is called as `tell(done, total)` after each penalty
    and after the last machine.
    """
    x, y = features.double().numpy(), labels.numpy()
    mean, std = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
    x = (x - mean) / std
    # One view of each picture: there are many machines to fit.
    first = np.unique(pictures.numpy(), return_index=True)[1]
    some = first[evenly(y[first], max(MOST_ROWS, 2 * len(head.weight)), seed)]
    margins = {}
    for done, penalty in enumerate(PENALTIES, start=1):
        margins[penalty] = _unseen(x[some], y[some], penalty, seed)
        tell(done, len(PENALTIES) + 1)
    losses = {
        (penalty, scale): F.cross_entropy(torch.from_numpy(scale * margin), labels[some]).item()
        for penalty, margin in margins.items()
        for scale in SCALES
    }
    penalty, scale = min(losses, key=lambda one: losses[one])
    weight, bias = _margins(x, y, len(head.weight), penalty, seed)
    tell(len(PENALTIES) + 1, len(PENALTIES) + 1)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(scale * weight / std))
        head.bias.copy_(torch.from_numpy(scale * (bias - weight @ (mean / std))))
    accuracy = float((margins[penalty].argmax(axis=1) == y[some]).mean())
    return Chosen(f"penalty C {penalty:.3g}, margins times {scale:.3g}, by {PARTS}-fold cross-validation", accuracy)


def evenly(labels: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """The places of up to `most` rows in a random order; the first n of them hold of every class as many as of any
    other, or all it has."""
    order = np.random.default_rng(seed).permutation(len(labels))
    rank = np.empty(len(labels), np.int64)  # how many of its class were drawn before
    for label in np.unique(labels):
        own = order[labels[order] == label]
        rank[own] = np.arange(len(own))
    return np.lexsort((order.argsort(), rank))[:most]


def _unseen(x: NDArray[np.float64], y: NDArray[np.int64], penalty: float, seed: int) -> NDArray[np.float64]:
    """(N, K) margins of every row from a machine that did not learn from it."""
    margins = np.zeros((len(y), int(y.max()) + 1))
    for learn, judge in parts_of(y, seed):
        weight, bias = _margins(x[learn], y[learn], margins.shape[1], penalty, seed)
        margins[judge] = x[judge] @ weight.T + bias
    return margins


def parts_of(y: NDArray[np.int64], seed: int) -> Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(rows to learn from, rows to judge), up to PARTS times, by class. DataError where a class has one row."""
    from sklearn.model_selection import StratifiedKFold

    least = int(np.bincount(y).min())
    if least < 2:
        raise DataError("a class has a single training picture", "cross-validation needs two of each")
    parts = StratifiedKFold(min(PARTS, least), shuffle=True, random_state=seed % 2**32)
    with quiet():
        found = list(parts.split(y, y))
    yield from found


@contextmanager
def quiet() -> Iterator[None]:
    """scikit-learn warns of what has not settled, which is judged like anything else, and of many classes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _margins(
    x: NDArray[np.float64], y: NDArray[np.int64], k: int, penalty: float, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(K, D) weights and (K,) biases: positive where a row is of the class. Two classes share one plane."""
    from sklearn.svm import LinearSVC

    with quiet():
        machine = LinearSVC(C=penalty, dual="auto", random_state=seed % 2**32).fit(x, y)
    weight, bias = machine.coef_, np.atleast_1d(machine.intercept_)
    if k == 2:
        weight, bias = np.concatenate([-weight, weight]), np.concatenate([-bias, bias])
    return weight, bias
