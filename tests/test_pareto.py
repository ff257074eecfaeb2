"""The Pareto picture says what the numbers say: its points are read back from its axes, its names lie free."""

import re
from itertools import combinations, pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neocog.report.charts import WIDTH
from neocog.report.pareto import HEIGHT, SIZE, ParetoPoint, _width, cut_within, front, pareto

ZOO = [
    ParetoPoint("lenet", 8, 0.551, 0.50, 0.60),
    ParetoPoint("squeezenet1_0", 40, 0.704, 0.65, 0.75),
    ParetoPoint("mobilenet_v2", 60, 0.831, 0.79, 0.87),
    ParetoPoint("resnet18", 95, 0.806, 0.76, 0.85),
    ParetoPoint("efficientnet_b0", 180, 0.874, 0.84, 0.91),
    ParetoPoint("resnet50", 310, 0.855, 0.82, 0.89),
    ParetoPoint("convnext_tiny", 620, 0.911, 0.88, 0.94),
    ParetoPoint("vgg16", 900, 0.839, 0.80, 0.88),
]
BEST = ["lenet", "squeezenet1_0", "mobilenet_v2", "efficientnet_b0", "convnext_tiny"]
SVG = "{http://www.w3.org/2000/svg}"

POINTS = st.lists(
    st.builds(
        ParetoPoint, st.text(min_size=1, max_size=30),
        st.one_of(st.just(0.0), st.floats(1e-30, 1e30), st.integers(1, 50)),
        st.one_of(st.floats(0, 1), st.sampled_from([0.8, 0.8 + 1e-14, 1e-9])),
    ),
    min_size=1, max_size=40,
)  # fmt: skip


def draw(points, **changes):
    """The picture's elements. An XML parser stops at whatever is not escaped."""
    text = pareto("Accuracy against time", points, **{"x_name": "seconds", "form": repr} | changes)
    return ElementTree.fromstring(text)


def circles(root):
    """(class, x, y, title) of every point, without those of the legend."""
    found = [c for c in root.iter("circle") if c.find("title") is not None]
    return [(c.get("class"), float(c.get("cx")), float(c.get("cy")), c.find("title").text) for c in found]


def boxes(root):
    """Left, top, right and bottom of every name."""
    found = []
    for text in root.iter("text"):
        if text.get("class") == "name":
            width, at, base = _width(text.text), float(text.get("x")), float(text.get("y"))
            left = at - {"start": 0, "middle": width / 2, "end": width}[text.get("text-anchor")]
            found.append((left, base - SIZE, left + width, base + 0.3 * SIZE))
    return found


def overlap(a, b):
    """Both ways more than the rounding of coordinates."""
    return min(a[2], b[2]) - max(a[0], b[0]) > 0.3 and min(a[3], b[3]) - max(a[1], b[1]) > 0.3


def readings(root):
    """Cost and accuracy of every point as a person reads them: between the marks of the axes."""
    texts = [t for t in root.iter("text") if t.get("class") is None]
    ups = [(float(t.get("y")) - 4, float(t.text[:-1]) / 100) for t in texts if re.fullmatch(r"[\d.]+%", t.text)]
    acrosses = [(float(t.get("x")), float(t.text)) for t in texts if re.fullmatch(r"[\d.e+]+", t.text)]
    log = any((t.text or "").endswith("log scale") for t in root.iter("text"))
    across, up = np.array(acrosses), np.array(ups)
    x_line = np.polyfit(across[:, 0], np.log(across[:, 1]) if log else across[:, 1], 1)
    y_line = np.polyfit(*up.T, 1)
    spots = np.array([(x, y) for _, x, y, _ in circles(root)])
    costs = np.polyval(x_line, spots[:, 0])
    return np.c_[np.exp(costs) if log else costs, np.polyval(y_line, spots[:, 1])], log


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=25))
def test_the_front_is_what_a_sweep_over_rising_costs_keeps(pairs):
    points = [ParetoPoint("", cost, share / 6) for cost, share in pairs]
    kept, most = set(), -1
    for cost, share in sorted(set(pairs), key=lambda pair: (pair[0], -pair[1])):
        if share > most:
            kept.add((cost, share))
            most = share
    assert front(points) == [pair in kept for pair in pairs]


@pytest.mark.parametrize("scale", [1e-5, 1, 1e9])
@pytest.mark.parametrize(("points", "is_log"), [(ZOO, True), (ZOO[3:6], False)])
def test_the_numbers_can_be_read_back_from_the_axes(points, is_log, scale):
    points = [ParetoPoint(p.name, p.cost * scale, p.accuracy, p.low, p.high) for p in points]
    root = draw(points, form=str)
    read, log = readings(root)
    assert log == is_log
    by_name = {p.name: p for p in points}
    expected = [by_name[title.split(":")[0]] for *_, title in circles(root)]
    np.testing.assert_allclose(read[:, 0], [p.cost for p in expected], rtol=0.01)
    np.testing.assert_allclose(read[:, 1], [p.accuracy for p in expected], atol=0.002)


def test_points_bars_steps_and_words_are_all_there():
    root = draw(ZOO)
    spots = {title.split(":")[0]: (mark, x, y) for mark, x, y, title in circles(root)}
    assert set(spots) == {p.name for p in ZOO}
    assert [p.name for p in ZOO if spots[p.name][0] == "dot"] == BEST
    assert sum(mark == "hollow" for mark, *_ in spots.values()) == 3
    whiskers = [w for w in root.iter("line") if w.get("class") == "span whisker" and float(w.get("y2")) > 20]
    assert len(whiskers) == 8
    for whisker, point in zip(whiskers, ZOO, strict=True):
        _, x, y = spots[point.name]
        assert float(whisker.get("x1")) == float(whisker.get("x2")) == x
        assert float(whisker.get("y1")) < y < float(whisker.get("y2"))
    (path,) = root.iter("path")
    corners = [tuple(map(float, c)) for c in re.findall(r"[MH]([\d.]+)[ V]([\d.]+)", path.get("d"))]
    assert corners == [spots[name][1:] for name in BEST]
    legend = [t.text for t in root.iter("text")]
    assert {"accuracy", "Pareto front", "dominated", "interval", "seconds, log scale"} <= set(legend)
    said = root.find("desc").text
    assert "efficientnet_b0: 87.4% (84% to 91%), seconds 180, on the front" in said
    assert "; vgg16: 83.9% (80% to 88%), seconds 900; " in said


@pytest.mark.parametrize("last", [120, 900, 10**5, 10**13])
@pytest.mark.parametrize("form", ["{:.0f}", "{:.0f} s", "about {:.0f} seconds"])
def test_marks_leave_each_other_room(last, form):
    root = draw([ParetoPoint("a", 80, 0.5), ParetoPoint("b", last, 0.6)], form=form.format)
    marks = [t for t in root.iter("text") if t.get("y") == str(HEIGHT - 40 + 16)]
    assert marks
    ends = [(float(t.get("x")) - _width(t.text) / 2, float(t.get("x")) + _width(t.text) / 2) for t in marks]
    assert ends[0][0] >= 0
    assert ends[-1][1] <= WIDTH
    assert all(right < left for (_, right), (left, _) in pairwise(ends))


def test_what_is_not_there_is_not_explained():
    texts = [t.text for t in draw([ParetoPoint("a", 1, 0.5)]).iter("text")]
    assert "dominated" not in texts
    assert "interval" not in texts


def test_spread_points_all_have_their_names():
    root = draw(ZOO)
    assert len(boxes(root)) == 8
    assert {t.text for t in root.iter("text") if t.get("class") == "name"} == {p.name for p in ZOO}


@settings(deadline=None, max_examples=60)
@given(POINTS)
def test_whatever_the_numbers_all_is_on_the_canvas_and_no_name_covers_another(points):
    root = draw(points, form="{:.3g}".format)
    spots = circles(root)
    assert len(spots) == len(points)
    names = boxes(root)
    assert names
    dots = [(x - 4, y - 4, x + 4, y + 4) for _, x, y, _ in spots]
    for left, top, right, bottom in names + dots:
        assert left >= 0
        assert top >= 18
        assert right <= WIDTH + 0.1
        assert bottom <= HEIGHT - 30
    assert not any(overlap(a, b) for a, b in combinations(names, 2))
    assert all(sum(overlap(name, dot) for dot in set(dots)) == 0 for name in names)
    percents = [float(t.text[:-1]) for t in root.iter("text") if re.fullmatch(r"[\d.]+%", t.text or "")]
    assert 0 <= min(percents) < max(percents) <= 100


def test_a_crowded_name_of_the_front_is_led_back_to_its_point():
    crowd = [ParetoPoint(f"network_{i}", 100 + i, 0.8 + 0.002 * i) for i in range(6)]
    wide = [ParetoPoint("left", 20, 0.5), ParetoPoint("right", 900, 0.99)]
    root = draw(crowd + wide)
    leads = [line for line in root.iter("line") if line.get("class") == "lead"]
    assert leads
    spots = np.array([(x, y) for _, x, y, _ in circles(root)])
    for lead in leads:
        start = float(lead.get("x1")), float(lead.get("y1"))
        assert np.abs(np.hypot(*(spots - start).T) - 5).min() < 0.15


HOSTILE = ['<script>alert("1")</script>', "a & b", "'\"><b", "line\nbreak", "right‮left", "{0}{x}", "x" * 300]


@pytest.mark.parametrize("text", HOSTILE)
def test_names_are_text_whatever_they_hold(text):
    root = draw([ParetoPoint(text, 1, 0.5), ParetoPoint("b", 2, 0.6)], x_name=text, y_name=text)
    assert {e.tag for e in root.iter()} == {"svg", "title", "desc", "line", "text", "path", "circle"}
    title = next(title for *_, title in circles(root) if not title.startswith("b:"))
    shown = text.replace("\n", "\\n").replace("‮", "\\u202e")
    assert title.startswith(f"{shown}: 50%")
    assert all(len(t.text) <= 24 for t in root.iter("text") if t.get("class") == "name")


def test_no_points_draw_nothing():
    assert pareto("a", [], x_name="seconds") == ""


@pytest.mark.parametrize(
    "numbers",
    [(-1, 0.5), (float("nan"), 0.5), (float("inf"), 0.5), (1e31, 0.5), (1, 1.01), (1, float("nan")), (1, 0.5, -0.1, 1)],
)
def test_what_cannot_be_drawn_is_refused(numbers):
    with pytest.raises(ValueError, match=r"net\\n: .*(cannot be drawn|no accuracy)"):
        ParetoPoint("net\n", *numbers)


def test_in_a_browser_letters_are_no_wider_than_was_planned(browser, tmp_path):
    path = tmp_path / "pareto.html"
    style = "svg text { font: 11.5px system-ui, sans-serif; }"
    path.write_text(f"<style>{style}</style>{pareto('a', ZOO, x_name='seconds')}", "utf-8")
    view = browser.new_page(viewport={"width": 390, "height": 800})
    view.goto(path.as_uri())
    corners = "b => [b.x, b.y, b.x + b.width, b.y + b.height]"
    found = view.evaluate(f"[...document.querySelectorAll('text')].map(t => t.getBBox()).map({corners})")
    view.close()
    assert len(found) > 20
    assert all(left >= 0 and right <= WIDTH for left, _, right, _ in found)
    lines = [(left, top + 2, right, bottom - 2) for left, top, right, bottom in found]  # without the air between lines
    assert not any(overlap(a, b) for a, b in combinations(lines, 2))


def test_a_long_name_keeps_its_network_and_its_regime():
    assert cut_within("mobilenet_v3_large_minimal features", 24) == "mobilenet_v…mal features"
    assert cut_within("resnet18 full", 24) == "resnet18 full"
