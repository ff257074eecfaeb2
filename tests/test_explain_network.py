"""`neocog explain RUN`: the page of a network, with filters that were silenced on purpose."""

import io
import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import neocog as package
from command import Command, one_line_error
from draw import drawn, pictures
from drawn import colours
from neocog import report
from neocog.app import explaining_fooled
from neocog.app.explaining_making import Maker, front
from neocog.app.explaining_map import CELLS, laid_out
from neocog.app.explaining_network import network_page
from neocog.app.explaining_stages import most_varying
from neocog.app.opened import Opened
from neocog.app.plane import on_plane
from neocog.core.contracts import Network
from neocog.core.errors import DataError
from neocog.costs.cost import cost
from neocog.explaining.taps import Tapped, stage_names
from neocog.explaining.visualise import Channel, visualise
from neocog.models import vit
from pages import Seen, assert_closed
from untouched import fingerprint


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data`: three classes of colours, some of the first called by the second's name; `run`: a classifier; `dense`:
    one without a convolution; `coder`: an autoencoder."""
    place = tmp_path_factory.mktemp("network")
    colours(place / "data", 40, noise=100, tint=60)
    for i in range(16):
        (place / "data" / "blue" / f"{i:02}.png").rename(place / "data" / "green" / f"false-{i}.png")
    common: Any = {"image_size": 28, "batch_size": 8, "device": "cpu"}
    package.train(place / "data", "mnist_convnet", out=place / "run", epochs=2, lr=0.003, **common)
    package.train(place / "data", "mnist_dense", out=place / "dense", epochs=1, **common)
    package.train(place / "data", "conv_ae", out=place / "coder", epochs=1, **common)
    return place


@pytest.fixture(scope="module")
def whole(made: Path) -> Path:
    return package.explain(made / "run", made=1, out=made / "whole.html").path


def test_the_page_says_what_was_learned(neocog: Command, made: Path, whole: Path) -> None:
    html = whole.read_text("utf-8")
    seen = Seen(html)
    assert_closed(html, seen.tags)
    assert [a["id"] for tag, a in seen.tags if tag == "section"] == ["filters", "channels", "map", "fooled", "cost"]
    texts = [a.get("alt", "") for tag, a in seen.tags if tag == "img"]
    assert sum(text.startswith("kernel ") for text in texts) == 32  # one for each filter of the first convolution
    assert {int(text.split()[1]) for text in texts if text.startswith("kernel ")} == set(range(32))
    assert sum(text.startswith("made to excite channel") for text in texts) == 2  # stages
    assert sum(text.startswith("made for ") for text in texts) == 3  # classes
    assert sum(text.startswith("excites channel") for text in texts) == 2 * 3 * 6
    assert "conv2.conv: 8 of 64 filters, 8 of 32 inputs, 3 × 3" in seen.text["filters"]
    assert seen.cells["cost"][5:10] == [
        "conv1",
        "32 × 13 × 13",
        "896",
        "584,064",
        "4 × 4",
    ]


def test_from_the_command_line(neocog: Command, made: Path, tmp_path: Path) -> None:
    result = neocog("explain", made / "run", "--made", 0, "--json")
    assert result.code == 0, result.err
    told = json.loads(result.out)
    assert Path(told["page"]) == made / "run-network.html"
    assert told["filters"]["conv1"] | {"dead": 0} == {"convolutions": 1, "filters": 32, "silent": 0, "dead": 0}
    assert told["made"] == 0
    html = (made / "run-network.html").read_text("utf-8")
    assert html.count('class="shown') == told["map"]["thumbnails"] > 3
    assert html.count('class="shown') + html.count('class="dot') == told["map"]["shown"] == told["map"]["pictures"]
    assert "made to excite" not in html
    said = Seen(html).text["channels"]
    assert "No pictures were made that excite channels and classes, as was asked" in said
    assert "--made 1" in said
    assert "multiply-accumulates" not in said  # nothing was left out for its cost
    again = neocog("explain", made / "run", "--made", 0, "--no-training")
    assert "run-network-2.html" in again.out  # nothing is overwritten
    (made / "run-network-2.html").unlink()
    (made / "run-network.html").unlink()
    for option, value in (("--class", "red"), ("--layer", "conv1")):
        result = neocog("explain", made / "run", option, value)
        one_line_error(result, 2, f"{option} does not go with the page of the network", "a picture")
    one_line_error(neocog("explain", made / "run", "--map", "umap"), 2, "umap", "pca or tsne")
    one_line_error(neocog("explain", made / "coder"), 2, "autoencoder")


def test_what_was_silenced_is_named_and_nothing_changes(made: Path) -> None:
    opened = Opened.of(made / "run")
    conv: Any = opened.network.get_submodule("stages.conv1.conv")
    with torch.no_grad():
        conv.weight[[5, 17]] = 0
        conv.bias[5] = -1
        conv.weight[9], conv.bias[9] = 1e-4 * conv.weight[9], 1  # changes, but hardly
        conv.bias[20] = -100  # has weights, but never comes above 0
    before = fingerprint(opened.network)
    page = network_page(opened, made=1)
    assert fingerprint(opened.network) == before
    [found] = [one for one in page.filters.quiet if one.layer == "stages.conv1.conv"]
    assert found.silent == (5, 9, 17)
    assert set(found.dead) >= {5, 17, 20}
    assert 9 not in found.dead
    counted = {one.stage: one for one in page.filters.counted}
    assert (counted["conv1"].silent, counted["conv1"].dead) == (3, len(found.dead))
    assert [kernel.number for kernel in page.filters.kernels if kernel.silent] == [9, 5, 17]  # by norm, then number
    for kernel in page.filters.kernels:  # on the others' scale there is next to nothing in a silent one
        painted = np.asarray(Image.open(io.BytesIO(kernel.png)).convert("RGB"), int)
        assert (np.ptp(painted) <= 2) == kernel.silent
    seen = Seen(report.render_network(page))
    cells = seen.cells["filters"]
    assert cells[cells.index("conv1.conv") + 2] == "5, 9, 17"
    looked, of = page.looked
    assert f"never changed on {looked} of the {of} training pictures" in seen.text["filters"]
    assert "spots of colour" in seen.text["filters"]
    grey = replace(page, filters=replace(page.filters, reads=1))
    assert "colour" not in Seen(report.render_network(grey)).text["filters"]


def test_the_idea_is_the_networks_not_the_runs(whole: Path) -> None:
    said = Seen(whole.read_text("utf-8")).all_text()
    assert "The idea behind mnist_convnet: “Two small convolutions and one dense layer read digits.”" in said
    assert "Here it tells 3 classes apart" in said


def test_the_channels_of_a_stage_stand_in_the_order_of_what_they_add(made: Path) -> None:
    page = network_page(Opened.of(made / "run"), made=0)
    said = Seen(report.render_network(page)).text["channels"]
    for stage in page.channels:
        assert len(stage.adds) == len(stage.channels) == 3
        assert list(stage.adds) == sorted(stage.adds, reverse=True)
        assert stage.adds[0] == stage.channels[0].share
        for channel, adds in zip(stage.channels[1:], stage.adds[1:], strict=True):
            assert 0 < adds < channel.share
            assert f"{channel.share:.1%} of what varies in this stage, of which it adds {adds:.1%}" in said


def test_without_pictures_there_are_still_filters(neocog: Command, made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "run", tmp_path / "run")
    config = (tmp_path / "run" / "config.toml").read_text()
    (tmp_path / "run" / "config.toml").write_text(config.replace(str(made / "data"), str(tmp_path / "gone")))
    one_line_error(neocog("explain", tmp_path / "run"), 3, "gone", "--no-training")
    result = neocog("explain", tmp_path / "run", "--no-training", "--made", 2, "--json")
    assert result.code == 0, result.err
    told = json.loads(result.out)
    assert told["map"] is None
    assert told["filters"]["conv1"]["dead"] is None
    assert told["channels"] == {"conv1": [0, 1], "conv2": [0, 1]}
    html = (tmp_path / "run-network.html").read_text("utf-8")
    seen = Seen(html)
    assert "No pictures were looked at" in seen.text["top"]
    assert [a["id"] for tag, a in seen.tags if tag == "section"] == ["filters", "channels", "cost"]
    assert "excites channel" not in str(seen.tags)
    assert_closed(html, seen.tags)


def test_what_is_empty_is_left_out(made: Path, tmp_path: Path) -> None:
    """With neither pictures to look at nor any to be made there is no section of channels, and no link to one."""
    weights = made / "run" / "model" / "model.safetensors"
    package.explain("mnist_convnet", weights=str(weights), classes=["a", "b", "c"], made=0, out=tmp_path / "a.html")
    html = (tmp_path / "a.html").read_text("utf-8")
    seen = Seen(html)
    assert [a["id"] for tag, a in seen.tags if tag == "section"] == ["filters", "cost"]
    assert [a["href"] for tag, a in seen.tags if tag == "a"] == ["#filters", "#cost"]
    assert_closed(html, seen.tags)
    assert f"neocog explain mnist_convnet --weights {weights} --made 1" in seen.all_text()


def test_the_command_for_every_layer_counts_what_the_page_counts(neocog: Command, made: Path, tmp_path: Path) -> None:
    """Of a run with its own size and classes, and of a network by name with the same weights."""
    weights = str(made / "run" / "model" / "model.safetensors")
    runs: list[dict[str, Any]] = [
        {"run": made / "run"}, {"run": "mnist_convnet", "weights": weights, "classes": ["a", "b", "c"]},
    ]  # fmt: skip
    for given in runs:
        page = package.explain(**given, made=0, training=False, out=tmp_path / f"{len(given)}.html").page
        said = Seen((tmp_path / f"{len(given)}.html").read_text("utf-8")).all_text()
        words = shlex.split(said.partition("Layer by layer: neocog ")[2].partition(". ")[0])
        assert words[0] == "cost"
        result = neocog(*words)
        assert result.code == 0, result.err
        assert len(page.classes) == 3  # by its name alone it has ten
        assert f"{page.params:,} parameters; {page.macs:,} MACs" in result.out


def test_a_network_without_a_convolution(made: Path, tmp_path: Path) -> None:
    page = package.explain(made / "dense", made=1, out=tmp_path / "dense.html").page
    seen = Seen((tmp_path / "dense.html").read_text("utf-8"))
    assert "has no convolution" in seen.text["filters"]
    assert [len(stage.channels) for stage in page.channels] == [3, 3, 3]
    assert all(stage.whole and not channel.patches for stage in page.channels for channel in stage.channels)
    assert all(stage.channels[0].made for stage in page.channels)
    assert "no place in the picture" in seen.text["channels"]
    assert page.map is not None


def test_a_network_of_tokens(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vit.SIZES, "b", (2, 24, 48, 3))
    common: Any = {"image_size": 32, "batch_size": 8, "device": "cpu"}
    package.train(made / "data", "vit_b_16", out=tmp_path / "run", epochs=1, **common)
    page = package.explain(tmp_path / "run", made=1, out=tmp_path / "page.html").page
    assert page.filters.of == len(page.filters.kernels) == 24
    assert page.filters.kernel == (16, 16)
    assert [stage.stage for stage in page.channels] == ["layer0", "layer1"]
    assert all(len(channel.patches) == 6 for stage in page.channels for channel in stage.channels)
    assert all(stage.of == 24 for stage in page.channels)


def test_the_plane_is_that_of_singular_vectors() -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32) * np.arange(1, 8, dtype=np.float32)
    points, (right, up) = on_plane(vectors)
    centred = vectors.astype(np.float64) - vectors.mean(0, dtype=np.float64)
    left, scale, _ = np.linalg.svd(centred, full_matrices=False)
    for axis in (0, 1):
        wanted = left[:, axis] * scale[axis]
        assert min(np.abs(points[:, axis] - wanted).max(), np.abs(points[:, axis] + wanted).max()) < 1e-9
    shares = scale**2 / (scale**2).sum()
    assert f"({shares[0]:.0%} of the variance)" in right
    assert f"({shares[1]:.0%} of the variance)" in up
    assert on_plane(np.ones((4, 1), np.float32))[0].shape == (4, 2)


def test_each_cell_has_one_thumbnail_and_wrong_answers_come_first() -> None:
    draw = np.random.default_rng(0)
    points, wrong = draw.normal(size=(500, 2)), draw.random(500) < 0.1
    places, first = laid_out(points, wrong)
    assert places.min() >= 0
    assert places.max() <= 1
    cells = np.floor(places * CELLS).clip(0, CELLS - 1).astype(int) @ (CELLS, 1)
    assert len(set(cells[first])) == first.sum() <= 300
    assert first.sum() > 50
    assert set(cells[~first]) <= set(cells[first])  # a dot lies where a thumbnail stands
    holders = {cell: wrong[i] for cell, i in zip(cells[first], np.flatnonzero(first), strict=True)}
    assert any(wrong)
    assert all(holders[cell] for cell in cells[wrong])
    inner = np.abs(points).max(1) < 1  # the order from left to right and from bottom to top is kept
    shown = np.flatnonzero(inner & ~first)
    assert (np.argsort(points[shown, 0]) == np.argsort(places[shown, 0])).all()
    assert (np.argsort(points[shown, 1]) == np.argsort(-places[shown, 1])).all()
    assert (laid_out(points, wrong)[0] == places).all()


def test_the_map_says_who_is_who(made: Path) -> None:
    page = network_page(Opened.of(made / "run"), made=0)
    assert page.map is not None
    run = package.Run.open(made / "run")
    known = run.predictions("test")
    truth = dict(zip(known.files, (known.classes[i] for i in known.labels), strict=True))
    said = dict(zip(known.files, (known.classes[i] for i in known.predicted), strict=True))
    assert {spot.file: spot.label for spot in page.map.spots} == truth
    assert {spot.file: spot.answer for spot in page.map.spots} == said
    wrong = sum(truth[file] != said[file] for file in truth)
    assert wrong  # for this the names were falsified
    assert Seen(report.render_network(page)).text["map"].count("taken for") == wrong
    points, _ = on_plane(embedded(made, [spot.file for spot in page.map.spots]))
    dots = [i for i, spot in enumerate(page.map.spots) if spot.thumbnail is None]
    low, high = np.quantile(points, [0.01, 0.99], axis=0)
    wanted = ((points - low) / (high - low)).clip(0, 1)
    assert dots
    for i in dots:
        assert page.map.spots[i].left == pytest.approx(wanted[i, 0], abs=1e-3)
        assert page.map.spots[i].top == pytest.approx(1 - wanted[i, 1], abs=1e-3)


def embedded(made: Path, files: list[str]) -> Any:
    """What the classifier is given, by the door that every network has."""
    opened = Opened.of(made / "run")
    with torch.inference_mode():
        return torch.cat([opened.network.embed(opened.one(made / "data" / file)) for file in files]).float().numpy()


def test_the_same_seed_gives_the_same_map(made: Path) -> None:
    once, again = (network_page(Opened.of(made / "run"), made=0, method="tsne").map for _ in range(2))
    assert once is not None
    assert once == again
    assert once.method == "tsne"
    other = network_page(Opened.of(made / "run"), made=0).map
    assert other is not None
    assert [spot.left for spot in other.spots] != [spot.left for spot in once.spots]
    assert "mean nothing" in report.render_network(
        replace(network_page(Opened.of(made / "run"), made=0, training=False), map=once)
    )


def test_the_pictures_must_be_those_of_the_run(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "run", tmp_path / "run")
    file = tmp_path / "run" / "predictions.csv"
    file.write_text(file.read_text().replace(".png,test", ".jpg,test"))
    with pytest.raises(DataError, match="is no test picture of this run"):
        network_page(Opened.of(tmp_path / "run"), made=0)


def test_channels_are_chosen_for_what_the_others_leave() -> None:
    """The judge: a QR decomposition with column pivoting."""
    from scipy.linalg import qr  # type: ignore[import-untyped]

    draw = np.random.default_rng(0)
    means = draw.normal(size=(40, 12)) * draw.uniform(0.5, 2, 12)
    means[:, 3] = 5 * draw.normal(size=40)
    means[:, 4] = 0.99 * means[:, 3]  # varies nearly as much, and says nothing more
    found = most_varying(means, 5)
    centred = means - means.mean(0)
    _, triangle, order = qr(centred, pivoting=True, mode="economic")
    assert [number for number, *_ in found] == order[:5].tolist()
    adds = np.diag(triangle)[:5] ** 2 / np.square(centred).sum()
    assert [share for *_, share in found] == pytest.approx(adds.tolist())
    assert found[0][0] == 3
    assert 4 not in [number for number, *_ in found]
    assert [share for _, share, _ in found] == pytest.approx(
        (centred.var(0) / centred.var(0).sum())[order[:5]].tolist()
    )
    assert most_varying(np.ones((5, 4)), 3) == []


def test_an_early_stage_is_reached_without_the_rest() -> None:
    network = drawn("resnet18")
    x = pictures(1, (3, 64, 64))
    for name in stage_names(network):
        with torch.no_grad(), Tapped(network, [name]) as taps:
            network(x)
        with torch.no_grad():
            assert torch.equal(front(network, name)(x), taps[name])
    assert front(network, "head.fc") is network
    short = front(network, "stages.conv2_x")
    assert cost(short, (3, 64, 64)).macs < 0.5 * cost(network, (3, 64, 64)).macs
    figures = (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)
    made = [visualise(one, Channel("conv2_x", 3), (32, 32), *figures, steps=3, channels=3) for one in (short, network)]
    assert torch.equal(made[0].picture, made[1].picture)


@pytest.mark.parametrize(("name", "side", "each"), [("resnet18", 128, 3), ("vgg16", 128, 0), ("mnist_fcn", 28, 3)])
def test_pictures_are_made_where_they_can_be_paid(name: str, side: int, each: int) -> None:
    with torch.device("meta"):
        network: Network = package.create_model(name, in_channels=1 if side == 28 else 3)
    card = SimpleNamespace(preprocessing=SimpleNamespace(size=28 if side == 28 else 224))
    maker = Maker(SimpleNamespace(network=network, run=SimpleNamespace(card=card)))  # type: ignore[arg-type]
    assert maker.side == side
    stages = stage_names(network)
    assert maker.affordable(stages, 3) == each
    alone = cost(network, (network.in_channels, side, side)).macs
    assert maker.cost([], 0, 2) == 2 * 64 * alone
    assert maker.cost(stages, 2, 0) == 2 * maker.cost(stages, 1, 0) < 2 * 64 * len(stages) * alone


@pytest.mark.parametrize("width", [360, 1100])
def test_the_cuts_of_a_channel_stand_side_by_side_under_its_name(browser: Any, made: Path, width: int) -> None:
    """With no made picture in front of them too; the map fits, and what is wider than its place shows an edge."""
    page = package.explain(made / "run", made=0, out=made / f"none-{width}.html").path
    view = browser.new_page(viewport={"width": width, "height": 800})
    view.goto(page.as_uri())
    boxes = view.evaluate(
        "[...document.querySelectorAll('.channel')].map(c => [c, ...c.children].map(e => "
        "{const b = e.getBoundingClientRect(); return [b.left, b.top, b.bottom]}))"
    )
    inner, outer = view.evaluate("(e => [e.scrollWidth, e.clientWidth])(document.querySelector('.shelf'))")
    edge = view.evaluate("getComputedStyle(document.querySelector('#cost .scroll')).backgroundAttachment")
    view.close()
    assert len(boxes) == 6
    for channel, name, *cuts in boxes:
        assert cuts[0][0] == channel[0]
        assert cuts[0][1] >= name[2]
        rows = sorted({top for _, top, _ in cuts})
        assert len(rows) == (1 if width == 1100 else 2)
        assert len(cuts) == 6
    assert inner <= outer
    assert "local" in edge


@pytest.mark.parametrize("width", [360, 1100])
def test_in_a_browser_the_map_tells_names_without_a_mouse(browser: Any, whole: Path, width: int) -> None:
    view = browser.new_page(viewport={"width": width, "height": 800})
    loaded: list[str] = []
    view.on("request", lambda request: loaded.append(request.url))
    view.goto(whole.as_uri())
    inner, outer = view.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    broken = view.evaluate("[...document.images].filter(i => !i.naturalWidth).length")
    view.focus(".shelf")
    view.keyboard.press("Tab")
    told, shown, rest, inside = view.evaluate(
        "(s => [s.innerText, getComputedStyle(s).display, "
        "[...document.querySelectorAll('.map li > span')].filter(e => e.checkVisibility()).length, "
        "s.getBoundingClientRect().bottom <= innerHeight])(document.activeElement.querySelector('span'))"
    )
    boxes = view.evaluate("[...document.querySelectorAll('.map .shown')].map(e => e.getBoundingClientRect().toJSON())")
    view.close()
    assert inner <= outer == width
    assert broken == 0
    assert [url for url in loaded if not url.startswith("data:")] == [whole.as_uri()]
    assert ".png" in told
    assert (shown, rest, inside) == ("block", 1, True)
    assert len(boxes) > 3
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            assert min(a["right"], b["right"]) <= max(a["left"], b["left"]) + 0.5 or min(a["bottom"], b["bottom"]) <= (
                max(a["top"], b["top"]) + 0.5
            )


def test_how_little_fools_it(neocog: Command, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explaining_fooled, "STEPS", (0, 16, 120))
    page = network_page(Opened.of(made / "run"), made=0)
    assert page.fooled is not None
    found = package.Run.open(made / "run").predictions("test")
    shares = dict(page.fooled.shares)
    assert shares[0] == pytest.approx(np.mean(found.predicted == found.labels), abs=0.05)  # there in bf16
    assert shares[120] < shares[16] <= shares[0]
    assert page.fooled.pictures == page.fooled.of == len(found.files)
    assert "change of each value, of 255" in report.render_network(page)
