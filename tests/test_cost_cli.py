"""`neocog cost` as a person meets it: the table, the files, the answers about training, the mistakes."""

import csv
import json
import re
from pathlib import Path

import pytest
from PIL import Image

import neocog as package
from command import Command, one_line_error


def test_the_table_of_one_network(neocog: Command) -> None:
    shown = neocog("cost", "alexnet")
    assert shown.code == 0
    conv2 = next(line for line in shown.out.splitlines() if line.startswith("stages.conv2.conv"))
    for word in ("Conv2d", "5x5 +2", "192 x 27 x 27", "546.8", "307,392", "223,948,800", "51 x 51", "8"):
        assert word in conv2
    total = next(line for line in shown.out.splitlines() if line.startswith("total"))
    assert "61,100,840 parameters" in total
    assert "714,188,480 MACs, which is 1,428,376,960 FLOPs (2 per MAC)" in total
    assert "training" not in shown.out


def test_folding_and_every_column(neocog: Command) -> None:
    folded = neocog("cost", "resnet18", "--depth", 1).out.splitlines()
    assert [line.split()[0] for line in folded[:4]] == ["layer", "stem", "stages", "head"]
    wide = neocog("cost", "resnet18", "--depth", 1, "--wide").out
    for column in ("offset", "smallest field", "input", "written KiB", "other ops", "calls"):
        assert column in wide.splitlines()[0]


def test_a_narrow_terminal(neocog: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = neocog("cost", "vgg16", "--depth", 3).out.splitlines()
    table = lines[: next(i for i, text in enumerate(lines) if text.startswith("total"))]
    assert max(map(len, table)) <= 80
    assert any("64x224x224" in text and "1,849,688,064" in text for text in table)


def test_networks_side_by_side(neocog: Command) -> None:
    shown = neocog("cost", "resnet18", "vit_b_16", "--batch", 8).out
    assert re.search(r"resnet18 +3 x 224 x 224 +11,689,512 +1,814\.1", shown)
    assert re.search(r"vit_b_16 +3 x 224 x 224 +86,567,656 +17,563\.8", shown)
    assert shown.count("at the worst moment") == 2
    assert "attention as scaled_dot_product_flash_attention_for_cpu does it" in shown


def test_input_classes_knobs_and_dtype(neocog: Command) -> None:
    options = ("--input", "1,64,48", "--classes", 5, "--knob", "stride_on=1x1", "--dtype", "bfloat16")
    [found] = json.loads(neocog("cost", "resnet50", *options, "--json").out)
    assert (found["input_shapes"], found["dtype"]) == ([[1, 64, 48]], "bfloat16")
    assert found["rows"][0]["params"] == 64 * 49
    assert found["rows"][-1]["out_shape"] == [5]
    assert found["rows"][-1]["memory_kib"] == 5 * 2 / 1024
    [vit] = json.loads(neocog("cost", "vit_b_16", "--input", "3x64x64", "--json").out)
    assert vit["input_shapes"] == [[3, 64, 64]]
    [dense] = json.loads(neocog("cost", "mlp_8_32_32_2", "--json").out)
    assert (dense["params"], dense["receptive_field"]) == (1410, None)


def test_what_training_takes(neocog: Command) -> None:
    [fits] = json.loads(neocog("cost", "mnist_convnet", "--batch", 32, "--memory", "1G", "--json").out)
    step = fits["training"]
    assert step["fits"]
    assert step["limit"] == 2**30
    assert step["memory"]["batch"] == 32
    assert step["largest_batch"] > 1000
    [too_much] = json.loads(neocog("cost", "mnist_convnet", "--batch", 32, "--memory", "300k", "--json").out)
    assert not too_much["training"]["fits"]
    assert too_much["training"]["largest_batch"] == 0
    shown = neocog("cost", "mnist_convnet", "--batch", 64, "--memory", "2M", "--optimizer", "sgd").out
    assert re.search(r"warning +it does not fit: 2\.0 MiB given; the largest batch is \d+", shown)
    assert "64, sgd" in shown
    for regime in ("probe", "full"):
        assert f", {regime}: weights" in neocog("cost", "mnist_convnet", "--batch", 8, "--regime", regime).out


def test_two_pictures_are_the_least_that_batch_norm_learns_from(neocog: Command) -> None:
    out = neocog("cost", "resnet18", "--input", "3,32,32", "--batch", 2, "--memory", "100M", "--json").out
    assert json.loads(out)[0]["training"]["largest_batch"] == 0


def test_the_largest_batch_is_the_largest(neocog: Command) -> None:
    def training(batch: int) -> dict[str, object]:
        out = neocog("cost", "lenet5", "--batch", batch, "--memory", "20M", "--json").out
        found: dict[str, object] = json.loads(out)[0]["training"]
        return found

    largest = training(3)["largest_batch"]
    assert isinstance(largest, int)
    assert training(largest)["fits"]
    assert not training(largest + 1)["fits"]


def test_seconds_are_measured_only_when_asked(neocog: Command) -> None:
    [plain] = json.loads(neocog("cost", "mnist_convnet", "--batch", 8, "--json").out)
    assert plain["training"]["seconds_per_epoch"] is None
    [timed] = json.loads(neocog("cost", "mnist_convnet", "--batch", 8, "--pictures", 20, "--json").out)
    step = timed["training"]
    assert step["seconds_per_epoch"] == 3 * step["seconds_per_step"] > 0  # 8 + 8 + 4


def test_files(neocog: Command, tmp_path: Path) -> None:
    files = {name: tmp_path / f"cost.{name}" for name in ("csv", "html", "svg", "png")}
    shown = neocog(
        "cost", "lenet5", "mnist_fcn", "--batch", 4, "--csv", files["csv"], "--html", files["html"],
        "--picture", files["svg"], "--zoo", files["png"],
    )  # fmt: skip
    assert shown.code == 0
    assert shown.out.count("written") >= 4
    rows = list(csv.DictReader(files["csv"].read_text("utf-8").splitlines()))
    assert {row["network"] for row in rows} == {"lenet5", "mnist_fcn"}
    assert sum(int(row["macs"]) for row in rows if row["network"] == "mnist_fcn") == package.cost("mnist_fcn").macs
    assert next(row for row in rows if row["kernel"])["kernel"] == "5x5"
    page = files["html"].read_text("utf-8")
    assert "lenet5" in page
    assert "mnist_fcn" in page
    assert "<script" not in page
    assert files["svg"].read_text("utf-8").startswith("<?xml")
    with Image.open(files["png"]) as drawn:
        assert drawn.width > 1000


def test_a_run_folder(neocog: Command, tmp_path: Path) -> None:
    for name in ("dark", "light"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(8):
            shade = (i, 0, 0) if name == "dark" else (255, 255 - i, 255)
            Image.new("RGB", (16, 16), shade).save(tmp_path / "data" / name / f"{i}.png")
    trained = neocog("train", "data", "--model", "mnist_fcn", "--epochs", 1, "--out", "run")
    assert trained.code == 0
    assert re.search(r"memory +\d+ MiB for a step of 8 pictures; .* free on this machine", trained.out)
    assert re.search(r"about [\d.]+ (ms|s|min|h) an epoch, [\d.]+ (ms|s|min|h) in all", trained.out)
    [found] = json.loads(neocog("cost", "run", "--json").out)
    assert found["input_shapes"] == [[3, 16, 16]]
    assert found["rows"][-1]["out_shape"] == [2]
    one_line_error(neocog("cost", "run", "--classes", 3), 2, "run is a run", "--classes")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("resnet19",), ("resnet19", "resnet18")),
        (("resnet18", "--input", "three"), ("--input 'three'", "3,224,224")),
        (("resnet18", "--input", "3,0,9"), ("--input '3,0,9'",)),
        (("resnet18", "--input", "8"), ("resnet18 does not take inputs of 8", "3,224,224")),
        (("alexnet", "--input", "3,20,20"), ("at least", "--input 3,")),
        (("vit_b_16", "--input", "3,225,225"), ("vit_b_16", "225")),
        (("resnet18", "--knob", "depth=3"), ("depth", "resnet18")),
        (("resnet18", "--knob", "num_classes=3"), ("num_classes is no --knob", "--classes")),
        (("resnet18", "--dtype", "int8"), ("int8", "float32")),
        (("resnet18", "--memory", "lots", "--batch", "2"), ("--memory 'lots'", "8G")),
        (("resnet18", "--pictures", "100"), ("--pictures", "--batch")),
        (("resnet18", "--batch", "2", "--optimizer", "adamx"), ("adamx",)),
        (("resnet18", "--batch", "0"), ("--batch",)),
        (("resnet18", "--batch", "2", "--device", "cuda:7"), ("cuda:7",)),
        (("resnet18", "--picture", "bars.gif"), ("bars.gif", ".svg or .png")),
        (("resnet18", "--html", "nowhere/page.html"), ("nowhere/page.html", "make nowhere first")),
        (("resnet18", "--csv", "."), (". is a folder",)),
        (("resnet18", "--csv", "/dev/null"), ("/dev/null is no file",)),
        (("resnet18", "--csv", "a", "--html", "a"), ("two of the files have one name",)),
        (("resnet18", "--html", "n" * 300 + ".html"), ("cannot be written",)),
        (("resnet18", "--input", "3,\u00b2,5"), ("--input",)),
        (("resnet18", "--memory", "1" + "0" * 400 + "T"), ("--memory",)),
        (("resnet18", "--classes", "99999999999"), ("--classes",)),
        (("x" * 5000,), ("there is no network",)),
        (("inception_v3", "--batch", "1"), ("Expected more than 1 value per channel",)),
        ((), ("models",)),
    ],
)
def test_mistakes(neocog: Command, words: tuple[str, ...], parts: tuple[str, ...]) -> None:
    one_line_error(neocog("cost", *words), 2, *parts)


def test_the_same_words_in_python() -> None:
    table = package.cost("resnet18")
    assert (table.params, table.macs, table.partial) == (11_689_512, 1_814_073_344, ())
    assert table.macs == package.cost(package.create_model("resnet18")).macs
    assert package.receptive_field(package.create_model("resnet18"), layer="stem.pool") == (11, 11)
    memory = package.training_memory(package.create_model("lenet5"), (1, 32, 32), batch=16)
    assert memory.peak > memory.parameters
