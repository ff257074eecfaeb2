"""A network of the zoo with weights from elsewhere, in the place of a run: `predict` and `explain`."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import neocog as package
from command import Command, one_line_error
from neocog.app.pretrained import read_classes
from neocog.core.errors import DataError, UsageError
from neocog.layers.init import initialise

CLASSES = ("ant", "bee", "cat", "crane", "crane")
SIDE = 32


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`weights.safetensors`: a resnet20 for five classes; `picture.png`; `classes.txt`, two of them of one name."""
    place = tmp_path_factory.mktemp("pretrained")
    torch.manual_seed(0)
    network = package.create_model("resnet20", num_classes=len(CLASSES))
    initialise(network, "he_normal")
    torch.nn.init.normal_(network.get_submodule("head.fc").weight, std=0.1)  # a classifier begins at nothing
    save_file(network.state_dict(), place / "weights.safetensors")
    pixels = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    Image.fromarray(pixels).save(place / "picture.png")
    (place / "classes.txt").write_text("\n".join(CLASSES) + "\n\n")
    return place


def test_it_answers_as_the_network_does(neocog: Command, made: Path) -> None:
    words = ("--weights", made / "weights.safetensors", "--classes", made / "classes.txt")
    result = neocog("predict", "resnet20", made / "picture.png", *words, "--json", "--top", 5)
    assert result.code == 0, result.err
    answers = {one["label"]: one["probability"] for one in json.loads(result.out)["answers"]}
    network = package.create_model("resnet20", weights=str(made / "weights.safetensors"), num_classes=5).eval()
    seen = torch.from_numpy(np.asarray(Image.open(made / "picture.png")).copy()).permute(2, 0, 1)[None] / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        expected = network((seen - mean[:, None, None]) / std[:, None, None]).softmax(1)[0].tolist()
    assert len(set(np.round(expected, 2))) > 2  # that there is something to compare
    for name, probability in zip(("ant", "bee", "cat", "crane", "crane (4)"), expected, strict=True):
        assert answers[name] == pytest.approx(probability, abs=0.03)  # bf16 where there is any


def test_its_page(neocog: Command, made: Path, tmp_path: Path) -> None:
    words = ("--weights", made / "weights.safetensors", "--classes", made / "classes.txt")
    result = neocog("explain", "resnet20", made / "picture.png", *words, "--class", "bee", "--out", tmp_path / "a.html")
    assert result.code == 0, result.err
    page = (tmp_path / "a.html").read_text("utf-8")
    assert "Where it looked for bee" in page
    assert "Nearest training pictures" not in page
    found = package.explain(
        "resnet20", made / "picture.png", weights=str(made / "weights.safetensors"), classes=CLASSES[:4] + ("dog",),
        out=tmp_path / "b.html",
    )  # fmt: skip
    assert {one.name for one in found.page.answers} == {"ant", "bee", "cat", "crane", "dog"}
    assert found.page.temperature is None


def test_what_does_not_go_together(neocog: Command, made: Path, tmp_path: Path) -> None:
    picture, weights = made / "picture.png", made / "weights.safetensors"
    one_line_error(neocog("predict", "resnet20", picture), 2, "resnet20 is a network, not a run", "--weights")
    one_line_error(neocog("predict", "resnet20", picture, "--weights", weights), 4, "5 classes, not 10", "--classes")
    one_line_error(neocog("predict", "resnet20", picture, "--classes", made / "classes.txt"), 2, "run")
    one_line_error(neocog("predict", "conv_ae", picture, "--weights", weights), 4, "nearest to resnet20")
    one_line_error(neocog("explain", "resnet20", "--mistakes", 3, "--weights", weights), 2, "picture")
    missing = ("--weights", weights, "--classes", tmp_path / "none.txt")
    one_line_error(neocog("predict", "resnet20", picture, *missing), 3, "none.txt")


@pytest.mark.parametrize(
    ("name", "text", "names"),
    [
        ("a.txt", "ant\nbee\n", ["ant", "bee"]),
        ("a.json", '["ant", "bee"]', ["ant", "bee"]),
        ("a.json", '{"1": ["n1", "bee"], "0": ["n0", "ant"]}', ["ant", "bee"]),
        ("a.json", '{"0": "ant", "1": "ant"}', ["ant", "ant (1)"]),
    ],
)
def test_class_names(tmp_path: Path, name: str, text: str, names: list[str]) -> None:
    (tmp_path / name).write_text(text)
    assert read_classes(tmp_path / name) == names


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.txt", ""), ("a.txt", "ant\n\nbee"), ("a.json", "[1, 2]"), ("a.json", "{"), ("a.json", '{"1": "ant"}'),
     ("a.json", "3"), ("a.json", "[[]]"), ("a.json", "[]")],
)  # fmt: skip
def test_no_class_names(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match="name"):
        read_classes(tmp_path / name)


def test_a_run_is_given_itself(made: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "data"
    for name in "ab":
        (pictures / name).mkdir(parents=True)
        for i in range(6):
            pixels = np.random.default_rng(ord(name) + i).integers(0, 255, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(pictures / name / f"{i}.png")
    package.train(pictures, "lenet5", epochs=1, image_size=32, out=tmp_path / "run", device="cpu")
    with pytest.raises(UsageError, match="is a run"):
        package.explain("lenet5", made / "picture.png", weights=str(tmp_path / "run"))
