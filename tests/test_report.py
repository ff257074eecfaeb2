"""The page says what the numbers say, needs nothing but itself, and treats every name as text."""

import re
from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest

from made_report import CLOTHES, make_report, predictions
from neocog import report as rp
from neocog.evaluate import Predictions, summarise
from neocog.report import page
from pages import HOSTILE, Seen, assert_closed, tags_of


def all_strings_replaced(value, text):
    """The same report with every string in it replaced, numbered so that class names still differ."""
    numbers = iter(range(10**9))

    def walk(value):
        if isinstance(value, rp.Picture):
            return replace(value, file=walk(value.file), caption=walk(value.caption))
        if is_dataclass(value):
            return replace(value, **{f.name: walk(getattr(value, f.name)) for f in fields(value)})
        if isinstance(value, dict):
            return {key: walk(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(walk(item) for item in value)
        return f"{text}{next(numbers)}" if isinstance(value, str) and value else value

    # a pair looks its class up by name, so names are replaced alike
    names = {}

    def named(value):
        return names.setdefault(value, f"{text}{len(names)}")

    report = walk(replace(value, evaluation=None))
    e = value.evaluation
    scores = replace(
        e.scores,
        classes=[named(name) for name in e.scores.classes],
        per_class=[row | {"class": named(row["class"])} for row in e.scores.per_class],
    )
    pairs = tuple(replace(walk(pair), truth=named(pair.truth), predicted=named(pair.predicted)) for pair in e.pairs)
    return replace(report, evaluation=rp.Evaluation("test", scores, pairs, walk(e.mistakes)))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_in_every_field_stays_text(text):
    plain = make_report()
    html = rp.render(all_strings_replaced(plain, text))
    html.encode("utf-8")
    assert tags_of(html) == tags_of(rp.render(all_strings_replaced(plain, "plain")))
    assert not any(ord(c) < 32 and c != "\n" for c in html)
    assert "\u202e" not in html
    seen = Seen(html)
    for _, attributes in seen.tags:
        assert not any(name.startswith("on") for name in attributes)
    if text.isprintable():
        assert text in seen.all_text()
        assert text in [attributes.get("title", "")[: len(text)] for tag, attributes in seen.tags if tag == "th"]


def test_the_page_needs_nothing_but_itself():
    html = rp.render(make_report())
    tags = Seen(html).tags
    names = {tag for tag, _ in tags}
    assert {"svg", "table", "img", "style"} <= names
    assert not names & {"script", "link", "iframe", "object", "embed", "base", "form", "use", "image"}
    for _, attributes in tags:
        assert attributes.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
        assert attributes.get("href", "#").startswith("#")
    assert_closed(html, tags)


def shown(share, digits=1):
    return "–" if share is None else f"{100 * share:.{digits}f}%"


def test_the_numbers_on_the_page_are_those_of_the_summary():
    predicted = predictions()
    summary = summarise(predicted)
    seen = Seen(rp.render(make_report(predicted)))
    top = " ".join(seen.text["top"].split())
    low, high = summary["top1_interval"]
    correct = int((predicted.predicted == predicted.labels).sum())
    assert f"Of 372 test pictures, {correct} were named correctly" in top
    assert f"between {shown(low)} and {shown(high)} with 95% confidence" in top
    for key in ("top1", "top5", "balanced_accuracy", "macro_f1", "ece", "baseline"):
        assert shown(summary[key]) in top, key
    assert f"{summary['nll']:.3f}" in top

    matrix = [cell.strip() for cell in seen.cells["mistakes"]]
    k = len(CLOTHES)
    assert matrix[1 : k + 1] == CLOTHES
    rows = np.array(matrix[k + 1 : k + 1 + k * (k + 1)]).reshape(k, k + 1)
    assert rows[:, 0].tolist() == CLOTHES
    assert [[int(cell or 0) for cell in row[1:]] for row in rows] == summary["confusion"]

    table = np.array([cell.strip() for cell in seen.cells["classes"]]).reshape(k + 1, 5)[1:]
    recalls = [float(cell.rstrip("%")) for cell in table[:, 1]]
    assert recalls == sorted(recalls)
    by_name = {row["class"]: row for row in summary["per_class"]}
    assert set(table[:, 0]) == set(CLOTHES)
    for name, recall, precision, f1, support in table:
        row = by_name[name]
        expected = [shown(row["recall"]), shown(row["precision"]), shown(row["f1"]), str(row["support"])]
        assert [recall, precision, f1, support] == expected

    worst = predicted.mistakes()[0]
    assert f"called {CLOTHES[predicted.predicted[worst]]}, {shown(predicted.confidence[worst])} sure" in seen.all_text()
    assert predicted.files[worst] in seen.all_text()


def figure(predicted):
    """The one large number of the page."""
    return re.search(r'class="figure">([^<]*)<', rp.render(make_report(predicted)))[1]


def test_the_fairer_figure_leads():
    uneven, even = predictions(), predictions(support=[20] * 10)
    assert figure(uneven) == shown(summarise(uneven)["balanced_accuracy"]) != shown(summarise(uneven)["top1"])
    assert figure(even) == shown(summarise(even)["top1"])


def test_a_thousand_pictures_deserve_another_digit():
    predicted = predictions(support=[120] * 10)
    assert figure(predicted) == shown(summarise(predicted)["top1"], 2)


def test_validation_figures_are_said_to_flatter():
    assert "flatter" not in rp.render(make_report())
    assert "There was no test set" in rp.render(make_report(split="val"))


PARTS = ["data", "network", "evaluation", "training"]


@pytest.mark.parametrize("part", [*PARTS, "history", "samples", "warnings", "settings", "command"])
def test_an_absent_part_leaves_no_trace(part):
    whole = make_report()
    empty = None if part in PARTS else type(getattr(whole, part))()
    seen = Seen(rp.render(replace(whole, **{part: empty})))
    ids = {a["id"] for _, a in seen.tags if "id" in a}
    gone = {"data": {"data"}, "network": {"network"}, "samples": {"samples"}}
    gone["evaluation"] = {"mistakes", "classes", "calibration"}
    every = {a["id"] for _, a in Seen(rp.render(whole)).tags if "id" in a}
    assert every - ids == gone.get(part, set())
    assert {a["href"][1:] for tag, a in seen.tags if tag == "a"} <= ids


def test_it_says_why_these_weights_were_kept():
    report = make_report()
    assert "no epoch has a higher validation accuracy" in rp.render(report)
    by_loss = tuple(replace(epoch, val_accuracy=None) for epoch in report.history)
    html = rp.render(replace(report, history=by_loss))
    assert "no epoch has a lower validation loss" in html
    assert "higher validation accuracy" not in html


def test_a_report_of_nothing_is_a_page():
    seen = Seen(rp.render(rp.Report("lenet5", "scratch", "digits")))
    assert "lenet5 on digits" in seen.all_text()
    assert not [tag for tag, _ in seen.tags if tag in ("section", "img", "svg")]


def test_an_evaluation_without_labels_is_a_page():
    nothing = predictions().rows(np.zeros(372, bool))
    report = replace(make_report(), evaluation=rp.Evaluation("test", rp.Scores(**summarise(nothing))))
    seen = Seen(rp.render(report))
    assert "nan" not in seen.all_text()
    assert "The data" in seen.all_text()
    assert not {"mistakes", "classes"} & {a.get("id") for _, a in seen.tags}
    assert {a["href"][1:] for tag, a in seen.tags if tag == "a"} <= {a.get("id") for _, a in seen.tags}


@pytest.mark.parametrize(("k", "n"), [(2, 40), (21, 5), (102, 10), (1000, 5)])
def test_many_classes_stay_small_and_show_where_the_mistakes_are(k, n):
    predicted = predictions([f"class {i}" for i in range(k)], [n] * k)
    html = rp.render(make_report(predicted))
    assert len(html) < 2_000_000
    seen = Seen(html)
    hits = [a for tag, a in seen.tags if tag == "td" and "hit" in (a.get("class") or "")]
    assert len(hits) == (k if k <= page.HEAT_ALL else page.HEAT_PART)
    named = {cell.strip() for cell in seen.cells["classes"][::5]}
    assert named == {"Class", *predicted.classes}  # every class is in the table, folded or not


def test_the_part_of_a_large_matrix_is_where_the_mistakes_are():
    labels = np.repeat(np.arange(40), 3)
    guesses = labels.copy()
    guesses[: 3 * 20 : 3] += 1  # one mistake in each of the first 20 classes: more than there is room for
    guesses[3 * 30 : 3 * 30 + 2] = 38  # two in c30
    guesses[3 * 33 : 3 * 33 + 2] = 9  # two in c33
    p = np.eye(40, dtype=np.float32)[guesses]
    predicted = Predictions([str(i) for i in guesses], ["test"] * 120, [f"c{i}" for i in range(40)], labels, p)
    heat = page.heat(rp.Scores(**summarise(predicted)))
    assert {"c30", "c38", "c33", "c9"} <= set(heat.classes)
    assert not heat.whole
    i, j = heat.classes.index("c30"), heat.classes.index("c38")
    assert (heat.rows[i][j].count, heat.rows[i][j].hit) == (2, False)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (page.percent(0.98765), "98.8%"),
        (page.percent(None), "–"),
        (page.count(11181642), "11,181,642"),
        (page.large(1819066368), "1.82 billion"),
        (page.large(300788992), "301 million"),
        (page.large(1410), "1,410"),
        (page.duration(3.21), "3.2 s"),
        (page.duration(59.97), "1 min 0 s"),
        (page.duration(222.4), "3 min 42 s"),
        (page.duration(7325), "2 h 2 min"),
        (page.shape((3, 224, 224)), "3 × 224 × 224"),
    ],
)
def test_numbers_read_well(made, expected):
    assert made == expected


@pytest.mark.parametrize("width", [360, 390, 1280])
@pytest.mark.parametrize("text", ["", "x" * 300, "<script>document.title='taken'</script>"])
def test_in_a_browser_nothing_overflows_runs_or_loads(browser, tmp_path, width, text):
    report = make_report()
    path = tmp_path / "report.html"
    path.write_text(rp.render(all_strings_replaced(report, text) if text else report), "utf-8")
    view = browser.new_page(viewport={"width": width, "height": 800})
    loaded, complaints = [], []
    view.on("request", lambda request: loaded.append(request.url))
    view.on("console", lambda message: complaints.append(message.text))
    view.goto(path.as_uri())
    inner, outer = view.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    broken = view.evaluate("[...document.images].filter(i => !i.naturalWidth).length")
    title = view.title()
    view.close()
    assert outer == width
    assert inner <= outer
    assert broken == 0
    assert title != "taken"
    assert complaints == []
    assert [url for url in loaded if not url.startswith("data:")] == [path.as_uri()]
