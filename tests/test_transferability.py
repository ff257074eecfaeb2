"""LogME and the H-score against their definitions, and against what they predict: accuracy of a linear head."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import ortho_group, spearmanr
from sklearn.covariance import LedoitWolf
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import cross_val_score

from neocog.metrics.transferability import h_score, log_me

MEASURES = pytest.mark.parametrize("measure", [log_me, h_score])
SHAPES = pytest.mark.parametrize(("n", "d", "k"), [(40, 3, 2), (30, 12, 3), (20, 20, 2), (15, 40, 4), (60, 1, 3)])


def draw(n, d, k, seed=0, signal=1.0):
    """Noisy features of uneven size around one centre per class; every class has two pictures or more."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.r_[np.tile(np.arange(k), 2), rng.integers(0, k, n - 2 * k)])
    return (rng.normal(size=(n, d)) + signal * rng.normal(size=(k, d))[labels]) * np.geomspace(0.3, 3, d), labels


def log_evidence(features, y, alpha, beta):
    """log p(y), from the covariance of y itself: y ~ N(0, 1/beta + F F^T / alpha)."""
    covariance = np.eye(len(y)) / beta + features @ features.T / alpha
    _, log_determinant = np.linalg.slogdet(covariance)
    return -0.5 * (len(y) * math.log(2 * math.pi) + log_determinant + y @ np.linalg.solve(covariance, y))


def slow_log_me(features, labels):
    """The best of several searches over log alpha and log beta, class by class."""
    best = []
    for c in np.unique(labels):
        y = (labels == c).astype(float)

        def cost(logs, y=y):
            return -log_evidence(features, y, *np.exp(np.clip(logs, -25, 25)))

        exact = {"method": "Nelder-Mead", "options": {"xatol": 1e-9, "fatol": 1e-12, "maxiter": 2000}}
        best.append(-min(minimize(cost, start, **exact).fun for start in ((0, 0), (6, 2), (-2, 4))))
    return np.mean(best) / len(labels)


def iterated_log_me(features, labels):
    """You et al. 2021, Algorithm 3, with explicit inverses and without its limit of 11 rounds."""
    n, d = features.shape
    gram, total = features.T @ features, 0.0
    for c in np.unique(labels):
        y, alpha, beta = (labels == c).astype(float), 1.0, 1.0
        for _ in range(2000):
            a = alpha * np.eye(d) + beta * gram
            m = beta * np.linalg.solve(a, features.T @ y)
            gamma = np.trace(beta * np.linalg.solve(a, gram))
            alpha, beta = gamma / (m @ m), (n - gamma) / ((features @ m - y) @ (features @ m - y))
        a = alpha * np.eye(d) + beta * gram
        m = beta * np.linalg.solve(a, features.T @ y)
        total += n * math.log(beta) + d * math.log(alpha) - n * math.log(2 * math.pi) - np.linalg.slogdet(a)[1]
        total -= beta * (features @ m - y) @ (features @ m - y) + alpha * m @ m
    return total / 2 / n / len(np.unique(labels))


def slow_h_score(features, labels):
    """Ibrahim et al. 2021 word by word, with scikit-learn's shrinkage."""
    fitted = LedoitWolf().fit(features)
    means = np.array([features[labels == c].mean(axis=0) for c in labels])
    between = np.cov(means, rowvar=False, bias=True).reshape(features.shape[1], -1)
    return np.trace(np.linalg.inv(fitted.covariance_) @ ((1 - fitted.shrinkage_) * between))


@SHAPES
def test_log_me_is_the_largest_evidence(n, d, k):
    features, labels = draw(n, d, k, seed=n)
    assert log_me(features, labels) == pytest.approx(slow_log_me(features, labels), abs=1e-7)


def test_log_me_is_where_the_papers_iteration_ends():
    features, labels = draw(50, 6, 3, seed=1)
    assert log_me(features, labels) == pytest.approx(iterated_log_me(features, labels), abs=1e-9)


def test_useless_features_leave_the_evidence_of_noise_alone():
    """With alpha without bound, y is noise of variance |y|^2 / n."""
    labels = np.arange(12) % 3
    expected = -(math.log(2 * math.pi * 4 / 12) + 1) / 2
    assert log_me(np.zeros((12, 5)), labels) == pytest.approx(expected)
    uneven = np.r_[np.ones(6), -np.ones(6)][:, None]  # orthogonal to every class
    assert log_me(uneven, labels) == pytest.approx(expected)


@SHAPES
def test_h_score_is_its_definition(n, d, k):
    features, labels = draw(n, d, k, seed=n, signal=0.5)
    expected = slow_h_score(features, labels)
    assert expected > 0.01
    assert h_score(features, labels) == pytest.approx(expected, rel=1e-9)


def test_h_score_without_noise_counts_the_directions_that_tell_classes_apart():
    """Two points: nothing is left to shrink, and a single direction is wholly between the classes."""
    labels = np.array([0, 1] * 10)
    assert h_score(np.outer(2 * labels - 1, [1.0, 2.0, 3.0]), labels) == pytest.approx(1)


@MEASURES
@settings(deadline=None, max_examples=25)
@given(n=st.integers(8, 30), d=st.integers(2, 40), seed=st.integers(0, 10**6), unit=st.sampled_from([1e-200, 7, 1e200]))
def test_only_what_the_features_tell_counts(measure, n, d, seed, unit):
    features, labels = draw(n, d, 3, seed)
    value = measure(features, labels)
    rng = np.random.default_rng(seed)
    order = rng.permutation(n)
    turned = features @ ortho_group.rvs(d, random_state=rng)
    assert measure(turned, labels) == pytest.approx(value, abs=1e-6)
    assert measure(unit * features, labels) == pytest.approx(value, abs=1e-6)
    assert measure(features[order], labels[order]) == pytest.approx(value, abs=1e-6)
    assert measure(features, np.array([7, -2, 40])[labels]) == pytest.approx(value, abs=1e-6)


@MEASURES
@pytest.mark.parametrize("d", [10, 300])
def test_features_that_tell_the_classes_apart_score_higher_than_shuffled_labels(measure, d):
    features, labels = draw(120, d, 4, signal=0.7)
    shuffled = [measure(features, np.random.default_rng(i).permutation(labels)) for i in range(10)]
    assert measure(features, labels) > max(shuffled) + 5 * np.std(shuffled)


def test_h_score_moves_with_no_shift_of_the_features():
    features, labels = draw(50, 8, 3)
    assert h_score(features + 1000, labels) == pytest.approx(h_score(features, labels), rel=1e-6)


@MEASURES
def test_repeated_and_constant_features_are_no_trouble(measure):
    features, labels = draw(50, 4, 3)
    repeated = np.c_[features, features, np.full((50, 2), 0.1)]
    assert math.isfinite(measure(repeated, labels))
    assert measure(repeated.astype(np.float32), labels) == pytest.approx(measure(repeated, labels), abs=1e-5)


def test_features_that_never_vary_score_nothing():
    """Whatever the rounding of their means leaves."""
    assert h_score(np.tile([0.1, 0.7, 1 / 3, 1], (9, 1)), np.arange(9) % 3) == 0


def test_a_perfect_answer_is_finite_and_the_best():
    features, labels = draw(40, 6, 4, signal=3)
    assert log_me(features, labels) < log_me(np.eye(4)[labels], labels) < 20


@MEASURES
def test_it_ranks_features_as_a_trained_head_does(measure):
    """Digits seen through more and more noise, and through fewer and fewer pixels."""
    pictures, labels = load_digits(return_X_y=True)
    pictures, labels = pictures[:600], labels[:600]
    rng = np.random.default_rng(0)
    noise = rng.normal(size=pictures.shape)
    pixels = rng.permutation(64)
    for seen in (
        [pictures + s * noise for s in (0, 5, 10, 20, 40, 80)],
        [pictures[:, pixels[:p]] for p in (64, 32, 16, 8, 4, 2)],
    ):
        accuracy = [cross_val_score(RidgeClassifier(), x, labels, cv=3).mean() for x in seen]
        assert max(accuracy) > min(accuracy) + 0.5
        assert spearmanr(accuracy, [measure(x, labels) for x in seen]).statistic > 0.9


@MEASURES
@pytest.mark.parametrize(
    ("features", "labels", "said"),
    [
        (np.ones((3, 2)), [0, 1], "not \\(N, D\\) and \\(N,\\)"),
        (np.ones(3), [0, 1, 1], "not \\(N, D\\) and \\(N,\\)"),
        (np.ones((2, 0)), [0, 1], "not \\(N, D\\) and \\(N,\\)"),
        (np.ones((2, 2)), [[0], [1]], "not \\(N, D\\) and \\(N,\\)"),
        (np.ones((2, 2)), [0.0, 1.0], "not whole numbers"),
        (np.ones((2, 2)), [1, 1], "of one class"),
        ([[1, np.nan], [np.inf, 0]], [0, 1], "2 of 4 features are not finite"),
    ],
)
def test_what_cannot_be_measured_is_refused(measure, features, labels, said):
    with pytest.raises(ValueError, match=said):
        measure(features, labels)
