"""Whether one network is better than another on the same test pictures, or was only lucky.

Only pictures that one network gets right and the other wrong can tell. If both are equally good, each such picture
falls to either side like a fair coin: that is the test of McNemar (Psychometrika, 1947), which Dietterich ("Approximate
statistical tests for comparing supervised classification learning algorithms", Neural Computation, 1998) recommends
where each network was trained once and tested on one set. It speaks of these two trained networks, not of what another
seed would have given. Among many pairs one in twenty differs by luck alone: compare the smallest p-value
with 0.05 divided by the number of pairs (Bonferroni).
"""

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from neocog.core.errors import one_line


@dataclass(frozen=True)
class Paired:
    """Networks a and b on the same `n` pictures."""

    n: int
    a_only: int  # pictures that only a got right
    b_only: int
    p_value: float  # how often networks that are equally good would differ at least this much
    difference: float  # accuracy of a minus accuracy of b, -1 to 1
    low: float  # its interval
    high: float


def mcnemar(correct_a: ArrayLike, correct_b: ArrayLike, *, level: float = 0.95) -> Paired:
    """`correct_a`, `correct_b`: (N,) booleans, whether a and b got each picture right, in the same order.

    The p-value is the exact two-sided binomial one; McNemar's chi-squared approximates it. The interval of the
    difference is method 10 of Newcombe ("Improved confidence intervals for the difference between binomial proportions
    based on paired data", Statistics in Medicine 17, 1998): the Wilson intervals of both accuracies, joined under their
    correlation. It has a width even where the networks agree on all pictures. As the test is exact and the interval is
    not, an interval may end just short of 0 beside a p-value just above 0.05.

    Errors: ValueError unless both are booleans of one length, at least 1.
    """
    from scipy.special import bdtr  # type: ignore[import-untyped]  # comes with scikit-learn

    a, b = np.asarray(correct_a), np.asarray(correct_b)
    if a.dtype != bool or b.dtype != bool:
        raise ValueError(f"right or wrong must be booleans, not {a.dtype} and {b.dtype}")
    if a.ndim != 1 or a.shape != b.shape or not len(a):
        raise ValueError(f"shapes {a.shape} and {b.shape} are not (N,) and (N,) with the same pictures")
    both, a_only, b_only = int((a & b).sum()), int((a & ~b).sum()), int((~a & b).sum())
    fewer, differing = min(a_only, b_only), a_only + b_only
    p_value = min(1.0, 2 * float(bdtr(fewer, differing, 0.5)))
    low, high = _newcombe(both, a_only, b_only, len(a) - both - differing, NormalDist().inv_cdf((1 + level) / 2))
    return Paired(len(a), a_only, b_only, p_value, (a_only - b_only) / len(a), low, high)


def verdict(paired: Paired, names: tuple[str, str], *, alpha: float = 0.05) -> str:
    """One sentence, without a full stop. `names`: of a and of b. `alpha`: p-values below it count as a difference."""
    p = "p < 0.001" if paired.p_value < 0.001 else f"p = {paired.p_value:.{3 if paired.p_value < 0.1 else 2}f}"
    if paired.p_value >= alpha:
        return f"no difference that {paired.n:,} pictures could show ({p})"
    better, worse = names if paired.difference > 0 else names[::-1]
    return one_line(f"{better} is better than {worse} ({p})")


def _newcombe(both: int, a_only: int, b_only: int, neither: int, z: float) -> tuple[float, float]:
    """Low and high of the difference between (both + a_only) / n and (both + b_only) / n."""
    n = both + a_only + b_only + neither
    right_a, right_b = both + a_only, both + b_only
    below_a, above_a = _wilson(right_a, n, z)
    below_b, above_b = _wilson(right_b, n, z)
    margins = right_a * (n - right_a) * right_b * (n - right_b)
    product = float(both * neither - a_only * b_only)
    if product > 0:
        product = max(product - n / 2, 0)  # the continuity correction that makes it method 10
    phi = product / sqrt(margins) if margins else 0.0  # no correlation where a network is always right, or wrong
    difference = (a_only - b_only) / n
    low = difference - sqrt(below_a**2 - 2 * phi * below_a * above_b + above_b**2)
    high = difference + sqrt(above_a**2 - 2 * phi * above_a * below_b + below_b**2)
    return max(low, -1.0), min(high, 1.0)  # rounding may carry them past


def _wilson(right: int, n: int, z: float) -> tuple[float, float]:
    """How far the score interval of Wilson (JASA, 1927) reaches below and above `right` / n."""
    share = right / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(share - (middle - half), 0.0), max(middle + half - share, 0.0)
