"""What several runs on divisions of the same pictures say together, and how sure that is.

The runs are no independent samples: any two share training pictures, so the spread of their results is too small, and
no estimate of its variance is unbiased (Bengio and Grandvalet, "No Unbiased Estimator of the Variance of K-Fold
Cross-Validation", JMLR 5, 2004). The interval here corrects for the overlap as Nadeau and Bengio propose ("Inference
for the Generalization Error", Machine Learning 52, 2003, section 3.1): with J results of variance s², J - 1 degrees
of freedom and on average n1 pictures learned from and n2 tested, Student's t is taken times

    sqrt((1 / J + n2 / n1) s²)        instead of sqrt(s² / J).
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neocog import metrics
from neocog.evaluate.predictions import Predictions
from neocog.evaluate.summary import summarise

MEASURES = ("top1", "balanced_accuracy", "macro_f1", "nll", "ece")
LEVEL = 0.95
RESAMPLES = 10_000
APPROXIMATE = (
    "Folds share training pictures, so the interval over them is an approximation: it is Student's t with the variance "
    "corrected for the overlap (Nadeau and Bengio 2003), and no unbiased estimate of that variance exists (Bengio and "
    "Grandvalet 2004). All folds start from the same seed, so what other initial weights would change is not in it."
)


def summarise_folds(tests: Sequence[Predictions], learned: Sequence[int]) -> dict[str, Any]:
    """`tests`: the predictions of each run on its test pictures; `learned`: how many pictures it learned from.
    A dict that JSON can hold; shares are in 0..1, None stands for what is undefined.

    runs      [{test, train, top1, top1_interval, balanced_accuracy, macro_f1, nll, ece}], one for each
    over      {measure: {mean, standard_deviation, interval}} over the runs (see `spread`)
    pooled    {predictions, pictures, top1, top1_interval, balanced_accuracy, macro_f1, nll, ece} of all together
    note      how far the interval over runs can be believed
    """
    numbers = [summarise(one) for one in tests]
    runs = [
        {"test": found["pictures"], "train": n, "top1_interval": found["top1_interval"]}
        | {name: found[name] for name in MEASURES}
        for found, n in zip(numbers, learned, strict=True)
    ]
    ratio = sum(found["pictures"] for found in numbers) / sum(learned)
    over = {name: spread([found[name] for found in numbers], ratio, name != "nll") for name in MEASURES}
    together = join(tests)
    whole = summarise(together)
    pooled = {
        "predictions": whole["pictures"],
        "pictures": len(set(together.files)),
        "top1_interval": list(interval_of_pictures(together)),
    }
    return {
        "runs": runs,
        "over": over,
        "pooled": pooled | {name: whole[name] for name in MEASURES},
        "note": APPROXIMATE,
    }


def spread(values: Sequence[float], ratio: float, share: bool) -> dict[str, Any]:
    """Mean, standard deviation and the corrected interval. `ratio`: pictures tested by pictures learned from. `share`:
    the values lie in 0..1, and so does the interval. There is none for a single value, nor where all are equal: it
    would have no width, as if they proved that there is no spread."""
    from scipy.special import stdtrit  # type: ignore[import-untyped]  # comes with scikit-learn

    mean = float(np.mean(values))
    if len(values) < 2:
        return {"mean": mean, "standard_deviation": None, "interval": None}
    deviation = float(np.std(values, ddof=1))
    if deviation == 0:
        return {"mean": mean, "standard_deviation": 0.0, "interval": None}
    quantile = float(stdtrit(len(values) - 1, (1 + LEVEL) / 2))
    half = quantile * math.sqrt(1 / len(values) + ratio) * deviation
    low, high = max(0.0, mean - half), mean + half
    return {"mean": mean, "standard_deviation": deviation, "interval": [low, min(high, 1.0) if share else high]}


def join(parts: Sequence[Predictions]) -> Predictions:
    """One after the other."""
    first = parts[0]
    return Predictions(
        [file for one in parts for file in one.files], [name for one in parts for name in one.split], first.classes,
        np.concatenate([one.labels for one in parts]), np.concatenate([one.probabilities for one in parts]),
    )  # fmt: skip


def interval_of_pictures(found: Predictions, *, seed: int = 0) -> tuple[float, float]:
    """The bootstrap interval of the accuracy. Where a picture was predicted several times, by several networks, whole
    pictures are drawn, each with all its predictions: they are not as many independent answers."""
    right = found.predicted == found.labels
    tries: dict[str, list[bool]] = defaultdict(list)
    for file, one in zip(found.files, right.tolist(), strict=True):
        tries[file].append(one)
    if len(tries) == len(right) or right.all() or not right.any():
        return metrics.bootstrap_interval(sum(any(one) for one in tries.values()), len(tries), seed=seed)
    # Pictures with as many predictions and as many right ones are alike: only how many of each are drawn counts.
    kinds, counts = np.unique([(sum(one), len(one)) for one in tries.values()], axis=0, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(tries), counts / len(tries), size=RESAMPLES)
    accuracies: NDArray[np.float64] = (drawn @ kinds[:, 0]) / (drawn @ kinds[:, 1])
    low, high = np.quantile(accuracies, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
