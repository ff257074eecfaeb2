"""The use cases from Python: every form of data, every regime, every setting, on pictures small enough to be quick."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import neocog
from neocog.app import settings
from neocog.app.machine import choose_machine, has_bf16
from neocog.app.validating import validate
from neocog.app.zoo import find_published, load_model, preprocessing_of
from neocog.core.config import TrainConfig, load_config, seconds
from neocog.core.errors import DataError, ModelFileError, UsageError
from neocog.core.events import Events
from neocog.core.registry import lookup
from neocog.core.spec import Preprocessing
from neocog.training.budget import Budget
from neocog.training.checkpoint import Checkpoints

NAMES = ("blue", "green", "red")
QUICK = {"model": "mnist_fcn", "epochs": 3, "batch_size": 8, "lr": 0.02, "device": "cpu"}


def paint(folder: Path, n: int = 14, size: int = 16, seed: int = 0) -> Path:
    """Three classes of colour pictures that differ in one channel."""
    draw = np.random.default_rng(seed)
    for number, name in enumerate(NAMES):
        (folder / name).mkdir(parents=True)
        for i in range(n):
            pixels = draw.integers(0, 90, (size, size, 3), np.uint8)
            pixels[..., 2 - number] += 120
            Image.fromarray(pixels).save(folder / name / f"{i:02}.png")
    return folder


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    return paint(tmp_path / "shapes")


def test_python_face(shapes: Path, tmp_path: Path) -> None:
    events, moments = Events(), []
    for moment in ("run_started", "epoch_started", "epoch_ended", "checkpoint_written", "run_ended"):
        events.on(moment, lambda moment=moment, **_: moments.append(moment))
    run = neocog.train(shapes, out=tmp_path / "run", events=events, **QUICK)
    assert moments[0] == "run_started"
    assert moments[-1] == "run_ended"
    assert moments.count("epoch_ended") == 3
    numbers = run.metrics("test")
    low, high = numbers["top1_interval"]
    assert 0.5 < numbers["top1"] <= 1
    assert low <= numbers["top1"] <= high
    again = neocog.Run.open(tmp_path / "run")
    answers = list(again.predict(sorted((shapes / "green").iterdir())))
    assert [a.label for a in answers].count("green") >= 12
    assert all(a.probabilities.sum() == pytest.approx(1, abs=1e-5) for a in answers)
    assert not again.network().training


def test_predict_gives_what_predictions_csv_says(shapes: Path, tmp_path: Path) -> None:
    """Files through `predict` and cached pictures through evaluation are the same pixels, so the same numbers."""
    run = neocog.train(shapes, out=tmp_path / "run", **QUICK)
    saved = run.predictions("test")
    answers = list(run.predict([shapes / file for file in saved.files]))
    assert np.abs(np.stack([a.probabilities for a in answers]) - saved.probabilities).max() < 1e-5


def test_split_folders_keep_their_split(tmp_path: Path) -> None:
    for split, n, seed in (("train", 10, 0), ("val", 3, 1), ("test", 4, 2)):
        paint(tmp_path / "data" / split, n, seed=seed)
    run = neocog.train(tmp_path / "data", out=tmp_path / "run", **QUICK)
    rows = list(csv.DictReader((tmp_path / "run" / "split.csv").read_text().splitlines()))
    assert all(row["file"].startswith(row["set"] + "/") for row in rows)
    assert run.metrics("test")["pictures"] == 12
    assert run.metrics("val")["pictures"] == 9


def test_csv_data_and_other_data(shapes: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    files = sorted(shapes.rglob("*.png"))
    table.write_text("path,label\n" + "".join(f"{p.relative_to(tmp_path)},{p.parent.name.upper()}\n" for p in files))
    run = neocog.train(table, out=tmp_path / "run", **QUICK)
    assert run.classes == ["BLUE", "GREEN", "RED"]
    with pytest.raises(DataError, match=r"does not know: 'blue', 'green', 'red'"):
        validate(run.folder, str(shapes))
    two = tmp_path / "two.csv"
    two.write_text("path,label\n" + "".join(
        f"{p.relative_to(tmp_path)},{p.parent.name.upper()}\n" for p in files if p.parent.name != "green"
    ))  # fmt: skip
    numbers = validate(run.folder, str(two))
    assert numbers["pictures"] == 28
    assert [row["support"] for row in numbers["per_class"]] == [14, 0, 14]
    assert numbers["top1"] > 0.8  # the class numbers of the run, not of a table that lacks one
    split = csv.DictReader((run.folder / "split.csv").read_text().splitlines())
    taught = [row["file"] for row in split if row["set"] == "train" and row["class"] != "GREEN"]
    assert numbers["trained_on"] == len(taught) > 0
    said: list[str] = []
    events = Events()
    events.on("note", lambda label, text: said.append(text))
    validate(run.folder, str(two), events=events)
    assert any(f"{len(taught)} of 28 pictures are ones that it was trained on" in text for text in said)
    said.clear()
    assert validate(run.folder, events=events)["trained_on"] == 0
    assert not any("trained on" in text for text in said)


@pytest.mark.parametrize("more", [
    {"optimizer": "sgd", "schedule": "one_cycle", "ema": 0.9, "label_smoothing": 0.1},
    {"mixup": 0.2, "cutmix": 1.0, "class_weights": "balanced", "clip_norm": 1.0, "accumulate": 2},
    {"augment": "photo", "rotation": 20.0, "noise": "gaussian:0.05", "erasing": 0.5, "l1": 1e-5, "patience": 2},
    {"optimizer": "rmsprop", "lr": 0.002, "schedule": "plateau", "init": "he_normal", "image_size": 24},
    {"optimizer": "adam", "schedule": "step", "channels": "grey", "precision": "bf16"},
    {"model": "resnet18", "epochs": 1, "image_size": 32, "dropout": 0.3, "layout": "contiguous"},
])  # fmt: skip
def test_every_setting_trains(shapes: Path, tmp_path: Path, more: dict[str, object]) -> None:
    run = neocog.train(shapes, out=tmp_path / "run", **(QUICK | more))  # type: ignore[arg-type]
    for key, value in more.items():
        assert getattr(run.config, key) == value
    assert "auto" not in {run.config.regime, run.config.augment, run.config.channels}
    assert run.metrics("test")["pictures"] == 6
    assert run.report.stat().st_size > 10_000


def weights_file(folder: Path, classes: int = 5) -> Path:
    """A "pretrained" small network: random, but anything that is loaded or frozen can be compared with it."""
    torch.manual_seed(7)
    network = neocog.create_model("mobilenet_v2", num_classes=classes, width=0.25)
    path = folder / "mobilenet.safetensors"
    save_file(network.state_dict(), path)
    return path


@pytest.mark.parametrize("regime", ["probe", "full"])
def test_transfer_regimes(shapes: Path, tmp_path: Path, regime: str) -> None:
    weights = weights_file(tmp_path)
    run = neocog.train(
        shapes, "mobilenet_v2", regime=regime, weights=str(weights), knobs={"width": 0.25}, image_size=32,
        epochs=2, head_epochs=1, batch_size=8, out=tmp_path / "run",
    )  # fmt: skip
    before = load_model("mobilenet_v2", weights=str(weights), knobs={"width": 0.25}).network.state_dict()
    # The last weights: the best ones, in model/, may be those of an epoch in which only the head learned.
    kept = Checkpoints(run.folder).load().tensors
    after = {name.removeprefix("network/"): value for name, value in kept.items() if name.startswith("network/")}
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    classifier = {"head.fc.weight", "head.fc.bias"}
    assert classifier <= changed
    assert (changed == classifier) == (regime == "probe")
    statistics = {name for name in after if "running_" in name or "num_batches" in name}
    assert regime == "probe" or set(after) - changed == statistics
    assert run.card.provenance["weights"] == str(weights)
    assert run.card.preprocessing.mean == Preprocessing().mean  # the weights', not the pictures'


def test_how_pictures_reach_weights_that_come_as_a_file(tmp_path: Path) -> None:
    cifar, photos = lookup("resnet20"), lookup("resnet50")
    named = tmp_path / "resnet20-12fca82f.th"  # a published file, wherever it lies
    named.touch()
    assert preprocessing_of(cifar, str(named)) == cifar.spec.weights[0].preprocessing
    own = tmp_path / "own.th"
    own.touch()
    assert preprocessing_of(cifar, str(own)) == Preprocessing(32, 32)  # no crop from a picture of 32 pixels
    assert preprocessing_of(photos, str(own)) == Preprocessing(224, 256)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("googlenet", {"dropout": "abc"}, "dropout = 'abc': input should be a valid number"),
        ("googlenet", {"auxiliary": "maybe"}, "auxiliary = 'maybe'"),
        ("capsnet", {"routing_rounds": 1.5}, "routing_rounds = 1.5"),
        ("mobilenet_v2", {"padding": "valid"}, "'torch' or 'same'"),
        ("resnet20", {"foo": 1}, "has no option 'foo'"),
        ("resnet18", {"num_classes": 0}, "num_classes = 0 must be at least 1"),
        ("resnet18", {"num_classes": 2.5}, "num_classes = 2.5"),
        ("resnet18", {"in_channels": -3}, "in_channels = -3"),
    ],
)
def test_options_of_another_type_are_refused(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        neocog.create_model(name, **options)


def test_what_the_data_or_a_setting_decides_is_no_knob(shapes: Path, tmp_path: Path) -> None:
    for knob, instead in {"num_classes": "the data", "in_channels": "--channels", "image_size": "--image-size"}.items():
        with pytest.raises(UsageError, match=instead):
            neocog.train(shapes, "vit_b_32", knobs={knob: 4}, out=tmp_path / "run")


def test_weights_files_that_are_not_what_they_seem(tmp_path: Path) -> None:
    state = neocog.create_model("squeezenet1_1").state_dict()
    torch.save(neocog.create_model("squeezenet1_1"), tmp_path / "objects.pth")
    torch.save(dict.fromkeys(state, torch.tensor(float("nan"))), tmp_path / "nan.pth")
    torch.save(state, tmp_path / "other.pth")
    for file, network, reason in (
        ("objects", "squeezenet1_1", "holds Python objects"),
        ("nan", "squeezenet1_1", "not finite"),
        ("other", "vgg11", "other.pth: "),
    ):
        with pytest.raises(ModelFileError, match=reason) as caught:
            neocog.create_model(network, weights=str(tmp_path / f"{file}.pth"))
        assert file in str(caught.value)


def test_imagenet_means_the_best_weights_of_that_set() -> None:
    assert find_published(lookup("resnet50"), "imagenet").tag == "imagenet1k_v2"
    assert find_published(lookup("resnet50"), "resnet50.tv_in1k").tag == "imagenet1k_v1"
    with pytest.raises(UsageError, match="it has cifar10"):
        find_published(lookup("resnet20"), "imagenet")


def test_grey_pictures_through_colour_weights(tmp_path: Path) -> None:
    """Weights ask for colour; `--channels grey` sums the first filters, so a grey picture gives the same features."""
    weights = str(weights_file(tmp_path))
    colour = load_model("mobilenet_v2", weights=weights, knobs={"width": 0.25}).network.eval()
    grey = load_model("mobilenet_v2", weights=weights, in_channels=1, knobs={"width": 0.25})
    x = torch.randn(2, 1, 32, 32)
    assert "summed" in " ".join(grey.notes)
    assert torch.allclose(grey.network.eval()(x), colour(x.repeat(1, 3, 1, 1)), atol=1e-4)


def test_a_time_budget_decides_the_length(shapes: Path, tmp_path: Path) -> None:
    quick = QUICK | {"epochs": None}
    run = neocog.train(shapes, out=tmp_path / "run", **(quick | {"time": "8s"}))  # type: ignore[arg-type]
    state = Checkpoints(run.folder).load().facts["progress"]
    assert state["done"] == state["planned"] > 1
    assert state["spent"] > 0
    with pytest.raises(UsageError, match="are not enough"):
        neocog.train(shapes, out=tmp_path / "short", **(quick | {"time": "1s"}))  # type: ignore[arg-type]
    both = neocog.train(shapes, out=tmp_path / "both", **(quick | {"time": "1h", "epochs": 2}))  # type: ignore[arg-type]
    assert Checkpoints(both.folder).load().facts["progress"]["epoch"] == 2  # the shorter of the two
    assert [seconds(text) for text in ("90s", "1.5m", "2h")] == [90, 90, 7200]


def test_a_state_knows_that_the_time_is_over(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where that turns out only after an epoch's validation, when its state has been written."""
    monkeypatch.setattr(Budget, "validated", lambda budget, _: setattr(budget, "seconds", 0.0))
    run = neocog.train(shapes, out=tmp_path / "run", **(QUICK | {"epochs": None, "time": "1h"}))  # type: ignore[arg-type]
    state = Checkpoints(run.folder).load().facts["progress"]
    assert state["epoch"] == 1
    assert state["done"] == state["planned"]


def test_sizes_are_decided_by_the_weights_then_the_data() -> None:
    spec, config = lookup("resnet18").spec, TrainConfig(data="x")
    assert settings.decide_size(config, spec, None, None) == (256, 224)
    assert settings.decide_size(config, spec, None, (32, 32)) == (32, 32)
    assert settings.decide_size(config, spec, Preprocessing(size=192, resize=200), (32, 32)) == (200, 192)
    assert settings.decide_size(config.model_copy(update={"image_size": 112}), spec, None, None) == (128, 112)


def test_wishes_that_cannot_be_met(shapes: Path, tmp_path: Path) -> None:
    def refused(error: type[Exception], match: str, **more: object) -> None:
        with pytest.raises(error, match=match):
            neocog.train(shapes, out=tmp_path / "run", **(QUICK | more))  # type: ignore[arg-type]
        assert not (tmp_path / "run").exists()

    refused(UsageError, "nothing could be said", val_fraction=0.0, test_fraction=0.0)
    refused(UsageError, "no dropout", model="mnist_fcn", dropout=0.5)
    refused(UsageError, "at least", model="vgg11", image_size=16)
    refused(UsageError, "no weights called", weights="imagnet")
    refused(UsageError, "init", weights=str(weights_file(tmp_path)), model="mobilenet_v2", knobs={"width": 0.25},
            init="he_normal", image_size=32)  # fmt: skip
    refused(ModelFileError, "mnist_fcn", weights=str(weights_file(tmp_path)))
    with pytest.raises(UsageError, match="resnet18"):
        neocog.create_model("resnet-81")
    with pytest.raises(UsageError, match="widht"):
        neocog.create_model("mobilenet_v2", widht=2)


def test_weights_that_are_no_weights(tmp_path: Path) -> None:
    for name, content in (("a.safetensors", b"junk"), ("b.pth", b"junk"), ("c.pth", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelFileError, match=name):
            neocog.create_model("resnet18", weights=str(tmp_path / name))
    torch.save({"state_dict": {"a": 1}}, tmp_path / "d.pth")
    with pytest.raises(ModelFileError, match="no table of weights"):
        neocog.create_model("resnet18", weights=str(tmp_path / "d.pth"))


def test_a_configuration_survives_its_own_file(tmp_path: Path) -> None:
    config = TrainConfig(
        data='odd "name"\n\\é', model="vgg11", knobs={"a": 1, "b": 0.5, "c": True, "d": "x=[1]"}, lr=1e-5, flip=True,
        time="90s", ema=0.999, background="#00ff7f",
    )  # fmt: skip
    (tmp_path / "c.toml").write_text(config.to_toml("two\nlines"), "utf-8")
    assert load_config(tmp_path / "c.toml", {}) == config
    assert load_config(tmp_path / "c.toml", {"lr": 3, "ema": None}).lr == 3.0


def test_the_machine_is_chosen_and_can_be_overridden() -> None:
    auto = choose_machine(TrainConfig(data="x", device="cpu"))
    assert auto.bf16 == has_bf16(auto.device)
    assert auto.channels_last
    own = choose_machine(TrainConfig(data="x", device="cpu", precision="bf16", layout="contiguous"))
    assert own.bf16
    assert not own.channels_last
    assert "bf16, contiguous" in own.describe()
