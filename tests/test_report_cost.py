"""The cost page and its pictures say what the tables say, load nothing, and treat every name as text."""

import io
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import fields, is_dataclass, replace
from html import unescape

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from neocog import report as rp
from neocog.core.errors import one_line
from neocog.report import cost_model, cost_page, cost_pictures, cost_zoo
from pages import HOSTILE, Seen, assert_closed, tags_of


def conv(name, in_shape, out_shape, k, stride, padding, field, jump, offset):
    (c, _, _), (o, h, w) = in_shape, out_shape
    return rp.CostRow(
        name, "Conv2d", in_shape, out_shape, *[o * h * w * 4 / 1024] * 2, o * c * k * k + o, o * h * w * c * k * k,
        kernel=(k, k), layer_stride=(stride, stride), padding=(padding, padding), dilation=(1, 1), groups=1,
        receptive_field=(field, field), smallest_field=(field, field), stride=(jump, jump), offset=(offset, offset),
    )  # fmt: skip


def pool(name, in_shape, out_shape, field, jump, offset):
    o, h, w = out_shape
    return rp.CostRow(
        name, "MaxPool2d", in_shape, out_shape, *[o * h * w * 4 / 1024] * 2, 0, 0, other_ops=o * h * w * 9,
        kernel=(3, 3), layer_stride=(2, 2), padding=(0, 0), dilation=(1, 1),
        receptive_field=(field, field), smallest_field=(field, field), stride=(jump, jump), offset=(offset, offset),
    )  # fmt: skip


def dense(name, n, m):
    return rp.CostRow(
        name, "Linear", (n,), (m,), m * 4 / 1024, m * 4 / 1024, n * m + m, n * m,
        receptive_field=("whole", "whole"), smallest_field=("whole", "whole"), stride=(None, None), offset=(None, None),
    )  # fmt: skip


ALEXNET = (
    conv("conv1", (3, 227, 227), (64, 56, 56), 11, 4, 2, 11, 4.0, 3.0),
    replace(pool("pool1", (64, 56, 56), (64, 27, 27), 19, 8.0, 7.0), written_kib=500.0),  # with indices
    conv("conv2", (64, 27, 27), (192, 27, 27), 5, 1, 2, 51, 8.0, 7.0),
    pool("pool2", (192, 27, 27), (192, 13, 13), 67, 16.0, 15.0),
    conv("conv3", (192, 13, 13), (384, 13, 13), 3, 1, 1, 99, 16.0, 15.0),
    conv("conv4", (384, 13, 13), (256, 13, 13), 3, 1, 1, 131, 16.0, 15.0),
    conv("conv5", (256, 13, 13), (256, 13, 13), 3, 1, 1, 163, 16.0, 15.0),
    pool("pool5", (256, 13, 13), (256, 6, 6), 195, 32.0, 31.0),
    dense("fc6", 9216, 4096),
    dense("fc7", 4096, 4096),
    dense("fc8", 4096, 1000),
)

MIB = 1024 * 1024
TRAINING = rp.CostTraining(
    batch=64, optimizer="SGD", precision="float32", parameters=240 * MIB, gradients=240 * MIB,
    optimizer_state=240 * MIB, saved_activations=900 * MIB, inputs=40 * MIB, rest=60 * MIB, limit=12 * 1024 * MIB,
    limit_name="GPU 0 (RTX 3060)", largest_batch=801, seconds_per_epoch=312.4, pictures=50_000, notes=("Estimated.",),
)  # fmt: skip

ZOO = tuple(
    rp.ZooPoint(*facts)
    for facts in (
        ("alexnet", 714_188_480, 61_100_840, 56.522, 2012),
        ("vgg16", 15_470_264_320, 138_357_544, 71.592, 2014),
        ("vgg19", 19_632_062_464, 143_667_240, 72.376, 2014),
        ("googlenet", 1_582_671_872, 6_998_552, 69.778, 2014),
        ("resnet18", 1_814_073_344, 11_689_512, 69.758, 2015),
        ("resnet50", 4_089_184_256, 25_557_032, 80.858, 2015),
        ("resnet152", 11_513_626_624, 60_192_808, 82.284, 2015),
        ("mobilenet_v2", 300_774_272, 3_504_872, 72.154, 2018),
        ("shufflenet_v2_x0_5", 40_476_448, 1_366_792, 60.552, 2018),
        ("efficientnet_b0", 385_814_752, 5_288_548, 77.692, 2019),
        ("convnext_large", 34_361_433_600, 197_767_336, 84.414, 2022),
        ("vit_l_16", 61_554_712_576, 304_326_632, 79.662, None),
    )
)


def make_network(name="alexnet", rows=ALEXNET, **more):
    sums = {key: sum(getattr(row, key) for row in rows) for key in ("params", "macs", "other_ops")}
    sums["memory_kib"] = sum(row.written_kib for row in rows)
    facts = {"receptive_field": (195, 195), "training": TRAINING, "idea": "Five convolutions.", "paper": "ImageNet"}
    facts |= {"year": 2012, "link": "https://example.org/a", "notes": ("A note.",)} | sums | more
    return rp.CostNetwork(name, ((3, 227, 227),), "float32", rows=rows, **facts)


def deep(blocks=10, layers=150, name="deep"):
    rows = [
        replace(ALEXNET[2], name=f"stages.stage{b}.block{i // 10}.conv{i % 10}", written_kib=float(b + i))
        for b in range(blocks)
        for i in range(layers)
    ]
    return make_network(name, tuple(rows))


def make_page(*networks, **more):
    facts = {"zoo": ZOO, "created": "2026-11-21 13:20 UTC", "command": "neocog cost alexnet --report cost.html"}
    return rp.CostPage("What alexnet costs", networks or (make_network(),), **facts | more)


def text_of(html):
    """The body's text, with a space where a tag was."""
    body = html[html.index("<body>") :].replace("<wbr>", "")
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


def test_the_numbers_of_the_network_are_on_the_page():
    page = make_page(make_network(unused_params=77))
    text, n = text_of(rp.render_cost(page)), page.networks[0]
    assert f"Parameters {n.params / 1e6:.3g} million {n.params:,}, of which 77 took no part" in text
    assert f"MACs {n.macs / 1e6:.3g} million {2 * n.macs / 1e9:.3g} billion FLOPs, counted as 2 × MACs" in text
    assert f"{n.memory_kib / 1024:.3g} MiB outputs of all layers, one picture of 3 × 227 × 227, float32" in text
    assert "Receptive field 195 × 195" in text
    for part in ("Five convolutions.", "ImageNet (2012)", "https://example.org/a", "A note.", page.created):
        assert part in text


def cells_of(html, part):
    return [cell.strip() for cell in Seen(html).cells[part]]


def test_every_layer_has_its_row_of_the_table():
    cells = cells_of(rp.render_cost(make_page()), "n1-layers")
    rows = [cells[i : i + 11] for i in range(0, len(cells), 11)]
    assert len(rows) == 1 + len(ALEXNET)
    first, last = ALEXNET[0], ALEXNET[-1]
    assert rows[1] == [
        "conv1Conv2d", "3 × 227 × 227", "64 × 56 × 56", "11 × 11, stride 4, padding 2", "784", f"{first.params:,}",
        f"{first.macs:,}", "0", "11 × 11", "4", "3",
    ]  # fmt: skip
    assert rows[2][4] == "182writes 500"
    whole = ["3.91", f"{last.params:,}", f"{last.macs:,}", "0", "whole", "–", "–"]
    assert rows[-1] == ["fc8Linear", "4096", "1000", "", *whole]


def test_the_bars_are_drawn_to_scale():
    html = rp.render_cost(make_page())
    drawn = re.findall(r'<div class="lane (\w+)">(?:<i style="--s:([\d.]+)"></i>)?<span>([^<]*)</span>', html)
    assert len(drawn) == 3 * len(ALEXNET)
    for key, field in (("memory", "written_kib"), ("params", "params"), ("macs", "macs")):
        values = np.array([getattr(row, field) for row in ALEXNET])
        shares = [float(share or 0) for k, share, _ in drawn if k == key]
        np.testing.assert_allclose(shares, values / values.max(), atol=1e-4)
        assert [bool(text) for k, _, text in drawn if k == key] == [bool(v) for v in values]  # a zero is an empty place


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "It fits: a batch of 64 takes about 1.68 GiB of the 12 GiB of GPU 0 (RTX 3060). "
             "The largest batch that fits is 801."),
        ({"limit": 1024 * MIB, "largest_batch": 12}, "It does not fit: a batch of 64 takes about 1.68 GiB of the 1 GiB "
             "of GPU 0 (RTX 3060). The largest batch that fits is 12."),
        ({"limit": 1, "largest_batch": 0, "limit_name": ""}, "Not even one picture at a time fits."),
        ({"limit": None, "largest_batch": None}, "A batch of 64 takes about 1.68 GiB."),
    ],
)  # fmt: skip
def test_the_page_answers_whether_training_fits(change, said):
    html = rp.render_cost(make_page(make_network(training=replace(TRAINING, **change))))
    text = text_of(html)
    assert said in text
    assert "An epoch of 50,000 pictures takes about 5 min 12 s." in text
    assert "state of SGD 240 MiB" in text
    assert "Together 1.68 GiB" in text
    stack = html[html.index('<div class="stack"') : html.index('<table class="parts">')]
    shares = [float(s) for s in re.findall(r'<i class="\w+" style="--s:([\d.]+)"', stack)]
    peak, limit = TRAINING.peak, {"limit": TRAINING.limit, **change}["limit"]
    assert sum(shares) == pytest.approx(min(1, peak / max(limit or 0, peak)), abs=1e-3)
    assert ('<b style="--s:' in stack) == (limit is not None)


def test_without_training_or_zoo_or_command_nothing_of_them_is_left():
    whole = rp.render_cost(make_page())
    bare = rp.render_cost(make_page(make_network(training=None), zoo=(), command=""))
    ids = [{a["id"] for _, a in Seen(html).tags if "id" in a} for html in (whole, bare)]
    assert ids[0] - ids[1] == {"n1-training", "zoo", "command"}
    assert {a["href"][1:] for tag, a in Seen(bare).tags if tag == "a"} <= ids[1]
    assert not [tag for tag, _ in Seen(bare).tags if tag == "svg"]


def test_partial_sums_are_said_to_be_a_lower_bound():
    partial = make_network(
        partial=("torchvision::deform_conv2d",), rows=(replace(ALEXNET[0], unknown=("torchvision::deform_conv2d",)),)
    )
    text = text_of(rp.render_cost(make_page(partial)))
    assert "MACs are a lower bound. There is no formula for torchvision::deform_conv2d" in text
    assert "at least" in text
    assert "conv1 Conv2d no formula for torchvision::deform_conv2d 3 × 227 × 227" in text
    together = cells_of(rp.render_cost(make_page(partial, make_network("other"))), "together")
    assert "alexnet3 × 227 × 227lower bound" in together
    assert "other3 × 227 × 227" in together
    assert "lower bound" in rp.bars_picture([partial], "svg").decode()
    for whole in (text_of(rp.render_cost(make_page())), rp.bars_picture([make_network()], "svg").decode()):
        assert "lower bound" not in whole


def test_several_networks_stand_side_by_side_and_then_each_for_itself():
    small = make_network("lenet", ALEXNET[:2], training=None, receptive_field=None)
    html = rp.render_cost(make_page(make_network(), small))
    cells = cells_of(html, "together")
    columns = 10
    assert len(cells) == 3 * columns
    assert cells[columns] == "alexnet3 × 227 × 227"
    n = make_network()
    assert cells[columns + 1 : columns + 5] == [
        f"{n.memory_kib / 1024:.3g} MiB", f"{n.params / 1e6:.3g} million", f"{n.macs / 1e6:.3g} million",
        f"{n.flops / 1e9:.3g} billion",
    ]  # fmt: skip
    assert cells[columns + 5 : 2 * columns] == ["11", "195 × 195", "1.68 GiBbatch 64", "801", "5 min 12 s"]
    assert cells[-4:] == ["–"] * 4
    seen = Seen(html)
    assert {"n1", "n2", "zoo"} <= {a.get("id") for _, a in seen.tags}
    assert "Without a published accuracy, and so not in the picture: lenet." in seen.all_text()


def test_fifteen_hundred_layers_are_all_in_the_table_and_few_in_the_bars():
    network = deep()
    html = rp.render_cost(make_page(network))
    assert len(html) < 2_000_000
    cells = cells_of(html, "n1-layers")
    names = {row.name for row in network.rows}
    assert {cell.removesuffix("Conv2d") for cell in cells} >= names
    assert "1,476 more" in text_of(html)
    assert html.count('<div class="lane macs">') == 10
    assert "1,500 layers drawn as 10 modules" in text_of(html)
    assert "1,500 layers drawn as 10 modules" in rp.bars_picture([network], "svg").decode()


SUMS = ("memory_kib", "written_kib", "params", "macs", "other_ops", "calls")
NAMES = st.lists(st.lists(st.sampled_from(["a", "b", "stage1"]), min_size=1, max_size=4).map(".".join), max_size=40)


@settings(deadline=None)
@given(NAMES, st.integers(1, 20))
def test_folding_keeps_the_sums_and_the_limit(names, limit):
    rows = [replace(ALEXNET[i % 11], name=name) for i, name in enumerate(names)]
    folded = cost_model.fold(rows, limit)
    assert len(folded.rows) <= max(limit, 0)
    assert bool(folded.how) == (len(rows) > limit)
    for field in SUMS:
        assert sum(getattr(r, field) for r in folded.rows) == pytest.approx(sum(getattr(r, field) for r in rows))
    if rows:
        assert folded.rows[0].in_shape == rows[0].in_shape
        assert folded.rows[-1].out_shape == rows[-1].out_shape


def test_folding_cuts_names_at_one_depth_opens_what_is_too_coarse_and_takes_runs_of_a_flat_list():
    assert [r.name for r in cost_model.fold(deep(3, 150).rows, 50).rows] == [
        f"stages.stage{b}.block{i}" for b in range(3) for i in range(15)
    ]
    opened = [*deep(5, 20).rows, *(replace(ALEXNET[1], name=f"head.part{i}") for i in range(20))]
    assert [r.name for r in cost_model.fold(opened, 10).rows] == [*(f"stages.stage{b}" for b in range(5)), "head"]
    flat = [replace(ALEXNET[0], name=str(i)) for i in range(100)]
    runs = cost_model.fold(flat, 30)
    assert [r.name for r in runs.rows][:2] == ["0 … 3", "4 … 7"]
    assert "25 runs" in runs.how


def renamed(page, text):
    """The same page with every string in it replaced; equal names stay equal, so the zoo still finds its networks."""
    names = {}

    def walk(value):
        if is_dataclass(value):
            return replace(value, **{f.name: walk(getattr(value, f.name)) for f in fields(value)})
        if isinstance(value, tuple):
            return tuple(map(walk, value))
        return names.setdefault(value, f"{text}{len(names)}") if isinstance(value, str) and value else value

    return walk(page)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("networks", [1, 2])
def test_hostile_text_in_every_field_stays_text(text, networks):
    row = replace(ALEXNET[0], unknown=("an_op",), field_lost_at="einsum", smallest_field=(7, 7))
    known = [make_network(name, (row, *ALEXNET), partial=("an_op",)) for name in ("alexnet", "vgg16")]
    page = make_page(*known[:networks])
    html = rp.render_cost(renamed(page, text))
    html.encode("utf-8")
    plain = "p" * len(one_line(text))  # as long: the zoo has room for as many names
    assert tags_of(html) == tags_of(rp.render_cost(renamed(page, plain)))
    assert not any(ord(c) < 32 and c != "\n" for c in html)
    assert "\u202e" not in html
    seen = Seen(html)
    assert not any(name.startswith("on") for _, attributes in seen.tags for name in attributes)
    if text.isprintable():
        assert seen.all_text().count(text) > 10


@pytest.mark.parametrize("text", [*HOSTILE, "$x^{$", "層", "x" * 300])
def test_hostile_names_are_drawn_as_text(text):
    page = renamed(make_page(), text)
    for svg in (
        rp.bars_picture(page.networks, "svg"),
        rp.zoo_picture(page.zoo, {page.networks[0].name}, "svg"),
    ):
        tags = {element.tag.split("}")[-1] for element in ET.fromstring(svg).iter()}
        assert not tags & {"script", "image", "a", "iframe", "img", "foreignObject"}


def test_the_page_needs_nothing_but_itself():
    html = rp.render_cost(make_page(make_network(), deep()))
    tags = Seen(html).tags
    names = {tag for tag, _ in tags}
    assert {"svg", "table", "style"} <= names
    assert not names & {"script", "link", "iframe", "object", "embed", "base", "form", "use", "image", "img"}
    assert all(a.get("href", "#").startswith("#") and "src" not in a for _, a in tags)
    assert_closed(html, tags)


def test_the_zoo_is_drawn_to_scale_and_the_pages_networks_stand_out():
    html = rp.render_cost(make_page(make_network(), make_network("resnet50")))
    wide = html[html.index('<div class="zoo wide">') : html.index('<div class="zoo narrow">')]
    found = re.findall(r'<circle class="net( mine)?" cx="([\d.]+)" cy="([\d.]+)" r="([\d.]+)"><title>(\w+)', wide)
    assert {name for mine, *_, name in found if mine} == {"alexnet", "resnet50"}
    assert {name for *_, name in found} == {p.name for p in ZOO}
    at = {name: np.array([float(x), float(y), float(r)]) for _, x, y, r, name in found}
    for a, b in (("alexnet", "vgg16"), ("resnet50", "vit_l_16")):
        p, q = (next(z for z in ZOO if z.name == name) for name in (a, b))
        every = at["convnext_large"][0] - at["alexnet"][0]
        share = np.log(q.macs / p.macs) / np.log(34_361_433_600 / 714_188_480)
        assert at[b][0] - at[a][0] == pytest.approx(every * share, abs=0.3)
        assert (at[b][2] / at[a][2]) ** 2 == pytest.approx(q.params / p.params, rel=0.03)
    assert at["alexnet"][1] > at["vgg16"][1] > at["resnet50"][1]
    assert re.findall(r'<text class="name mine"[^>]*>([^<]*)<', wide) == ["alexnet", "resnet50"]


def overlap(a, b, size):
    across = a.left < b.left + b.width and b.left < a.left + a.width
    return across and abs(a.base - b.base) < size


LABELS = st.lists(
    st.builds(
        cost_zoo.Label, st.text("abc", min_size=1, max_size=18), st.floats(0, 700), st.floats(0, 400),
        st.floats(2, 30), st.booleans(),
    ),
    max_size=40,
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(LABELS)
def test_names_in_the_zoo_never_cover_each_other(labels):
    placed = cost_zoo.place(labels, 11, (0, 0, 700, 400), most=10)
    assert sum(not p.label.bold for p in placed) <= 10
    for i, p in enumerate(placed):
        assert p.left >= 0
        assert p.left + p.width <= 700
        assert 11 <= p.base <= 400
        assert not any(overlap(p, other, 11) for other in placed[:i])


def test_crowded_names_of_the_page_are_all_shown_and_led_back_to_their_circles():
    crowd = [cost_zoo.Label(f"network_{i}", 300 + i, 200.0, 5, bold=True) for i in range(8)]
    placed = cost_zoo.place(crowd, 11, (0, 0, 700, 400))
    assert len(placed) == 8
    far = [p for p in placed if p.lead]
    assert far
    for p in far:
        x, y, _, _ = p.lead
        assert np.hypot(x - p.label.x, y - p.label.y) == pytest.approx(p.label.r)


@pytest.mark.parametrize(("low", "high"), [(1, 1), (5e8, 5e8), (1e6, 1e12), (4e7, 6e10), (1e9, 2e9)])
@pytest.mark.parametrize("most", [4, 9])
def test_the_axis_has_some_round_marks_within_its_ends(low, high, most):
    left, right, marks = cost_zoo.macs_axis([int(low), int(high)], most)
    assert left < low <= high < right
    assert len(marks) <= max(most, 7)
    assert all(left < m < right for m in marks)
    assert marks or high / low < 5


PICTURES = {
    "bars": lambda format: rp.bars_picture([make_network()], format),
    "deep": lambda format: rp.bars_picture([deep(), make_network()], format),
    "zoo": lambda format: rp.zoo_picture(ZOO, {"alexnet"}, format),
    "one": lambda format: rp.zoo_picture(ZOO[:1], (), format),
    "none": lambda format: rp.zoo_picture((), (), format),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_the_same_bytes_each_time_whatever_style_is_set(name):
    svg, png = PICTURES[name]("svg"), PICTURES[name]("png")
    root = ET.fromstring(svg)
    assert root.tag.endswith("svg")
    with Image.open(io.BytesIO(png)) as image:
        image.load()
        assert image.width >= 1600
        assert len(image.convert("RGB").getcolors(1 << 24)) > 10
    style = {"font.size": 30, "svg.hashsalt": "other", "axes.facecolor": "red", "text.color": "green"}
    with matplotlib.rc_context(style):
        assert PICTURES[name]("svg") == svg
        assert PICTURES[name]("png") == png
        assert matplotlib.rcParams["font.size"] == 30  # and is left as it was


def test_the_numbers_of_the_bars_are_printed_beside_them():
    svg = rp.bars_picture([make_network()], "svg").decode()
    for said in ("conv1", "fc8", "61.1 million in all", "3 × 227 × 227", "37.8", "float32"):
        assert f"<!-- {said}" in svg or said in svg, said


def test_pictures_need_no_window_and_a_page_no_matplotlib():
    code = (
        "import sys\nfrom neocog import report as rp\n"
        "rp.render_cost(rp.CostPage('t', ()))\n"
        "assert 'matplotlib' not in sys.modules\n"
        "rp.zoo_picture((), (), 'svg')\n"
        "rp.bars_picture((), 'svg')\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (cost_page.amount(0), "0 KiB"),
        (cost_page.amount(784), "784 KiB"),
        (cost_page.amount(1536), "1.5 MiB"),
        (cost_page.amount(3 * 1024**2), "3 GiB"),
        (cost_page.small(12345.6), "12,346"),
        (cost_page.small(3.90625), "3.91"),
        (cost_page.axes((7, 7)), "7 × 7"),
        (cost_page.axes((7, "whole")), "7 × whole"),
        (cost_page.axes(("whole", "whole")), "whole"),
        (cost_page.axes((2.0, 4.5), True), "2 × 4.5"),
        (cost_page.axes((None, None)), "–"),
        (cost_page.axes(None), "–"),
        (cost_page.window(ALEXNET[0]), "11 × 11, stride 4, padding 2"),
        (cost_page.window(replace(ALEXNET[4], groups=64, dilation=(2, 2))), "3 × 3, padding 1, dilation 2, groups 64"),
        (cost_page.window(replace(ALEXNET[4], padding=(0, 3))), "3 × 3, padding 0 × 3"),
        (cost_zoo.short(3e9), "3 billion"),
        (cost_pictures.NUMBER[0].text(0), ""),
        (cost_pictures.NUMBER[2].text(5), "<0.01"),
        (cost_pictures.NUMBER[2].text(23_296), "0.023"),
        (cost_pictures.NUMBER[2].text(223_948_800), "224"),
    ],
)  # fmt: skip
def test_numbers_read_well(made, expected):
    assert made == expected


@pytest.mark.parametrize("width", [360, 390, 1200])
@pytest.mark.parametrize("text", ["", "x" * 300, "<script>document.title='taken'</script>"])
@pytest.mark.parametrize("networks", [1, 2])
def test_in_a_browser_nothing_overflows_runs_or_loads(browser, tmp_path, width, text, networks):
    page = make_page(*[make_network(partial=("an_op",)), deep(12, 40)][:networks])
    path = tmp_path / "cost.html"
    html = rp.render_cost(renamed(page, text) if text else page)
    path.write_text(html.replace("<details>", "<details open>"), "utf-8")
    view = browser.new_page(viewport={"width": width, "height": 800})
    loaded, complaints = [], []
    view.on("request", lambda request: loaded.append(request.url))
    view.on("console", lambda message: complaints.append(message.text))
    view.goto(path.as_uri())
    inner, outer = view.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    title = view.title()
    view.close()
    assert outer == width
    assert inner <= outer
    assert title != "taken"
    assert complaints == []
    assert loaded == [path.as_uri()]
