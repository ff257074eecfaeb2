"""Metrics against scikit-learn and against slow twins that follow the definition word by word."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as judge

from neocog import metrics


def draw(n, k, seed, missing=0):
    """Probabilities that are right more often than chance; the last `missing` classes have no pictures."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k - missing, n)
    scores = rng.normal(size=(n, k)) * 1.5
    scores[np.arange(n), labels] += 1.5
    p = np.exp(scores)
    return (p / p.sum(axis=1, keepdims=True)).astype(np.float32), labels


CASES = [(200, 2, 0, 0), (300, 3, 1, 1), (500, 10, 2, 0), (400, 12, 3, 4), (60, 40, 4, 0), (1, 4, 5, 0)]


@pytest.mark.parametrize(("n", "k", "seed", "missing"), CASES)
def test_against_scikit_learn(n, k, seed, missing):
    p, labels = draw(n, k, seed, missing)
    predicted = p.argmax(axis=1)
    confusion = metrics.confusion_matrix(labels, predicted, k)
    numbers = list(range(k))
    np.testing.assert_array_equal(confusion, judge.confusion_matrix(labels, predicted, labels=numbers))
    scores = metrics.per_class(confusion)
    for ours, theirs in zip(
        (scores.precision, scores.recall, scores.f1, scores.support),
        judge.precision_recall_fscore_support(labels, predicted, labels=numbers, zero_division=np.nan),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "y_pred contains classes not in|A single label was found")  # on purpose
        assert metrics.balanced_accuracy(scores) == pytest.approx(judge.balanced_accuracy_score(labels, predicted))
    assert metrics.macro_f1(scores) == pytest.approx(judge.f1_score(labels, predicted, average="macro"))
    double = p.astype(np.float64)
    double /= double.sum(axis=1, keepdims=True)
    loss = metrics.negative_log_likelihood(double, labels)
    assert loss == pytest.approx(judge.log_loss(labels, double, labels=numbers), rel=1e-9)
    if k > 5:
        top5 = judge.top_k_accuracy_score(labels, p, k=5, labels=numbers)
        assert metrics.top_k(p, labels, 5) == pytest.approx(top5)
    else:
        assert metrics.top_k(p, labels, 5) is None
    assert metrics.top_k(p, labels, 1) == pytest.approx(judge.accuracy_score(labels, predicted))


def slow_reliability(p, labels, bins):
    """Guo et al. 2017, equations 2, 3 and 5, one picture and one bin at a time."""
    rows, ece = [], 0.0
    for m in range(1, bins + 1):
        inside = [i for i in range(len(p)) if (m - 1) / bins < max(float(x) for x in p[i]) <= m / bins]
        if not inside:
            rows.append((0, math.nan, math.nan))
            continue
        accuracy = sum(int(np.argmax(p[i]) == labels[i]) for i in inside) / len(inside)
        confidence = sum(max(float(x) for x in p[i]) for i in inside) / len(inside)
        rows.append((len(inside), confidence, accuracy))
        ece += len(inside) / len(p) * abs(accuracy - confidence)
    return rows, ece


@pytest.mark.parametrize(("n", "k", "seed", "missing"), CASES)
@pytest.mark.parametrize("bins", [15, 10])
def test_calibration_follows_its_definition(n, k, seed, missing, bins):
    p, labels = draw(n, k, seed, missing)
    p[0] = 0
    p[0, 0] = 1  # exactly 1 belongs to the last bin
    rows, ece = slow_reliability(p, labels, bins)
    ours = metrics.reliability(p, labels, bins)
    assert ours.count.sum() == n
    np.testing.assert_allclose(np.stack([ours.count, ours.confidence, ours.accuracy], 1), rows, rtol=1e-6)
    assert ours.ece == pytest.approx(ece, rel=1e-9)
    assert ours.ece > 0


def test_a_confidence_on_an_edge_belongs_to_the_lower_bin():
    curve = metrics.reliability(np.array([[0.5, 0.5], [0.75, 0.25]]), np.array([0, 0]), bins=4)
    assert curve.count.tolist() == [0, 1, 1, 0]


def test_ties_go_to_the_lower_class_number():
    p = np.full((2, 6), 1 / 6, np.float32)
    assert metrics.top_k(p, np.array([0, 1]), 1) == 0.5
    assert metrics.top_k(p, np.array([4, 5]), 5) == 0.5


def test_a_certain_mistake_keeps_the_loss_finite():
    p = np.array([[1, 0], [1, 0]], np.float32)
    expected = -math.log(np.finfo(np.float32).tiny) / 2
    assert metrics.negative_log_likelihood(p, np.array([0, 1])) == pytest.approx(expected)


def test_most_confused_names_direction_and_order():
    confusion = np.array([[50, 3, 0], [9, 20, 1], [0, 0, 7]])
    assert metrics.most_confused(confusion) == [(1, 0, 9), (0, 1, 3), (1, 2, 1)]
    assert metrics.most_confused(confusion, 1) == [(1, 0, 9)]
    assert confusion[0, 0] == 50


@pytest.mark.parametrize(("correct", "n"), [(309, 372), (9, 10), (1, 50)])
def test_interval_is_the_bootstrap_over_pictures(correct, n):
    """The twin resamples pictures, the slow way; the two differ by Monte Carlo noise alone."""
    low, high = metrics.bootstrap_interval(correct, n)
    pictures = np.arange(n) < correct
    rng = np.random.default_rng(1)
    twin = np.quantile([rng.choice(pictures, n).mean() for _ in range(4000)], [0.025, 0.975])
    np.testing.assert_allclose([low, high], twin, atol=1.01 / n if n < 100 else 0.004)
    assert low < correct / n < high


def test_interval_is_fixed_by_its_seed():
    first = metrics.bootstrap_interval(800_003, 10**6, seed=3)
    assert metrics.bootstrap_interval(800_003, 10**6, seed=3) == first
    assert metrics.bootstrap_interval(800_003, 10**6, seed=4) != first


def test_interval_widens_with_the_level_and_narrows_with_pictures():
    wide = metrics.bootstrap_interval(80, 100, level=0.99)
    usual = metrics.bootstrap_interval(80, 100)
    many = metrics.bootstrap_interval(8000, 10_000)
    assert wide[0] < usual[0] < many[0] < 0.8 < many[1] < usual[1] < wide[1]


def test_perfection_is_not_certain():
    """0.025 ** (1 / 54) = 0.934: the published two-sided 95 % Clopper-Pearson limit for 54 of 54."""
    low, high = metrics.bootstrap_interval(54, 54)
    assert (round(low, 3), high) == (0.934, 1.0)
    assert metrics.bootstrap_interval(0, 54) == (0.0, pytest.approx(1 - low))


@pytest.mark.parametrize(("correct", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_impossible_accuracies_are_refused(correct, n):
    with pytest.raises(ValueError, match="no accuracy"):
        metrics.bootstrap_interval(correct, n)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(2, 9), st.integers(0, 10**6))
def test_identities_that_hold_for_all_predictions(n, k, seed):
    p, labels = draw(n, k, seed)
    confusion = metrics.confusion_matrix(labels, p.argmax(axis=1), k)
    scores = metrics.per_class(confusion)
    accuracy = np.trace(confusion) / n
    assert confusion.sum() == n
    assert np.nansum(scores.recall * scores.support) / n == pytest.approx(accuracy)
    curve = metrics.reliability(p, labels)
    assert np.nansum(curve.accuracy * curve.count) / n == pytest.approx(accuracy)
    assert sum(count for *_, count in metrics.most_confused(confusion, k * k)) == n - np.trace(confusion)
