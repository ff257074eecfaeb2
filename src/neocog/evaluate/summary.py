"""Every reported number, from the predictions alone.

`summarise(Predictions.read("predictions.csv").of("test"))` gives the numbers of a run's report again.
"""

import math
from typing import Any

import numpy as np

from neocog import metrics
from neocog.evaluate.predictions import Predictions

IMBALANCED = 2.0  # largest class : smallest class, above which plain accuracy flatters a network


def summarise(predictions: Predictions, *, seed: int = 0, pairs: int = 10) -> dict[str, Any]:
    """A dict that JSON can hold; None stands for what is undefined. Shares are in 0..1.

    pictures, unlabelled    rows that count, rows without a known class (left out of everything)
    top1, top1_interval     accuracy and its 95 % interval [low, high] (`metrics.bootstrap_interval`)
    top5                    None for five classes or fewer
    balanced_accuracy, macro_f1, nll, ece    as `metrics` defines them
    baseline                accuracy of always naming the commonest class
    imbalanced              the largest class has more than twice the pictures of the smallest one present
    per_class               [{class, support, predicted, precision, recall, f1}], in class order
    confusion               K x K counts, rows true, columns predicted
    most_confused           [{truth, predicted, count}], the commonest mistakes first
    reliability             [{low, high, count, confidence, accuracy}], 15 bins of confidence
    """
    known = predictions.rows(predictions.labels >= 0)
    classes, labels, p = known.classes, known.labels, known.probabilities
    n = len(labels)
    confusion = metrics.confusion_matrix(labels, known.predicted, len(classes))
    scores = metrics.per_class(confusion)
    curve = metrics.reliability(p, labels)
    correct = int(np.trace(confusion))
    present = scores.support[scores.support > 0]
    return {
        "pictures": n,
        "unlabelled": len(predictions.labels) - n,
        "classes": list(classes),
        "top1": correct / n if n else None,
        "top1_interval": list(metrics.bootstrap_interval(correct, n, seed=seed)) if n else None,
        "top5": metrics.top_k(p, labels, 5) if n else None,
        "balanced_accuracy": metrics.balanced_accuracy(scores) if n else None,
        "macro_f1": metrics.macro_f1(scores) if n else None,
        "baseline": int(present.max()) / n if n else None,
        "imbalanced": bool(n and present.max() > IMBALANCED * present.min()),
        "nll": metrics.negative_log_likelihood(p, labels) if n else None,
        "ece": curve.ece if n else None,
        "per_class": _table(
            {
                "class": list(classes),
                "support": scores.support,
                "predicted": scores.predicted,
                "precision": scores.precision,
                "recall": scores.recall,
                "f1": scores.f1,
            }
        ),
        "confusion": confusion.tolist(),
        "most_confused": [
            {"truth": classes[truth], "predicted": classes[guess], "count": count}
            for truth, guess, count in metrics.most_confused(confusion, pairs)
        ],
        "reliability": _table(
            {name: getattr(curve, name) for name in ("low", "high", "count", "confidence", "accuracy")}
        ),
    }


def _table(columns: dict[str, Any]) -> list[dict[str, Any]]:
    """Columns of equal length -> one dict per row, None for NaN."""
    lists = [column.tolist() if isinstance(column, np.ndarray) else column for column in columns.values()]
    return [
        {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in zip(columns, row, strict=True)
        }
        for row in zip(*lists, strict=True)
    ]
