"""How sure an accuracy is: the interval in which it would have fallen with other test pictures.

The percentile bootstrap (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13) draws
n pictures with replacement from the n that were tested, thousands of times, and takes the middle 95 % of the
accuracies. Each drawn picture is right with probability correct / n, so the number of right ones in a resample
is binomial: drawing that number directly is the same bootstrap, without the pictures.
"""

import numpy as np
from numpy.typing import NDArray


def bootstrap_interval(
    correct: int, n: int, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """(low, high) of the accuracy `correct / n`; both lie in 0..1.

    Where all pictures are right, or all wrong, every resample is the same and the bootstrap's interval has no
    width, as if n pictures could prove perfection. There the exact limit of Clopper and Pearson (Biometrika,
    1934) stands instead: all right out of n is likely enough while accuracy ** n >= (1 - level) / 2.

    Errors: ValueError unless 0 <= correct <= n and n >= 1.
    """
    if not 0 <= correct <= n or n < 1:
        raise ValueError(f"{correct} of {n} is no accuracy")
    tail = (1 - level) / 2
    if correct == n:
        return float(tail ** (1 / n)), 1.0
    if correct == 0:
        return 0.0, float(1 - tail ** (1 / n))
    counts = np.random.default_rng(seed).binomial(n, correct / n, size=resamples)
    low, high = np.quantile(counts / n, [tail, 1 - tail])
    return float(low), float(high)


def mean_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """(low, high) of the mean of (N,) numbers, 95 %: 1.96 standard errors either way."""
    error = 1.96 * float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return float(values.mean()) - error, float(values.mean()) + error
