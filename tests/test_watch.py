"""A watched run: its records and its findings, and the training does not feel it.

It is killed in test_kill.py, and several processes are in test_together.py.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import neocog as package
from command import Command, one_line_error
from drawn import colours
from neocog.app.preparing import prepare
from neocog.app.train import resume
from neocog.app.watching import points_within, read, rows_per_epoch
from neocog.core.config import load_config
from neocog.core.errors import DivergedError, Interrupted, ModelFileError
from neocog.core.events import Events
from neocog.core.files import sha256_of
from neocog.training.loop import Trainer
from neocog.training.watched import ROWS
from pages import Seen

COMMON: dict[str, Any] = {"epochs": 3, "batch_size": 8, "image_size": 16, "device": "cpu", "threads": 1}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colours(tmp_path_factory.mktemp("watched") / "pictures", 14)


def weights(run: Path) -> str:
    return sha256_of(run / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def source(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose weights others start from."""
    out = tmp_path_factory.mktemp("source") / "run"
    package.train(pictures, "mnist_convnet", out=out, **COMMON | {"epochs": 1})
    return out


CASES: dict[str, dict[str, Any]] = {
    "dropout": {"model": "mnist_convnet", "accumulate": 2, "clip_norm": 0.5, "ema": 0.9},
    "batch norm": {"model": "resnet20", "optimizer": "sgd", "precision": "bf16", "mixup": 0.2},
    "probe": {"model": "mnist_convnet", "regime": "probe"},
    "full": {"model": "mnist_convnet", "regime": "full", "head_epochs": 1},
    "partial": {"model": "mnist_convnet", "regime": "partial", "unfreeze": 1, "head_epochs": 1},
    "features": {"model": "mnist_convnet", "regime": "features", "views": 1},
    "autoencoder": {"model": "conv_ae", "latent": 8, "noise": "gaussian:0.2"},
    "variational": {"model": "conv_vae", "latent": 4},
    "machine": {"model": "rbm", "latent": 16, "epochs": 2},
}


@pytest.mark.parametrize("name", CASES)
def test_the_training_does_not_feel_it(pictures: Path, source: Path, tmp_path: Path, name: str) -> None:
    """The same seed, the same bits; and rows of everything, whatever learns."""
    more = COMMON | CASES[name]
    if "regime" in more:
        more["weights"] = source
    for folder, watch in (("plain", False), ("watched", True)):
        package.train(pictures, out=tmp_path / folder, watch=watch, **more)
    assert weights(tmp_path / "plain") == weights(tmp_path / "watched")
    assert not (tmp_path / "plain" / "watch.jsonl").exists()
    assert "Training seen from inside" not in (tmp_path / "plain" / "report.html").read_text()
    found = read(tmp_path / "watched")
    assert [row["epoch"] for row in found.rows] == [float(n) for n in range(more["epochs"] + 1)]
    assert all(layer["steps"] == 0 for layer in found.rows[0]["layers"])
    learning = [[layer["layer"] for layer in row["layers"] if layer["steps"]] for row in found.rows[1:]]
    assert all(learning)
    if name in ("full", "partial"):
        assert len(learning[0]) == 1  # the head learns first
        assert len(learning[1]) > 1
    if name == "probe":
        assert [len(names) for names in learning] == [1, 1, 1]
    assert found.rows[-1]["stages"]
    assert found.surface is not None
    assert len(found.surface["losses"]) == len(found.surface["places"]) == 11
    assert found.diagnosis().main.text
    assert "Training seen from inside" in (tmp_path / "watched" / "report.html").read_text()


def test_the_middle_of_the_surface_is_the_validation_loss(pictures: Path, tmp_path: Path) -> None:
    """Of weights that were kept, on pictures so few that the probe holds them all."""
    made = package.train(pictures, "mnist_convnet", out=tmp_path / "run", watch=True, precision="fp32", **COMMON)
    losses = [json.loads(line)["val_loss"] for line in (made.folder / "metrics.jsonl").read_text().splitlines()]
    surface = read(made.folder).surface
    assert surface is not None
    assert surface["pictures"] == len(made.predictions("val").files)
    assert surface["losses"][5][5] in [pytest.approx(loss, rel=1e-5) for loss in losses]
    assert len({value for row in surface["losses"] for value in row}) > 100


def test_a_stopped_run_has_the_rows_of_one_that_was_not(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped within an epoch: what was counted since the last row goes on too. Rows are 16 pictures apart here."""
    monkeypatch.setattr("neocog.app.watching.APART", 16)
    more = COMMON | {"accumulate": 2, "watch": True, "model": "mnist_convnet", "batch_size": 4}
    package.train(pictures, out=tmp_path / "whole", **more)
    expected = files(tmp_path / "whole")
    assert len(read(tmp_path / "whole").rows) > 4
    for stop_at in (3, 8, 11):
        events, trainers, count = Events(), [], 0
        events.on("training", lambda trainer, trainers=trainers: trainers.append(trainer))

        def stop(**_: object) -> None:
            nonlocal count
            count += 1
            if count == stop_at:  # noqa: B023
                trainers[0].stop(2)  # noqa: B023

        events.on("step_ended", stop)
        folder = tmp_path / str(stop_at)
        with pytest.raises(Interrupted):
            package.train(pictures, out=folder, events=events, **more)
        resume(folder)
        assert files(folder) == expected


def files(run: Path) -> dict[str, Any]:
    return {"weights": weights(run)} | {name: (run / name).read_text() for name in ("watch.jsonl", "surface.json")}


# what a person sees


def test_each_thing_says_of_which_weights_it_is(pictures: Path, tmp_path: Path) -> None:
    """The rows are of a training that goes on, the plane lies around the weights that were kept."""
    made = package.train(pictures, "mnist_convnet", out=tmp_path / "run", watch=True, **COMMON)
    losses = [json.loads(line)["val_loss"] for line in (made.folder / "metrics.jsonl").read_text().splitlines()]
    said = Seen((made.folder / "report.html").read_text()).text["inside"]
    assert "with the weights after the last epoch, 3" in said
    kept = re.search(r"when the weights that were kept, of epoch (\d), are all moved", said)
    assert kept
    surface = read(made.folder).surface
    assert surface is not None
    assert surface["losses"][5][5] == pytest.approx(losses[int(kept[1]) - 1], rel=0.05)


def test_the_command_ends_with_the_main_finding(neocog: Command, pictures: Path) -> None:
    small = ("--model", "mnist_fcn", "--epochs", 2, "--batch-size", 8, "--watch")
    made = neocog("train", pictures, *small, "--out", "run")
    assert made.code == 0, made.err
    lines = [line.split(maxsplit=1) for line in made.out.splitlines()]
    first, last = [text for label, text in lines if label == "watch"]
    assert "3 layers at every step, 6 validation pictures after every epoch" in first
    assert last == read(Path("run")).diagnosis().summary
    assert "watch = true" in Path("run/config.toml").read_text()
    again = neocog("train", pictures, *small, "--out", "other", "--json")
    found = json.loads(again.out)["watch"]
    assert found["finding"] == read(Path("run")).diagnosis().main.text
    assert found["numbers"] == read(Path("run")).diagnosis().numbers
    assert found["numbers"]["channels"] == 96
    assert neocog("val", "run", "--verify").code == 0
    path = Path("run/watch.jsonl")
    path.write_text(path.read_text().replace('"steps": 8', '"steps": 9'))
    worse = neocog("val", "run", "--verify")
    assert worse.code == 4
    assert "watch.jsonl is not what the checkpoint remembers" in worse.out + worse.err


@pytest.mark.parametrize(("more", "said"), [
    (("--head", "svm", "--weights", "imagenet"), "head svm is fitted at once: there are no steps to watch"),
    (("--shard",), "shard leaves no process a whole layer to watch"),
])  # fmt: skip
def test_what_cannot_be_watched_is_refused(neocog: Command, pictures: Path, more: tuple[str, ...], said: str) -> None:
    one_line_error(neocog("train", pictures, "--model", "resnet18", "--watch", *more), 2, said)


def test_a_time_budget_decides_how_fine_the_surface_is(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert points_within(0.01, 100.0) == 11
    assert points_within(0.01, 10.0) == 9  # 121 places would take more than a tenth
    assert points_within(0.01, 2.5) == 5
    assert points_within(0.01, 2.4) == 0
    settings = COMMON | {"data": str(pictures), "model": "mnist_fcn", "epochs": 2}
    ends = {}
    for each, points in ((0.05, 9), (0.3, 0)):
        monkeypatch.setattr("neocog.app.preparing.seconds_per_evaluation", lambda *_, each=each, **__: each)
        for watch in (False, True):
            (out := tmp_path / f"{each} {watch}").mkdir()
            session = prepare(load_config(None, settings | {"time": "60s", "watch": watch}), out, Events())
            assert isinstance(session.trainer, Trainer)
            assert session.trainer.budget is not None
            ends[watch] = session.trainer.budget.evaluation
        assert session.watching is not None
        assert session.watching.points == points
        assert ends[True] == pytest.approx(ends[False] + points**2 * each)  # the time for it is kept
        assert ("is left out" in session.watching.words()) == (points == 0)
        session.watching.write_surface(out, Events())
        assert (out / "surface.json").exists() == (points > 0)


def test_how_often_it_looks() -> None:
    assert rows_per_epoch(20, 100, 128) == 1
    assert rows_per_epoch(1, 500, 128) == 12
    assert rows_per_epoch(3, 500, 128) == 4
    assert rows_per_epoch(1, 40, 128) == 2  # else the looking would take longer than the learning
    assert rows_per_epoch(1, 3, 8) == 1
    assert rows_per_epoch(0.3, 500, 128) == 12


def test_a_long_run_keeps_a_bounded_number_of_rows(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ROWS == 400
    monkeypatch.setattr("neocog.training.watched.ROWS", 6)
    more = COMMON | {"epochs": 12, "batch_size": 32}
    made = package.train(pictures, "mnist_fcn", out=tmp_path / "run", watch=True, **more)
    epochs = [row["epoch"] for row in read(made.folder).rows]
    assert len(epochs) <= 6
    assert epochs == sorted(set(epochs))
    assert (epochs[0], epochs[-1]) == (0.0, 12.0)


def test_damaged_records_are_named(pictures: Path, tmp_path: Path) -> None:
    made = package.train(pictures, "mnist_fcn", out=tmp_path / "run", watch=True, **COMMON | {"epochs": 1})
    for name, text in (("surface.json", "{"), ("watch.jsonl", ""), ("watch.jsonl", "{")):
        copy = tmp_path / "copy"
        shutil.copytree(made.folder, copy)
        (copy / name).write_text(text)
        with pytest.raises(ModelFileError, match=name):
            read(copy)
        shutil.rmtree(copy)


@pytest.mark.parametrize(("batch", "whole"), [(8, True), (4, False)], ids=["validating", "at a step"])
def test_a_run_that_diverges_leaves_what_was_seen(pictures: Path, tmp_path: Path, batch: int, whole: bool) -> None:
    more = COMMON | {"optimizer": "sgd", "momentum": 0.99, "lr": 100.0, "batch_size": batch}
    with pytest.raises(DivergedError):
        package.train(pictures, "mnist_convnet", out=tmp_path / "run", watch=True, **more)
    found = read(tmp_path / "run")
    assert found.rows[-1]["epoch"].is_integer() == whole
    assert found.rows[-1]["steps"] > 0
    assert found.diagnosis().main.what in ("not finite", "exploding")
