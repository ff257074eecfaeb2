"""Curves, maps and contours are drawn to scale, and what is missing is seen to be missing."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_report import make_report, watched
from neocog import report as rp
from neocog.report import charts, watch_charts
from pages import Seen


@settings(deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(0, 1e6), st.booleans())
def test_ticks_are_few_even_and_enclose(low, width, whole):
    high = low + width
    marks = charts.ticks(low, high, whole=whole)
    assert 2 <= len(marks) <= 8
    slack = 1e-6 * (marks[1] - marks[0])
    assert marks[0] <= low + slack
    assert marks[-1] >= high - slack
    np.testing.assert_allclose(np.diff(marks), marks[1] - marks[0], rtol=1e-3)


def points_of(svg):
    path = re.search(r'<path class="line one" d="([^"]*)"', svg)[1]
    return [(pen, float(x), float(y)) for pen, x, y in re.findall(r"([ML])([\d.-]+) ([\d.-]+)", path)]


def test_a_curve_is_drawn_to_scale_and_broken_where_numbers_are_missing():
    line = charts.Series("training", [(1, 0.0), (2, 2.0), (3, None), (4, float("inf")), (5, 1.0)])
    pens = points_of(charts.curves("Loss", [line]))
    left, right = charts.LEFT, charts.WIDTH - charts.RIGHT
    bottom, top = charts.HEIGHT - charts.BOTTOM, charts.TOP
    expected = [("M", left, bottom), ("L", left + (right - left) / 4, top), ("M", right, (top + bottom) / 2)]
    assert pens == [(pen, round(x, 1), round(y, 1)) for pen, x, y in expected]


def test_curves_without_numbers_are_left_out():
    assert not charts.curves("Loss", [charts.Series("training", [(1, None), (2, float("inf"))])])
    assert not charts.curves("Loss", [])
    assert charts.curves("Loss", [charts.Series("training", [(1, 0.5)])])  # one epoch is a point


def test_a_long_curve_is_thinned_but_keeps_its_end():
    line = charts.Series("training", [(float(i), float(i)) for i in range(1, 5001)])
    pens = points_of(charts.curves("Loss", [line]))
    assert 300 < len(pens) <= charts.MAX_POINTS + 1
    assert pens[-1][1] == charts.WIDTH - charts.RIGHT
    assert "training ends at 5,000" in charts.curves("Loss", [line])


def test_a_training_seen_from_inside_is_drawn():
    facts = watched()
    text = Seen(rp.render(make_report())).text["inside"]
    for words in (
        "The gradient vanishes",
        "2 channels are dead",
        "(7 values not finite)",
        "all 128 pictures",
        "on 64 of",
    ):
        assert words in text
    assert "It is lowest at (0.5, 0), 0.1; the weights themselves have 0.35." in text
    chart = watch_charts.gradient_map(facts.layers, facts.epochs)
    cells = re.findall(r'<rect class="cell([^"]*)" (?:style="--s:([\d.]+)")?[^>]*><title>([^<]*)</title>', chart)
    assert len(cells) == 34 * watch_charts.COLUMNS
    assert sum(place == " none" for place, *_ in cells) == 8  # the first layer's first 10 rows of 40, by 30 columns
    shown = {title: float(strength) for place, strength, title in cells if not place}
    names = sorted(shown, key=shown.__getitem__)
    assert "stage5.3.body.conv33.conv, until epoch 20: 8.4e-7" in names[0]
    assert shown[names[0]] == 0.0
    assert max(shown.values()) == 1.0
    assert '<text x="136" y="11.0" text-anchor="end">stage0.0…conv0.conv</text>' in chart


def test_updates_are_pale_at_the_rule_of_thumb_and_differ_around_it():
    layer = rp.LayerCourse("a", (1.0,) * 5, (1.0,) * 5, (1e-9, 1e-4, 1e-3, 1e-2, 0.5))
    chart = watch_charts.update_map([layer], (1.0, 2.0, 3.0, 4.0, 5.0))
    cells = re.findall(r'class="cell([^"]*)" style="--s:([\d.]+)"[^>]*><title>', chart)
    assert cells == [("", "1.00"), ("", "0.50"), ("", "0.00"), (" warm", "0.50"), (" warm", "1.00")]


def test_contours_are_where_the_values_say():
    """A plane x + 2 y: each line crosses squares at x + 2 y = level."""
    values = [[x + 2.0 * y for x in range(6)] for y in range(5)]
    pieces = list(watch_charts.contour(values, 4.3))
    assert len(pieces) == 7  # it crosses 4 upright lines and 2 level ones
    for x, y in (point for piece in pieces for point in piece):
        assert x + 2 * y == pytest.approx(4.3)
        assert 0 <= x <= 5
        assert 0 <= y <= 4
    values[2][1] = None
    assert len(list(watch_charts.contour(values, 4.3))) < 7
    assert not list(watch_charts.contour(values, 99.0))


def test_a_loss_that_is_nowhere_finite_is_not_drawn():
    facts = rp.LossPlane((-1.0, 0.0, 1.0), ((None,) * 3,) * 3, 9)
    assert not watch_charts.plane(facts)
    html = rp.render(replace(make_report(), watch=replace(watched(), plane=facts, layers=(), rectifiers=())))
    assert "The loss around the weights" not in html
    assert "Layers over time" not in html
    assert "Training seen from inside" not in rp.render(replace(make_report(), watch=None))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("stem.conv", "stem.conv"),
        ("stages.conv4_x.22.body.conv3.conv", "conv4_x.22…conv3.conv"),
        ("stages.inception4a.branch2.0.conv", "inception4a…0.conv"),
        ("x" * 40, "…" + "x" * 20),
    ],
)
def test_long_names_keep_what_tells_layers_apart(name, shown):
    assert watch_charts.cut(name) == shown
