"""Probabilities that can be taken at their word: Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural
Networks", ICML 2017, arXiv:1706.04599, section 4.2, temperature scaling."""

import math

import numpy as np
from numpy.typing import NDArray

LEAST, MOST = 0.05, 20.0


def temperature(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """(N, K) and (N,) -> T, LEAST..MOST, for which softmax(log probabilities / T) has the smallest negative
    log-likelihood of the labels."""
    from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]  # comes with scikit-learn

    logs = logs_of(probabilities)
    rows = np.arange(len(labels))

    def loss(log_t: float) -> float:
        scaled = logs / math.exp(log_t)
        top = scaled.max(1)
        return float((top + np.log(np.exp(scaled - top[:, None]).sum(1)) - scaled[rows, labels]).mean())

    found = minimize_scalar(loss, bounds=(math.log(LEAST), math.log(MOST)), method="bounded")
    return math.exp(float(found.x))


def scaled(probabilities: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """(..., K) -> the same, calibrated."""
    logs = logs_of(probabilities) / temperature
    odds = np.exp(logs - logs.max(-1, keepdims=True))
    return np.asarray(odds / odds.sum(-1, keepdims=True))


def logs_of(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """A probability of 0 is one that has run out of digits."""
    return np.log(np.maximum(np.asarray(probabilities, np.float64), 1e-12))
