"""How well a linear head on frozen features would do, without training one: LogME and the H-score.

Both are for choosing among pretrained networks: given the same pictures, the network with the higher number is tried
first. Compare values of one measure on one data set; across data sets they mean nothing.

N pictures, D features, K classes that occur, R the rank of the features. Both measures know the features only by their
singular values and left singular vectors, so neither sees a rotation of the features or a change of their unit. One
eigendecomposition of the smaller Gram matrix, (D, D) or (N, N), serves all classes.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

REACH = 12 * math.log(10)  # how far alpha / beta is sought to both sides of the largest squared singular value
STEPS = 73  # of that grid: three to a factor of ten


def log_me(features: ArrayLike, labels: ArrayLike) -> float:
    """Logarithm of the maximum evidence, in nats per picture: how probable a Bayesian linear regression on the
    features makes the labels (You et al., "LogME: Practical Assessment of Pre-trained Models for Transfer Learning",
    ICML 2021, arXiv:2102.11005). Higher is better; the sign means nothing.

    `features` (N, D) numbers, `labels` (N,) whole numbers. Each class is a regression onto its 0/1 targets y, without
    an intercept: weights w ~ N(0, 1/alpha), noise ~ N(0, 1/beta), alpha and beta those that make log p(y) largest.
    The result is the mean of log p(y) over the classes that occur, divided by N.

    Where the features determine the labels exactly, the evidence grows without bound as the noise goes to 0.
    alpha / beta stops at 1e-12 of the largest squared singular value, so the result stays finite.

    Errors: ValueError for shapes that disagree, fewer than two classes, features that are not finite.
    """
    rows, targets = _checked(features, labels)
    n, k = targets.shape
    left, sigma = _spectrum(rows)
    explained = (left.T @ targets) ** 2  # (R, K): squared length of y along each singular vector
    rest = np.maximum(targets.sum(axis=0) - explained.sum(axis=0), 0)  # (K,): of y outside the features' span
    evidence = [_evidence(sigma, explained[:, i], float(rest[i]), n) for i in range(k)]
    return float(np.mean(evidence) / n)


def h_score(features: ArrayLike, labels: ArrayLike) -> float:
    """The shrunken H-score tr(cov_a(f)^-1 (1 - a) cov(E[f | y])), from 0 to K - 1, without a unit: how much of the
    features' variance lies between the classes, each direction measured by its own variance. Higher is better.

    `features` (N, D) numbers, `labels` (N,) whole numbers. H-score: Bao et al., "An Information-Theoretic Approach to
    Transferability in Task Transfer Learning", ICIP 2019. Here in the form of Ibrahim et al., "Newer is not always
    better", 2021, arXiv:2110.06893, with cov_a = (1 - a) cov + a tr(cov) / D, a being the intensity of Ledoit and Wolf
    ("A well-conditioned estimator for large-dimensional covariance matrices", 2004). Without shrinkage, features in
    as many dimensions as there are pictures reach K - 1 whatever they show. Features that do not vary score 0.

    Errors: ValueError for shapes that disagree, fewer than two classes, features that are not finite.
    """
    rows, targets = _checked(features, labels)
    n, d = rows.shape
    centred = rows - rows.mean(axis=0)
    centred[:, np.ptp(rows, axis=0) == 0] = 0  # the mean of equal numbers may differ from them by rounding
    centred = _scaled(centred)
    left, sigma = _spectrum(centred)
    variance = sigma / n  # divided by N, as Ledoit and Wolf do; so are the means of the classes
    shrinkage = _shrinkage(centred, variance)
    between = ((targets.T @ left) ** 2 / targets.sum(axis=0)[:, None]).sum(axis=0)  # (R,): share between classes
    kept = (1 - shrinkage) * variance
    return float((between * kept / (kept + shrinkage * variance.sum() / d)).sum())


def _evidence(sigma: Floats, explained: Floats, rest: float, n: int) -> float:
    """Largest log p(y). `sigma` (R,): squared singular values; `explained` (R,), `rest`: where y's length lies.

    y ~ N(0, 1/beta + F F^T / alpha) has variance (1 + sigma / ratio) / beta along each singular vector, where
    ratio = alpha / beta, and 1/beta elsewhere. The best beta for a ratio is N / distance, which leaves one number to
    look for. You et al. iterate the condition for a maximum instead (Algorithm 3), which finds the nearest one.
    """
    from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]  # comes with scikit-learn

    def cost(log_ratio: float) -> float:
        """-log p(y) with the best beta."""
        spread = sigma * math.exp(-log_ratio)
        distance = float((explained / (1 + spread)).sum()) + rest
        return n / 2 * (math.log(2 * math.pi * distance / n) + 1) + float(np.log1p(spread).sum()) / 2

    middle = math.log(sigma.max(initial=1.0))
    grid = np.linspace(middle - REACH, middle + REACH, STEPS)
    costs = [cost(u) for u in grid]
    best = int(np.argmin(costs))
    around = (grid[max(best - 1, 0)], grid[min(best + 1, STEPS - 1)])
    found = minimize_scalar(cost, bounds=around, method="bounded", options={"xatol": 1e-6})
    return -min(float(found.fun), costs[best])


def _shrinkage(centred: Floats, variance: Floats) -> float:
    """Ledoit and Wolf's intensity, 0 to 1. `centred` (N, D), `variance` (R,): eigenvalues of its covariance."""
    n, d = centred.shape
    squared = float((variance**2).sum())  # Frobenius norm of the covariance
    distance = squared - float(variance.sum()) ** 2 / d  # squared, from the nearest multiple of the identity
    if d == 1 or distance <= 0:
        return 0.0
    error = (float(((centred**2).sum(axis=1) ** 2).mean()) - squared) / n  # expected, squared, of the covariance
    return float(min(max(error, 0.0), distance) / distance)


def _spectrum(rows: Floats) -> tuple[Floats, Floats]:
    """Left singular vectors (N, R) and squared singular values (R,) of (N, D), without those that are rounding.

    By way of the Gram matrix, in a quarter of an SVD's time. It resolves singular values down to about 1e-6 of the
    largest, which is what features computed in float32 hold.
    """
    wide = rows.shape[0] <= rows.shape[1]
    sigma, vectors = np.linalg.eigh(rows @ rows.T if wide else rows.T @ rows)
    real = sigma > np.finfo(np.float64).eps * max(rows.shape) * sigma[-1]
    sigma, vectors = sigma[real], vectors[:, real]
    return (vectors if wide else rows @ vectors / np.sqrt(sigma)), sigma


def _checked(features: ArrayLike, labels: ArrayLike) -> tuple[Floats, Floats]:
    """Features (N, D), scaled, and one 0/1 column per class that occurs, (N, K)."""
    rows, numbers = np.asarray(features, dtype=np.float64), np.asarray(labels)
    if rows.ndim != 2 or numbers.shape != rows.shape[:1] or not rows.size:
        raise ValueError(f"features of shape {rows.shape} and labels of shape {numbers.shape}: not (N, D) and (N,)")
    if numbers.dtype.kind not in "iu":
        raise ValueError(f"labels of type {numbers.dtype} are not whole numbers")
    if not np.isfinite(rows).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(rows))} of {rows.size} features are not finite")
    classes = np.unique(numbers)
    if len(classes) < 2:
        raise ValueError(f"all {len(numbers)} pictures are of one class: nothing to tell apart")
    return _scaled(rows), (numbers[:, None] == classes).astype(np.float64)


def _scaled(rows: Floats) -> Floats:
    """With 1 as the largest magnitude, so that no square overflows or vanishes."""
    largest = np.abs(rows).max()
    return rows / largest if largest else rows
