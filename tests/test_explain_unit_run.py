"""`neocog explain RUN IMAGE --unit ...` on runs: JSON and page against torch.nn.functional, names, errors."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

import neocog as package
from command import Command, one_line_error
from drawn import colours
from neocog.app.explaining_unit import map_around
from neocog.app.opened import Opened
from neocog.core.errors import UsageError
from neocog.explaining.arithmetic import LAYERS
from test_explain_unit import Read, assert_adds_up
from zoo_units import judged

KEYS = {
    "layer", "kind", "channel", "position", "patch", "inside", "rows", "columns", "first_channel", "window", "kernel",
    "products", "bias", "sum", "output", "then", "norm", "activation", "activated", "pooling", "flattened", "file",
    "box", "map", "chosen", "ends", "page",
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`plain`: a small classifier of colours; `coder`, `dense`, `patches`: autoencoders, the last of 7 x 7 tokens;
    `mobile`: a MobileNetV2; `picture.png`."""
    place = tmp_path_factory.mktemp("unit")
    colours(place / "data", 12, noise=200, tint=50)
    runs = [("plain", "mnist_convnet", 28), ("coder", "conv_ae", 28), ("patches", "patch_ae", 28)]
    for name, model, size in (*runs, ("dense", "dense_ae", 16), ("mobile", "mobilenet_v2", 32)):
        package.train(place / "data", model, out=place / name, epochs=1, image_size=size, batch_size=8, device="cpu")
    Image.open(place / "data" / "red" / "00.png").save(place / "picture.png")
    return place


def by_torch(run: Path, picture: Path, layer: str) -> Tensor:
    """What torch.nn.functional gives in double for what the layer is given."""
    opened, given = Opened.of(run), list[Tensor]()
    module = opened.network.get_submodule(layer)
    module.register_forward_hook(lambda _, args, out: given.append(args[0].clone()))
    with torch.no_grad():
        opened.network.eval()(opened.one(picture))
    return judged(module, given[-1])


UNITS = [
    ("plain", "stages.conv1.conv", ":3:0,25", "the first layer"),
    ("plain", "stages.conv2.conv", ":7:4,5", "behind a max pool"),
    ("plain", "head.fc", ":2", "dense"),
    ("coder", "stages.down1.conv", ":1:0,0", "strided, in a corner"),
    ("coder", "head.decoder.steps.1.conv", ":0:5,6", "transposed"),
    ("mobile", "stages.row2.0.body.depthwise.conv", ":9:0,3", "depthwise"),
    ("mobile", "stages.row2.0.body.expand.conv", ":9:7,3", "one by one"),
]


def test_tokens_that_make_a_square_are_a_map(neocog: Command, made: Path, tmp_path: Path) -> None:
    layer, page = "stages.layer2.linear1", tmp_path / "a.html"
    words = ("explain", made / "patches", made / "picture.png", "--unit", f"{layer}:5:17", "--json", "--out", page)
    result = neocog(*words)
    assert result.code == 0, result.err
    told, html = json.loads(result.out), page.read_text("utf-8")
    wanted = by_torch(made / "patches", made / "picture.png", layer)[0, :, 5]
    assert torch.allclose(torch.tensor(told["map"], dtype=torch.float64), wanted.reshape(7, 7), atol=1e-5)
    assert told["map"][2][3] == pytest.approx(told["output"], abs=1e-5)  # the fused way of torch differs a little
    assert "token 17 (row 2, column 3 of 7 × 7)" in html
    assert (f"{3 - 7 / 60}", f"{2 - 7 / 60}") in re.findall(r'<rect class="box" x="([^"]+)" y="([^"]+)"', html)


def test_a_class_token_has_no_place_in_the_map() -> None:
    numbers = torch.arange(50.0)
    whole, place = map_around(numbers, (0,))
    assert whole is not None
    assert place is None
    assert torch.equal(whole, numbers[1:].reshape(7, 7))
    assert map_around(numbers, (1,))[1] == (0, 0)
    assert map_around(numbers, (9,))[1] == (1, 1)
    assert map_around(numbers[:48], (9,)) == (None, None)  # 48 make no square


@pytest.mark.parametrize(("run", "layer", "place", "why"), UNITS, ids=[unit[3] for unit in UNITS])
def test_json_and_page_say_what_torch_says(
    neocog: Command, made: Path, tmp_path: Path, run: str, layer: str, place: str, why: str
) -> None:
    result = neocog(
        "explain", made / run, made / "picture.png", "--unit", layer + place, "--json", "--out", tmp_path / "a.html"
    )
    assert result.code == 0, result.err
    told = json.loads(result.out)
    out = by_torch(made / run, made / "picture.png", layer)
    wanted = float(out[(0, told["channel"], *told["position"])])
    assert ":" + ":".join([str(told["channel"]), ",".join(map(str, told["position"]))]).rstrip(":") == place
    patch, kernel, products = (torch.tensor(told[key], dtype=torch.float64) for key in ("patch", "kernel", "products"))
    size = float(products.abs().sum()) + abs(told["bias"])
    assert size > 1e-3
    assert told["sum"] == pytest.approx(wanted, abs=1e-6 * size)
    assert told["output"] == pytest.approx(wanted, abs=1e-6 * size)
    assert float((patch * kernel).sum()) + told["bias"] == pytest.approx(told["sum"], abs=1e-12 * size)
    assert set(told) == KEYS
    if told["map"] is not None:
        assert torch.allclose(torch.tensor(told["map"], dtype=torch.float64), out[0, told["channel"]], atol=1e-5)
        row, column = told["position"]
        assert told["map"][row][column] == told["output"]
    assert_adds_up(Read((tmp_path / "a.html").read_text("utf-8")), wanted, told["bias"])


def test_the_last_layer_names_its_class(neocog: Command, made: Path, tmp_path: Path) -> None:
    [answer] = package.Run.open(made / "plain").predict([made / "picture.png"])
    for number, name in enumerate(package.Run.open(made / "plain").classes):
        page = tmp_path / f"{name}.html"
        words = ("explain", made / "plain", made / "picture.png", "--unit", f"head.fc:{number}", "--out", page)
        result = neocog(*words)
        assert f"head.fc, channel {number}, {name}" in result.out
        html = page.read_text("utf-8")
        assert f"channel {number}, {name}" in html
        said = re.search(r'Softmax.*= <span class="result">([\d.e-]+)<', html)
        assert said
        assert float(said[1]) == pytest.approx(float(answer.probabilities[number]), abs=0.02)  # there in bf16
    told = json.loads(neocog(*words[:-1], tmp_path / "again.html", "--json").out)["ends"]
    assert told["class"] == name
    assert told["score"] == pytest.approx(float(by_torch(made / "plain", made / "picture.png", "head.fc")[0, number]))
    words = ("explain", made / "plain", made / "picture.png", "--unit", "conv2.conv:1", "--out", tmp_path / "c.html")
    assert json.loads(neocog(*words, "--json").out)["ends"] is None


@pytest.mark.parametrize("run", ["coder", "dense", "patches"])
def test_the_last_layer_of_an_autoencoder_names_its_pixel(made: Path, tmp_path: Path, run: str) -> None:
    opened = Opened.of(made / run)
    x = opened.one(made / "picture.png")
    with torch.no_grad():
        back = opened.network.eval()(x)[0]
    convolutions = [n for n, m in opened.network.named_modules() if isinstance(m, LAYERS)]
    found = package.explain_unit(made / run, made / "picture.png", convolutions[-1], out=tmp_path / "a.html")
    assert found.ending is not None
    assert found.ending.pixel is not None
    channel = ("red", "green", "blue").index(found.ending.name)
    row, column = found.ending.pixel
    own = torch.tensor(found.unit.output).sigmoid()
    assert float(back[channel, row, column]) == pytest.approx(float(own), abs=1e-5)
    assert torch.isclose(back, own, atol=1e-6).sum() < 3  # hardly another one is the same
    ends = found.to_dict()["ends"]
    assert ends == {"colour": found.ending.name, "row": row, "column": column, "value": found.ending.value}
    html = (tmp_path / "a.html").read_text("utf-8")
    assert f"the {found.ending.name} value of the pixel in row {row}, column {column}" in html
    inner = package.explain_unit(made / run, made / "picture.png", convolutions[0], out=tmp_path / "b.html")
    assert inner.ending is None


def test_numbers_of_one_row_stand_on_one_line(neocog: Command, made: Path, tmp_path: Path) -> None:
    for which in ("head.fc:2", "conv2.conv:7:4,5"):
        words = (
            "explain",
            made / "plain",
            made / "picture.png",
            "--unit",
            which,
            "--out",
            tmp_path / f"{which[:3]}.html",
        )
        out = neocog(*words, "--json").out
        told = json.loads(out)
        most = 60 if which == "head.fc:2" else 60 + 3 * 5 * len(told["kernel"])  # three arrays of 3 x 3
        assert len(out.splitlines()) < most
        assert f'"position": {told["position"]}' in out
        kernel = told["kernel"][0][0]
        assert json.dumps(kernel) in out


def test_the_first_layer_reads_the_picture(neocog: Command, made: Path, tmp_path: Path) -> None:
    words = ("explain", made / "plain", made / "picture.png", "--json")
    told = json.loads(neocog(*words, "--unit", "conv1.conv:0:4,9").out)
    kernel = len(told["rows"])
    assert told["rows"] == list(range(4, 4 + kernel))
    assert told["box"] == [4, 9, 4 + kernel, 9 + kernel]  # its patch and what it sees are the same
    page = (made / "plain-unit.html").read_text("utf-8")
    assert f'<rect class="box" x="9" y="4" width="{kernel}" height="{kernel}"/>' in page
    assert "Input channel 0, red" in page
    assert "It reads the picture itself" in page
    deeper = json.loads(neocog(*words, "--unit", "conv2.conv:0:4,4", "--out", tmp_path / "deeper.html").out)
    top, left, bottom, right = deeper["box"]
    assert bottom - top > len(deeper["rows"])
    assert "It reads the picture itself" not in (tmp_path / "deeper.html").read_text("utf-8")
    seen = json.loads(neocog(*words, "--unit", "head.fc:0", "--out", tmp_path / "dense.html").out)["box"]
    assert seen == [0, 0, 28, 28]
    # What the box leaves out does not matter, what it holds does.
    opened = Opened.of(made / "plain")
    x = opened.one(made / "picture.png").requires_grad_()
    maps: list[Tensor] = []
    opened.network.get_submodule("stages.conv2.conv").register_forward_hook(lambda _, args, out: maps.append(out))
    opened.network.eval()(x)
    (gradient,) = torch.autograd.grad(maps[0][0, 0, 4, 4], x)
    rows, columns = gradient.abs().sum((0, 1)).nonzero().T
    assert top <= rows.min() <= rows.max() < bottom
    assert left <= columns.min() <= columns.max() < right


def test_the_strongest_place_and_channel(neocog: Command, made: Path, tmp_path: Path) -> None:
    out = by_torch(made / "plain", made / "picture.png", "stages.conv2.conv")[0]
    words = ("explain", made / "plain", made / "picture.png")
    for which, among, said in (("conv2.conv", out, "the layer's"), ("conv2.conv:5", out[5:6], "the channel's")):
        result = neocog(*words, "--unit", which, "--json", "--out", tmp_path / f"{said[4]}.html")
        told = json.loads(result.out)
        assert told["output"] == pytest.approx(float(among.max()), rel=1e-5)
        assert told["chosen"] == f"{said} largest number for this picture"
        assert told["chosen"] in (tmp_path / f"{said[4]}.html").read_text("utf-8").replace("&#39;", "'")
    assert told["channel"] == 5
    result = neocog(*words, "--unit", "head.fc", "--out", tmp_path / "fc.html")
    assert "the layer's largest number" in result.out
    assert "products and the bias" in result.out


def test_a_page_is_never_written_over(neocog: Command, made: Path, tmp_path: Path) -> None:
    words = ("explain", made / "plain", made / "picture.png", "--unit", "conv2.conv:1:2,3")
    first, second = (neocog(*words) for _ in range(2))
    pages = [Path(result.out.splitlines()[-1].split(maxsplit=1)[1]) for result in (first, second)]
    assert all(page.is_file() and page.name.startswith("plain-unit") for page in pages)
    assert pages[0] != pages[1]
    one_line_error(neocog(*words, "--out", pages[0]), 2, "exists already")
    one_line_error(neocog(*words, "--out", tmp_path / "page.png"), 2, ".html")


def test_from_python(made: Path, tmp_path: Path) -> None:
    found = package.explain_unit(made / "plain", made / "picture.png", "conv2.conv:1:2,3", out=tmp_path / "a.html")
    assert (found.unit.channel, found.unit.position, found.path) == (1, (2, 3), tmp_path / "a.html")
    told: dict[str, Any] = found.to_dict()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["sum"] == found.unit.sum


def test_numbers_that_are_none(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Opened.of(made / "plain")
    with torch.no_grad():
        whole.network.get_submodule("stages.conv1.conv").bias[3] = float("nan")
    monkeypatch.setattr(Opened, "of", lambda run: whole)
    for which in ("conv1.conv:3:1,1", "conv1.conv:3"):
        with pytest.raises(UsageError, match=r"nan there|no finite number"):
            package.explain_unit(made / "plain", made / "picture.png", which, out=tmp_path / "no.html")
    package.explain_unit(made / "plain", made / "picture.png", "conv1.conv:2", out=tmp_path / "a.html")


def test_errors_say_what_there_is(neocog: Command, made: Path, tmp_path: Path) -> None:
    picture = made / "picture.png"

    def refused(unit: str, *words: str, more: tuple[object, ...] = ()) -> None:
        result = neocog("explain", made / "plain", picture, "--unit", unit, "--out", tmp_path / "no.html", *more)
        one_line_error(result, 2, *words)
        assert not (tmp_path / "no.html").exists()

    listed = "stages.conv1.conv, stages.conv2.conv, head.fc"
    refused("conv9:1:1,1", "there is no layer 'conv9'", listed)
    refused("conv1.pool:1:1,1", "the layer stages.conv1.pool is a MaxPool2d, neither convolution nor dense", listed)
    refused("conv1:1:1,1", "the layer stages.conv1 is a Sequential", "those in it: stages.conv1.conv")
    refused("conv1.conv:32:1,1", "no channel 32", "its channels are 0 to 31")
    refused("conv1.conv:32", "no channel 32", "its channels are 0 to 31")
    refused("conv1.conv:1:26,1", "no position (26, 1)", "(0 to 25, 0 to 25)")
    refused("conv1.conv:1:7", "no position (7)", "(0 to 25, 0 to 25)")
    refused("head.fc:1:7,7", "no position (7, 7)", "name none")
    for text in ("", "conv1.conv:", "conv1.conv:x", "conv1.conv:1:2,", "conv1.conv:-1:2,3", "conv1.conv:1:2,3:4"):
        refused(text, "names no unit", "LAYER:CHANNEL:ROW,COLUMN")
    refused("conv1.conv:1:2,3", "exclude each other", more=("--mistakes", "2"))
    refused("conv1.conv:1:2,3", "--class does not go with --unit; leave one of them out", more=("--class", "red"))
    refused("conv1.conv:1:2,3", "--map does not go with --unit; leave it out; it goes with the page of the network",
            more=("--map", "pca"))  # fmt: skip
    one_line_error(neocog("explain", made / "plain", "--unit", "conv1.conv"), 2, "--unit needs a picture")
    one_line_error(neocog("explain", made / "plain", tmp_path / "none.png", "--unit", "conv1.conv"), 3, "none.png")
    one_line_error(neocog("explain", tmp_path / "none", picture, "--unit", "conv1.conv"), 2, "none")
