"""Model auto: the network is chosen by what was measured, from weights at hand; and whose weights a file holds."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import neocog as package
from command import Command, one_line_error
from drawn import colours
from neocog.app.nearest import owner_of
from neocog.app.selecting import EVEN, Candidate, best

SMALL = ("--image-size", 16, "--batch-size", 8, "--device", "cpu", "--epochs", 2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`weights`: a network that was trained on these colours, and two that were not; `data`: their pictures."""
    place = tmp_path_factory.mktemp("selecting")
    colours(place / "data", 16, noise=120, tint=60)
    run = package.train(place / "data", "resnet20", out=place / "run", epochs=4, image_size=16, batch_size=8)
    (place / "weights").mkdir()
    shutil.copy(run.folder / "model" / "model.safetensors", place / "weights" / "resnet20.safetensors")
    for name in ("plain20", "resnet32"):
        torch.manual_seed(0)
        network = package.create_model(name, num_classes=3)
        with torch.no_grad():
            for parameter in network.stem.parameters():
                parameter.mul_(0)  # it sees nothing
        save_file(network.state_dict(), place / "weights" / f"{name}.safetensors")
    return place


def test_the_network_that_says_most_is_taken(neocog: Command, made: Path) -> None:
    result = neocog("train", made / "data", "--model", "auto", "--weights", made / "weights", *SMALL, "--out", "run")
    assert result.code == 0, result.err
    measured = [line for line in result.out.splitlines() if line.startswith("candidate")]
    assert sorted(line.split()[1] for line in measured) == ["plain20:", "resnet20:", "resnet32:"]
    assert "chosen     resnet20 of 3" in result.out
    kept = json.loads(Path("run/choices.json").read_text())["models"]
    assert max(kept, key=lambda one: one["accuracy"])["model"] == "resnet20"
    config = package.Run.open("run").config
    assert (config.model, config.weights) == ("resnet20", str(made / "weights" / "resnet20.safetensors"))
    assert "resnet20: a linear classifier on its embeddings" in Path("run/report.html").read_text()


def test_what_model_auto_cannot_do(neocog: Command, made: Path, tmp_path: Path) -> None:
    start = ("train", made / "data", "--model", "auto", *SMALL, "--out", "run")
    one_line_error(neocog(*start), 2, "--weights imagenet, or a folder")
    one_line_error(neocog(*start, "--weights", "imagenet"), 2, "no network's weights lie in")
    (tmp_path / "empty").mkdir()
    one_line_error(neocog(*start, "--weights", tmp_path / "empty"), 2, "NAME.safetensors")
    weights = ("--weights", made / "weights")
    one_line_error(neocog(*start, *weights, "--knob", "a=1"), 2, "belong to one network")
    one_line_error(neocog(*start, *weights, "--folds", 3), 2, "folds and repeats judge one network")
    assert not Path("run").exists()


def candidate(model: str, accuracy: float, seconds: float) -> Candidate:
    return Candidate(model, "", accuracy, 0.0, seconds)


def test_the_faster_of_two_that_are_even_wins_and_time_counts() -> None:
    slow, fast, bad = candidate("slow", 0.9, 0.1), candidate("fast", 0.9 - EVEN / 2, 0.01), candidate("bad", 0.5, 0.001)
    assert best([slow, fast, bad], None, 1000).model == "fast"
    assert best([slow, bad], None, 1000).model == "slow"
    assert best([slow, bad], 600, 1000).model == "bad"  # eleven passes of 100 s
    assert best([slow], 600, 1000).model == "slow"  # nothing else is there


@pytest.mark.parametrize("name", ["resnet32", "squeezenet1_0", "mobilenet_v3_small"])
def test_a_file_s_owner_is_named(name: str, neocog: Command, made: Path, tmp_path: Path) -> None:
    state = {f"module.{key}": value for key, value in package.create_model(name, num_classes=7).state_dict().items()}
    assert f"nearest to {name}'s in the layout of neocog" in owner_of(state)
    save_file(state, tmp_path / "file.safetensors")
    result = neocog("train", made / "data", "--model", "vgg11", "--weights", tmp_path / "file.safetensors", *SMALL)
    one_line_error(result, 4, "file.safetensors", f"nearest to {name}'s")


def test_a_stranger_s_file_has_no_owner() -> None:
    assert owner_of({f"word{i}": torch.zeros(1) for i in range(50)}) == ""
