"""What diverges stops and names its pictures; what runs out of memory or disk says how much would do."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch

from command import Command, one_line_error
from drawn import steps
from neocog.app import preparing
from neocog.core.errors import DivergedError
from neocog.tasks.classification import Classification
from neocog.training.budget import Pace
from neocog.training.checkpoint import Checkpoints
from test_train import trainer

SMALL = ("--model", "lenet5", "--image-size", 32, "--batch-size", 8, "--device", "cpu", "--precision", "fp32",
         "--augment", "none", "--out", "run")  # fmt: skip


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return steps(tmp_path / "pictures", {"class0": 20, "class1": 20}, shape=(32, 32), noise=155, step=100)


@pytest.mark.row(43, "stops within the step, code 5; `diverged.json` names the pictures, the last checkpoint stays")
def test_a_loss_that_is_no_number(
    neocog: Command, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Classification.loss
    calls = 0

    def loss(self: Classification, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += torch.is_grad_enabled()
        return honest(self, outputs, targets) * (math.nan if calls > 15 else 1)

    monkeypatch.setattr(Classification, "loss", loss)
    monkeypatch.setattr(preparing, "measure", lambda *_, **__: Pace(1, 1))  # the measured steps count as well
    result = neocog("train", pictures, *SMALL, "--epochs", 20)
    one_line_error(result, 5, "the loss became nan in epoch", "diverged.json", "the last checkpoint is finite", "--lr")
    facts = json.loads((tmp_path / "run" / "diverged.json").read_text())
    assert len(facts["files"]) == len(facts["rows"]) > 0
    assert all((pictures / file).is_file() for file in facts["files"])
    state = Checkpoints(tmp_path / "run").load()
    assert all(bool(value.isfinite().all()) for value in state.tensors.values() if value.is_floating_point())
    assert state.facts["progress"]["done"] <= 15
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["sittings"][-1] | {"ended": "DivergedError", "exit_code": 5} == record["sittings"][-1]


@pytest.mark.row(43, "a gradient that is no number does the same")
def test_a_gradient_that_is_no_number(tmp_path: Path) -> None:
    made = trainer(tmp_path, clip_norm=1.0)
    made.events.on("step_ended", lambda batch, **_: poison(batch))

    def poison(batch: int) -> None:
        if batch == 3:
            next(made.network.parameters()).register_hook(lambda gradient: gradient * math.inf)

    with pytest.raises(DivergedError, match="gradient's norm became"):
        made.fit()
    assert made.progress.done == 3
    assert all(bool(p.isfinite().all()) for p in made.network.parameters())


@pytest.mark.row(44, "looked at before a checkpoint or the best weights are written: code 5, naming the tensor")
@pytest.mark.parametrize("name", ["stem.1.running_var", "head.fc.weight"])
def test_statistics_or_weights_that_are_no_numbers(tmp_path: Path, name: str) -> None:
    made = trainer(tmp_path)

    def poison(epoch: int, batch: int, **_: object) -> None:
        if (epoch, batch) == (1, 7):  # the last step of the second epoch: no loss will see it
            made.network.state_dict()[name].view(-1)[0] = math.nan

    made.events.on("step_ended", poison)
    with pytest.raises(DivergedError, match=f"{name} is no longer finite"):
        made.fit()
    state = Checkpoints(tmp_path).load()
    assert state.facts["progress"]["epoch"] == 1
    assert bool(state.tensors[f"network/{name}"].isfinite().all())


@pytest.mark.row(38, "code 6 before the first step, with the bytes needed and free")
def test_no_room_for_checkpoints(
    neocog: Command, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    one_line_error(neocog("train", pictures, *SMALL, "--epochs", 1), 6, "needs", "1,000,000 are free", "--out")
    assert not (tmp_path / "run" / "config.toml").exists()
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert neocog("train", pictures, *SMALL, "--epochs", 1).code == 0  # what is left is no obstacle


@pytest.mark.row(39, "code 6, saying which `--batch-size` would fit; `resume` goes on from the last checkpoint")
@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"), MemoryError(),
     RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried")],
    ids=["cuda", "python", "cpu"],
)  # fmt: skip
def test_out_of_memory(
    neocog: Command, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    honest = Classification.step

    def step(self: Classification, network: torch.nn.Module, batch: object, generator: object) -> object:
        if (tmp_path / "run" / "checkpoint.json").exists():
            raise error
        return honest(self, network, batch, generator)  # type: ignore[arg-type]

    monkeypatch.setattr(Classification, "step", step)
    result = neocog("train", pictures, *SMALL, "--epochs", 3)
    one_line_error(
        result, 6, "the memory does not suffice for steps of 8 pictures", "--batch-size", "would fit", "kept"
    )
    monkeypatch.setattr(Classification, "step", honest)
    assert neocog("resume", "run").code == 0
