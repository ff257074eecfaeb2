"""McNemar's test against SciPy and chi-squared, Newcombe's interval against his table and a simulation."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import binomtest

from neocog.metrics.paired import mcnemar, verdict

COUNTS = st.tuples(*[st.integers(0, 60)] * 4).filter(any)


def pictures(both, a_only, b_only, neither):
    """Right or wrong, picture by picture, for a and b."""
    cells = np.repeat([0, 1, 2, 3], [both, a_only, b_only, neither])
    return (cells == 0) | (cells == 1), (cells == 0) | (cells == 2)


@given(COUNTS)
def test_the_p_value_is_that_of_a_fair_coin(counts):
    a, b = pictures(*counts)
    paired = mcnemar(a, b)
    _, a_only, b_only, _ = counts
    assert (paired.n, paired.a_only, paired.b_only) == (sum(counts), a_only, b_only)
    assert paired.difference == pytest.approx(a.mean() - b.mean())
    expected = binomtest(a_only, a_only + b_only).pvalue if a_only + b_only else 1
    assert paired.p_value == pytest.approx(expected)


@given(COUNTS)
def test_swapped_networks_are_the_same_test(counts):
    a, b = pictures(*counts)
    one, other = mcnemar(a, b), mcnemar(b, a)
    assert other.p_value == one.p_value
    assert (other.difference, other.low, other.high) == pytest.approx((-one.difference, -one.high, -one.low))


@given(COUNTS)
@example((0, 0, 35, 0))  # rounding alone would carry it past -1
def test_the_interval_holds_the_difference_and_stays_possible(counts):
    paired = mcnemar(*pictures(*counts))
    assert -1 <= paired.low <= paired.difference <= paired.high <= 1
    assert paired.low < paired.high


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        ((36, 12, 2, 0), 0.0569, 0.3404),  # this and the next six: Newcombe 1998, Table III, method 10
        ((20, 12, 2, 16), 0.0562, 0.3292),
        ((36, 14, 0, 0), 0.1528, 0.4167),
        ((18, 14, 0, 18), 0.1441, 0.3963),
        ((1, 97, 1, 1), 0.8736, 0.9850),
        ((54, 0, 0, 0), -0.0664, 0.0664),
        ((30, 0, 0, 24), -0.0358, 0.0358),
        ((59, 6, 16, 80), -0.1186, -0.0046),  # the R package contingencytables, data of Cavo et al. 2012
    ],
)
def test_the_interval_is_the_published_one(counts, low, high):
    paired = mcnemar(*pictures(*counts))
    assert (paired.low, paired.high) == pytest.approx((low, high), abs=0.0001)  # the last digit printed


@pytest.mark.parametrize(
    ("shares", "n"),
    [((0.70, 0.08, 0.08, 0.14), 100), ((0.80, 0.10, 0.03, 0.07), 372), ((0.55, 0.25, 0.10, 0.10), 40)],
)
def test_the_interval_holds_the_truth_as_often_as_it_says(shares, n):
    draws = np.random.default_rng(0).multinomial(n, shares, size=2000)
    drawn, times = np.unique(draws, axis=0, return_counts=True)
    intervals = [mcnemar(*pictures(*counts)) for counts in drawn]
    truth = shares[1] - shares[2]
    held = [paired.low <= truth <= paired.high for paired in intervals]
    assert 0.935 < np.average(held, weights=times) < 0.985


def test_equal_networks_are_seldom_called_different():
    """An exact test errs at most as often as its alpha, and not never."""
    draws = np.random.default_rng(1).multinomial(200, (0.6, 0.1, 0.1, 0.2), size=2000)
    called = [mcnemar(*pictures(*counts)).p_value < 0.05 for counts in draws]
    assert 0.01 < np.mean(called) < 0.055


def test_a_higher_level_is_a_wider_interval():
    a, b = pictures(60, 12, 5, 23)
    usual, wide = mcnemar(a, b), mcnemar(a, b, level=0.99)
    assert wide.low < usual.low < usual.high < wide.high
    assert wide.p_value == usual.p_value


def test_the_verdict_names_the_better_network_or_none():
    paired = mcnemar(*pictures(300, 30, 12, 30))
    assert verdict(paired, ("a", "b")) == "a is better than b (p = 0.008)"
    assert verdict(mcnemar(*pictures(300, 12, 30, 30)), ("a", "b")) == "b is better than a (p = 0.008)"
    assert verdict(mcnemar(*pictures(300, 90, 12, 30)), ("a", "b")) == "a is better than b (p < 0.001)"
    assert verdict(mcnemar(*pictures(300, 20, 15, 37)), ("a", "b")) == (
        "no difference that 372 pictures could show (p = 0.50)"
    )
    assert verdict(paired, ("a", "b"), alpha=0.001) == "no difference that 372 pictures could show (p = 0.008)"
    assert verdict(replace(paired, p_value=0.05), ("a", "b")).startswith("no difference")
    assert verdict(paired, ("a\nb", "c")) == "a\\nb is better than c (p = 0.008)"


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        ([True], [True, False], "same pictures"),
        ([], [], "must be booleans"),
        (np.zeros(0, bool), np.zeros(0, bool), "same pictures"),
        (np.zeros((2, 2), bool), np.zeros((2, 2), bool), "same pictures"),
        ([1, 0], [True, False], "must be booleans"),
    ],
)
def test_what_cannot_be_compared_is_refused(a, b, said):
    with pytest.raises(ValueError, match=said):
        mcnemar(a, b)
