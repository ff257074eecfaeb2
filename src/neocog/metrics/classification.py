"""What a classifier's probabilities are worth: accuracy in its honest forms, errors by pair, calibration.

N pictures, K classes. `probabilities` is (N, K), `labels` is (N,) class numbers in 0..K-1. The predicted class is
the most probable one, the lower number where two are equal. What is undefined (the recall of a class without
pictures) is NaN in arrays and left out of means.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def top_k(probabilities: NDArray[np.floating], labels: Ints, k: int) -> float | None:
    """Share of pictures whose class is among the k most probable; None where k >= K, as it is then always 1."""
    if k >= probabilities.shape[1]:
        return None
    own = probabilities[np.arange(len(labels)), labels][:, None]  # (N, 1)
    ahead = (probabilities > own).sum(axis=1)
    tied = ((probabilities == own) & (np.arange(probabilities.shape[1]) < labels[:, None])).sum(axis=1)
    return float(np.mean(ahead + tied < k))


def confusion_matrix(labels: Ints, predicted: Ints, num_classes: int) -> Ints:
    """(K, K) counts: rows are true classes, columns predicted ones."""
    pairs = labels * num_classes + predicted
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes).astype(np.int64)


@dataclass(frozen=True)
class PerClass:
    """One number per class, each (K,)."""

    support: Ints  # pictures of the class
    predicted: Ints  # pictures called by its name
    precision: Floats  # share of those called by its name that are of the class; NaN: none was
    recall: Floats  # share of its pictures that are found; NaN: it has none
    f1: Floats  # harmonic mean of the two, 2 TP / (support + predicted); NaN: neither exists


def per_class(confusion: Ints) -> PerClass:
    """Precision, recall and F1 (van Rijsbergen, "Information Retrieval", 1979) of a (K, K) confusion matrix."""
    right = np.diag(confusion)
    support, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    return PerClass(
        support,
        predicted,
        precision=_share(right, predicted),
        recall=_share(right, support),
        f1=_share(2 * right, support + predicted),
    )


def balanced_accuracy(scores: PerClass) -> float:
    """Mean recall over the classes that have pictures (Brodersen et al., ICPR 2010)."""
    return float(np.nanmean(scores.recall))


def macro_f1(scores: PerClass) -> float:
    """Mean F1 over the classes that occur, as truth or as prediction."""
    return float(np.nanmean(scores.f1))


def negative_log_likelihood(probabilities: NDArray[np.floating], labels: Ints) -> float:
    """Mean of -log p(true class), in nats: the cross-entropy. A probability of 0 counts as the smallest float32
    (87 nats), so that one certain mistake does not make the mean infinite."""
    own = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.maximum(own, np.finfo(np.float32).tiny)).mean())


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy in equal-width bins, each (M,); NaN where a bin is empty."""

    low: Floats  # a bin holds the confidences in (low, high]
    high: Floats
    count: Ints
    confidence: Floats  # mean probability of the predicted class
    accuracy: Floats  # share of right predictions

    @property
    def ece(self) -> float:
        """Expected calibration error: mean |accuracy - confidence|, bins weighted by their pictures."""
        gaps = np.abs(self.accuracy - self.confidence) * self.count
        return float(np.nansum(gaps) / self.count.sum())


def reliability(probabilities: NDArray[np.floating], labels: Ints, bins: int = 15) -> Reliability:
    """The reliability curve of the predicted class (Guo et al., "On Calibration of Modern Neural Networks",
    ICML 2017, equations 2, 3 and 5, with their 15 bins)."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    edges = np.arange(bins + 1) / bins
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins).astype(np.int64)
    return Reliability(
        edges[:-1],
        edges[1:],
        count,
        confidence=_share(np.bincount(place, confidence, bins), count),
        accuracy=_share(np.bincount(place, right, bins), count),
    )


def most_confused(confusion: Ints, n: int = 10) -> list[tuple[int, int, int]]:
    """Up to n mistakes (true class, predicted class, pictures), the commonest first."""
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:n]
    rows, columns = np.unravel_index(order, wrong.shape)
    pairs = zip(rows.tolist(), columns.tolist(), wrong[rows, columns].tolist(), strict=True)
    return [(truth, guess, count) for truth, guess, count in pairs if count]


def _share(part: NDArray[np.generic], whole: Ints) -> Floats:
    """part / whole, NaN where the whole is 0."""
    share: Floats = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return share
