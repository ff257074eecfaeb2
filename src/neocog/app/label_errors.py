"""Which labels are probably wrong, by the probabilities of a network that never learned from those pictures.

Confident learning (Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels"): a
picture counts as one of class j if its probability of j is at least what pictures labelled j have on average. Where
that class is not the one on the label, the label is in doubt; the widest margin comes first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neocog.core.errors import DataError, UsageError
from neocog.evaluate import Predictions


@dataclass(frozen=True)
class Doubt:
    """`row`: of the data set's pictures. Probabilities are 0..1."""

    row: int
    label: str
    likely: str
    label_probability: float
    likely_probability: float


@dataclass(frozen=True)
class Doubts:
    """`covered` of `total` pictures have a prediction of a network that had not learned from them; it agrees with the
    label of the share `agreement` (0..1): the doubts of a weak network are its own mistakes."""

    found: list[Doubt]
    covered: int
    total: int
    agreement: float


def find_label_errors(run: Path, files: Sequence[str], labels: Sequence[str]) -> Doubts:
    """`files`, `labels`: of every picture of the data set. UsageError where `run` is no run, DataError where its
    predictions are of other pictures."""
    path = run / "predictions.csv"
    if not path.is_file():
        raise UsageError(f"{run} holds no predictions.csv", "give the folder of a finished run")
    predictions = Predictions.read(path)
    place = {file: row for row, file in enumerate(files)}
    number = {name: i for i, name in enumerate(predictions.classes)}
    known = [
        (i, place[file])
        for i, (file, split) in enumerate(zip(predictions.files, predictions.split, strict=True))
        # The network has seen the labels of its training pictures, right or wrong.
        if split != "train" and file in place and labels[place[file]] in number
    ]
    if not known:
        raise DataError(f"{path} is about other pictures", "give a run that was trained on this data")
    # With repeated folds a picture has several predictions: their mean counts.
    rows, where, times = np.unique([row for _, row in known], return_inverse=True, return_counts=True)
    probabilities = np.zeros((len(rows), len(predictions.classes)))
    np.add.at(probabilities, where, predictions.probabilities[[i for i, _ in known]])
    probabilities /= times[:, None]
    given = np.array([number[labels[row]] for row in rows.tolist()])
    likely = confident_classes(probabilities, given)
    doubtful = np.flatnonzero((likely >= 0) & (likely != given))
    own, other = probabilities[doubtful, given[doubtful]], probabilities[doubtful, likely[doubtful]]
    found = [
        Doubt(
            int(rows[i]), labels[rows[i]], predictions.classes[likely[i]],
            float(probabilities[i, given[i]]), float(probabilities[i, likely[i]]),
        )
        for i in doubtful[np.argsort(own - other, kind="stable")].tolist()
    ]  # fmt: skip
    agreement = float((probabilities.argmax(axis=1) == given).mean())
    return Doubts(found, len(rows), len(files), agreement)


def confident_classes(
    probabilities: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    labels: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """(N, K), (N,) -> (N,): the class that each picture confidently belongs to, -1 where there is none."""
    k = probabilities.shape[1]
    # A class that no label names has no confidence to compare with.
    least = np.full(k, np.inf)
    for number in np.unique(labels):
        least[number] = probabilities[labels == number, number].mean()
    confident = np.where(probabilities >= least, probabilities, -1.0)
    return np.where(confident.max(axis=1) > 0, confident.argmax(axis=1), -1)
