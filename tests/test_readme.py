"""What the README shows is run: every `neocog` line and every block of Python, on small pictures."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import neocog
from neocog.app.published import weights_folder
from neocog.app.zoo import lookup
from neocog.cli.main import main

README = Path(__file__).resolve().parents[1] / "README.md"
BLOCKS = re.findall(r"```(console|python)\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
COMMANDS = [
    line.removeprefix("$ ").split("  #")[0].strip()
    for kind, block in BLOCKS if kind == "console"
    for line in block.splitlines() if line.startswith("$ neocog")
]  # fmt: skip
# Shorter, never different: a network at 224 pixels for 20 epochs is not what is being tested.
QUICK = {"train": "--epochs 1 --image-size 64 --head-epochs 0"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the README assumes it: pictures/, other_pictures/, new_pictures/, new.jpg, a run, weights."""
    folder = tmp_path_factory.mktemp("readme")
    draw = np.random.default_rng(0)
    for name, channel in (("cats", 0), ("dogs", 2)):
        for parent in ("pictures", "other_pictures"):
            (folder / parent / name).mkdir(parents=True)
            for i in range(8):
                pixels = draw.integers(0, 90, (64, 64, 3), np.uint8)
                pixels[..., channel] += 120
                Image.fromarray(pixels).save(folder / parent / name / f"{i}.png")
    shutil.copytree(folder / "pictures", folder / "few")
    (folder / "new_pictures").mkdir()
    for target in ("noisy.png", "a.png", "b.png", "new.jpg", "new_pictures/one.jpg"):
        Image.new("RGB", (70, 50), "red").save(folder / target)
    return folder


@pytest.fixture
def ready(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    monkeypatch.setenv("NEOCOG_WEIGHTS", str(place / "weights"))
    published = lookup("mobilenet_v2").spec.weights[0]
    file = weights_folder() / published.url.rpartition("/")[2]
    if not file.exists():  # random numbers in the place of the published file: what is learned does not matter here
        file.parent.mkdir()
        torch.manual_seed(0)
        network: nn.Module = neocog.create_model("mobilenet_v2")
        torch.save(network.state_dict(), file)
    monkeypatch.setattr("neocog.app.published.matches", lambda *_: True)
    return place


def call(command: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(shlex.split(command)[1:])
    return int(caught.value.code or 0)


def test_the_readme_has_commands() -> None:
    verbs = {command.split()[1] for command in COMMANDS}
    assert {"check", "train", "predict", "val", "resume", "models", "cost"} <= verbs


@pytest.mark.parametrize("command", COMMANDS)
def test_command(ready: Path, command: str) -> None:
    if "runs/NAME" in command and not Path("runs/NAME").exists():
        assert call("neocog train pictures/ --model mnist_fcn --epochs 1 --out runs/NAME") == 0
    if "runs/SMALL" in command:
        assert call("neocog train pictures/ --model resnet18 --image-size 32 --epochs 1 --out runs/SMALL") == 0
    command = command.replace("patient", "")  # the pictures here are called by numbers
    verb = command.split()[1]
    if verb == "resume":
        command += " --epochs 2"  # there has been no Ctrl-C
    if "--config" in command:
        command += " --out again"
    elif verb == "train":
        command += " " + QUICK["train"]
    assert call(command) == 0


@pytest.mark.parametrize("code", [block for kind, block in BLOCKS if kind == "python"])
def test_python(ready: Path, code: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(code.replace("epochs=10", "epochs=1"), str(README), "exec"), {})
    printed = capsys.readouterr().out
    promises = {
        "run.predict": ["new.jpg"],
        "network.embed": ["[2, 256, 56, 56]) 256", "[2, 1024]"],
        "neocog.cost": ["ConvTranspose2d (3, 66, 66)", "(5, 5) (1.0, 1.0)"],
    }
    [kept] = [words for call, words in promises.items() if call in code]
    for promised in kept:
        assert promised in printed


def test_the_table_of_costs_is_what_is_printed(ready: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = next(
        b for b in re.findall(r"```text\n(.*?)```", README.read_text("utf-8"), re.DOTALL) if b.startswith("layer")
    )
    assert call("neocog cost resnet18 --depth 2") == 0
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == shown.splitlines()
