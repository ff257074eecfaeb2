"""The page says what the numbers say, needs nothing but itself, and treats every name as text."""

import io
import re
from dataclasses import fields, is_dataclass, replace
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from neocog import report as rp
from neocog.evaluate import Predictions, summarise
from neocog.report import charts, page, watch_charts
from pages import assert_closed

CLOTHES = ["dress", "hat", "longsleeve", "outwear", "pants", "shirt", "shoes", "shorts", "skirt", "t-shirt"]
SUPPORT = [15, 12, 69, 36, 42, 36, 73, 30, 12, 47]


def predictions(classes=CLOTHES, support=SUPPORT, seed=0):
    """Right about four times in five; neighbouring classes are confused with each other."""
    rng = np.random.default_rng(seed)
    k = len(classes)
    labels = np.repeat(np.arange(k), support)
    n = len(labels)
    scores = rng.normal(size=(n, k)) * 0.8
    scores[np.arange(n), labels] += rng.gamma(3, 1.6, n)
    scores[np.arange(n), (labels + rng.choice([1, 2, 7], n)) % k] += 2.2
    p = np.exp(scores)
    p = (p / p.sum(1, keepdims=True)).astype(np.float32)
    files = [f"clothing10/test/{classes[label]}/{i:05d}.jpg" for i, label in enumerate(labels)]
    return Predictions(files, ["test"] * n, list(classes), labels, p)


def png(seed, size=72):
    """A soft blob of colour, unlike any other seed's."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    colour, back = rng.uniform(40, 230, (2, 3))
    blob = ((x - rng.uniform(0.3, 0.7)) ** 2 + (y - rng.uniform(0.3, 0.7)) ** 2 < rng.uniform(0.05, 0.12))[..., None]
    buffer = io.BytesIO()
    Image.fromarray(np.where(blob, colour, back).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def watched():
    """A training seen from inside: 34 layers, the first of which began to learn late, and a bowl beside the weights."""
    epochs = tuple(i / 2 for i in range(1, 41))
    gradients = [tuple(10 ** (-layer / 8 - i / 20) for i in range(40)) for layer in range(34)]
    gradients[0] = (None,) * 10 + gradients[0][10:]
    places = tuple(i / 2 - 1 for i in range(5))
    bowl = [[0.1 + (x - 0.5) ** 2 + 2 * y**2 for x in places] for y in places]
    bowl[4][0] = None
    return rp.WatchFacts(
        findings=(
            ("The gradient vanishes on its way back.", True),
            ("2 channels are dead.", False),
        ),
        pictures=128,
        epochs=epochs,
        layers=tuple(
            rp.LayerCourse(f"stages.stage{i // 6}.{i % 6}.body.conv{i}.conv", g, g, tuple(v and v / 100 for v in g))
            for i, g in enumerate(gradients)
        ),
        stages=(
            rp.StageCourse(
                "stages.stage1",
                tuple(rp.Spread(e, 0.1 * e, 1.0, -1.0 - e, 2.0, (4, 3, 0, 9, 1, 1, 0, 2)) for e in (0.0, 10.0, 20.0)),
            ),
            rp.StageCourse("head", (), not_finite=7),
        ),
        rectifiers=tuple(rp.RectifierCourse(f"stages.r{i}", 64, (0, i), 3136, (9, 49 * i)) for i in range(30)),
        plane=rp.LossPlane(places, tuple(tuple(row) for row in bowl), 64),
    )


def make_report(predicted=None, picture=png, split="test"):
    """A report as a run of `neocog train` would fill it in."""
    predicted = predicted or predictions()
    classes = predicted.classes
    scores = rp.Scores(**summarise(predicted))

    def shown(row):
        return rp.Picture(picture(int(row)), predicted.files[row])

    mistakes = tuple(
        rp.Mistake(
            shown(i), classes[predicted.labels[i]], classes[predicted.predicted[i]], float(predicted.confidence[i])
        )
        for i in predicted.mistakes()[:12]
    )
    pairs = []
    for pair in scores.most_confused[:6]:
        is_pair = (predicted.labels == classes.index(pair["truth"])) & (
            predicted.predicted == classes.index(pair["predicted"])
        )
        pairs.append(rp.ConfusedPair(**pair, examples=tuple(shown(i) for i in np.flatnonzero(is_pair)[:4])))
    history = tuple(
        rp.Epoch(
            i,
            train_loss=2.1 * 0.8**i + 0.12,
            val_loss=1.9 * 0.82**i + 0.46 + 0.03 * np.sin(3 * i),
            train_accuracy=0.96 - 0.7 * 0.78**i,
            val_accuracy=0.84 - 0.6 * 0.76**i + 0.01 * np.cos(2 * i),
            learning_rate=0.001 * (1 + np.cos(np.pi * i / 20)) / 2,
        )
        for i in range(1, 21)
    )
    return rp.Report(
        model="mobilenet_v2",
        regime="full",
        data_name="clothing10",
        done="Published ImageNet weights, a new head for 2 epochs, then all layers for 18 at a tenth of the rate.",
        created="2025-11-21 02:24 UTC",
        warnings=(
            "2 pictures stand in both the training and the test set; they were moved to the training set.",
            "hat and skirt have only 12 test pictures each: their recall may be off by 20 points or more.",
        ),
        data=rp.DataFacts(
            source="../shared/data/clothing10",
            splits=("train", "val", "test"),
            classes=tuple(
                rp.ClassCount(name, (90, 34, s["support"])) for name, s in zip(classes, scores.per_class, strict=True)
            ),
            how_split="as the folders train, validation and test give it",
            excluded=(
                ("clothing10/train/hat/0a1b2c3d-broken.jpg", "truncated: the file ends before the picture does"),
                ("clothing10/train/shoes/readme.jpg", "not an image: the file holds text"),
            ),
            duplicates=(("leak between train and test", ("clothing10/train/hat/1.jpg", "clothing10/test/hat/7.jpg")),),
            modes=(("RGB", 1598), ("CMYK", 9), ("grey", 6)),
            notes=("31 pictures were turned upright as their EXIF orientation says.",),
        ),
        samples=tuple(rp.Picture(picture(1000 + i), f"train/{i}.jpg", classes[i % len(classes)]) for i in range(12)),
        network=rp.NetworkFacts(
            name="mobilenet_v2",
            idea="Thin layers between wide ones: each block widens, filters every channel alone, and narrows again.",
            input_shape=(3, 224, 224),
            params=2_236_682,
            macs=300_788_992,
            preprocessing="short side to 256, centre 224, mean 0.485 0.456 0.406, std 0.229 0.224 0.225",
            paper="MobileNetV2: Inverted Residuals and Linear Bottlenecks",
            year=2018,
            link="https://arxiv.org/abs/1801.04381",
            weights=(("Weights", "mobilenet_v2.safetensors (sha256 e07a2e97)"), ("Weights' licence", "Apache-2.0")),
            stages=(
                rp.Stage("stem", (32, 112, 112), 928, 10_838_016),
                rp.Stage("stage1", (16, 112, 112), 896, 10_035_200),
                rp.Stage("head", (10,), 12_810, 12_800),
            ),
        ),
        history=history,
        kept_epoch=17,
        evaluation=rp.Evaluation(split, scores, tuple(pairs), mistakes),
        training=rp.TrainingFacts(
            seconds=222.4,
            epochs=20,
            images_per_second=81.3,
            device="cpu, 2 threads",
            precision="bfloat16 autocast",
            layout="channels_last",
            versions=(("neocog", "0.1.0"), ("torch", "2.13.0"), ("Python", "3.11.2")),
        ),
        watch=watched(),
        settings=(
            rp.Setting("model", "mobilenet_v2", True),
            rp.Setting("regime", "full", True),
            *(rp.Setting(f"setting_{i}", f"{i / 100}") for i in range(20)),
        ),
        command="neocog train ../shared/data/clothing10 --model mobilenet_v2 --regime full "
        "--weights ../shared/data/weights/imagenet/mobilenet_v2.safetensors --epochs 20 --seed 0",
    )


class Seen(HTMLParser):
    """What a browser would build of a page: its tags with attributes, and its text by the id of the section."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.cells, self.section, self.in_cell = [], {}, {}, "top", False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "section":
            self.section = dict(attrs)["id"]
        if tag in ("td", "th"):
            self.in_cell = True
            self.cells.setdefault(self.section, []).append("")

    def handle_endtag(self, tag):
        self.in_cell = self.in_cell and tag not in ("td", "th")

    def handle_data(self, data):
        self.text[self.section] = self.text.get(self.section, "") + data
        if self.in_cell:
            self.cells[self.section][-1] += data

    def all_text(self):
        return " ".join(" ".join(self.text.values()).split())


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


def tags_of(html):
    """How often each tag occurs; <wbr> and <span> follow the slashes and spaces of the text itself."""
    names = [tag for tag, _ in Seen(html).tags if tag not in ("wbr", "span")]
    return {name: names.count(name) for name in names}


def assert_inert(html, plain, text):
    """`html` is the page of hostile text, `plain` that of another: the same tags, no handlers, and the text as text."""
    html.encode("utf-8")
    tags = Seen(html).tags
    assert tags_of(html) == tags_of(plain)
    assert "\u202e" not in html
    assert not any(name.startswith("on") for _, attributes in tags for name in attributes)
    assert_closed(html, tags)
    if text.isprintable():
        assert text in unescape(html)


HOSTILE = [
    "<script>alert(1)</script>",
    "{{7*7}}{% raw %}",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style></title></svg><iframe src=//evil>",
    "<!--",
    "\x1b[31mred\x07\n\u202egnp.exe",
    "caf\udce9",
    "javascript:alert(1)",
    "&lt;b&gt;",
]


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
