"""Killed at any moment, a run goes on to the bits it would have had.

The command is the one a batch queue would repeat: `neocog train DATA --out RUN --resume auto`. NEOCOG_KILLS sets how
often each test kills (default: a few, so that the suite stays short).
"""

import json
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import neocog
from drawn import steps
from killer import Killer
from neocog.app.train import resume
from neocog.core.events import Events
from neocog.core.files import sha256_of

KILLS = int(os.environ.get("NEOCOG_KILLS", "6"))
NETWORKS = {
    "dropout": ("--model", "mnist_convnet", "--image-size", "12", "--ema", "0.9", "--accumulate", "2", "--watch"),
    "batch norm": ("--model", "resnet20", "--image-size", "16", "--schedule", "plateau", "--step-epochs", "1",
                   "--optimizer", "sgd", "--mixup", "0.2"),
}  # fmt: skip
CLOCKS = {"seconds", "images_per_second"}


@pytest.fixture(scope="module")
def killer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killer]:
    made = Killer(tmp_path_factory.mktemp("cache"), CHECKPOINT_SECONDS=0.02)
    yield made
    made.close()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kill") / "pictures"
    return steps(folder, {f"class{label}": 24 for label in range(3)})


def command(pictures: Path, run: Path, network: str, threads: int = 1) -> tuple[object, ...]:
    return ("train", pictures, *NETWORKS[network], "--epochs", 4, "--batch-size", 8, "--patience", 4, "--augment",
            "light", "--device", "cpu", "--out", run, "--resume", "auto", "--threads", threads)  # fmt: skip


class Killed(BaseException):
    pass


@pytest.mark.parametrize(("batch", "epoch"), [(9, 1), (0, 3)], ids=["the last batch of an epoch", "the last epoch"])
def test_killed_right_after_a_state(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int, epoch: int
) -> None:
    """Nothing is left to compute then, and the log must be complete all the same."""
    monkeypatch.setattr("neocog.training.loop.CHECKPOINT_SECONDS", 0.0)
    common: dict[str, Any] = {"image_size": 16, "batch_size": 6, "epochs": 3, "device": "cpu", "test_fraction": 0.1}
    neocog.train(pictures, "mnist_convnet", out=tmp_path / "whole", **common)
    events, trainers = Events(), []
    events.on("training", lambda trainer: trainers.append(trainer))

    def kill(**_: object) -> None:
        if (trainers[0].progress.batch, trainers[0].progress.epoch) == (batch, epoch):
            assert len(trainers[0].loader) == 9
            raise Killed

    events.on("checkpoint_written", kill)
    with pytest.raises(Killed):
        neocog.train(pictures, "mnist_convnet", out=tmp_path / "parts", events=events, **common)
    resume(tmp_path / "parts")
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")


def outcome(run: Path) -> dict[str, Any]:
    """All that must not depend on where the run was interrupted."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {
        "weights": sha256_of(run / "model" / "model.safetensors"),
        "predictions": sha256_of(run / "predictions.csv"),
        "split": sha256_of(run / "split.csv"),
        "metrics": [{name: value for name, value in row.items() if name not in CLOCKS} for row in rows],
        "watched": [path.read_text() for path in (run / "watch.jsonl", run / "surface.json") if path.is_file()],
    }


@pytest.fixture(scope="module", params=NETWORKS)
def whole(request: pytest.FixtureRequest, killer: Killer, pictures: Path) -> tuple[str, dict[str, Any], float]:
    """(network, the outcome of a run that nobody disturbed, its seconds)."""
    run = pictures.parent / f"whole {request.param}"
    killer.run(*command(pictures, pictures.parent / f"first {request.param}", request.param))  # fills the cache
    end = killer.run(*command(pictures, run, request.param))
    assert end.code == 0, end.err
    expected = outcome(run)
    assert len(expected["watched"]) == (2 if request.param == "dropout" else 0)
    return request.param, expected, end.seconds


@pytest.mark.row(45, "the same command again ends with the same weights, metrics and predictions, bit for bit (CPU)")
@pytest.mark.row(57, "the same weights and predictions, bit for bit (CPU)")
@pytest.mark.parametrize("number", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_killed_at_random_moments(
    killer: Killer, pictures: Path, tmp_path: Path, whole: tuple[str, dict[str, Any], float], number: str
) -> None:
    network, expected, seconds = whole
    luck = random.Random(f"{network} {number}")
    times = KILLS if number == "SIGKILL" else max(2, KILLS // 3)
    hits = 0
    for trial in range(times):
        run = tmp_path / str(trial)
        moment = seconds * 0.95 * (trial + luck.random()) / times  # one in each stretch of the run
        end = killer.run(*command(pictures, run, network), kill=getattr(signal, number), after=moment)
        if end.code:
            hits += 1
            codes = {"SIGKILL": (-9,), "SIGTERM": (143, -15), "SIGINT": (130, -2)}
            assert end.code in codes[number], end
        end = killer.run(*command(pictures, run, network, threads=1 + trial % 3))
        assert end.code == 0, end.err
        assert outcome(run) == expected, f"killed after {moment:.3f} s of {seconds:.3f}"
        assert not list(run.rglob("*.tmp"))
    assert hits >= times / 2, "most kills came too late to disturb anything"


def test_killed_again_and_again(
    killer: Killer, pictures: Path, tmp_path: Path, whole: tuple[str, dict[str, Any], float]
) -> None:
    """One run, killed in each of its sittings, gets to its end all the same."""
    network, expected, seconds = whole
    luck = random.Random(network)
    for _ in range(10):
        end = killer.run(*command(pictures, tmp_path / "run", network), kill=9, after=seconds * luck.uniform(0.4, 0.9))
        if end.code == 0:
            break
    else:
        assert killer.run(*command(pictures, tmp_path / "run", network)).code == 0
    assert outcome(tmp_path / "run") == expected


@pytest.mark.row(49, "once: the step is finished, everything saved, code 130, 143 or 129; twice: it leaves at once")
def test_a_second_signal_is_not_held_back(
    killer: Killer, pictures: Path, tmp_path: Path, whole: tuple[str, dict[str, Any], float]
) -> None:
    network, expected, _ = whole
    if network != "batch norm":
        pytest.skip("one network is enough")
    for number, code in ((signal.SIGTERM, -15), (signal.SIGHUP, 129)):
        run = tmp_path / str(number)
        again = 0.001 if number == signal.SIGTERM else None
        end = killer.run(*command(pictures, run, network), kill=number, when=run / "checkpoint.json", again_after=again)
        assert end.code in (code, 128 + number), end
        if end.code > 0:
            assert "everything is saved" in end.err
        assert killer.run(*command(pictures, run, network)).code == 0
        assert outcome(run) == expected


@pytest.mark.row(56, "the second is refused, naming the process that holds the run (code 6)")
@pytest.mark.row(36, "in use: refused, naming the process; the lock of a dead process is none")
def test_two_processes_cannot_hold_one_run(
    killer: Killer, pictures: Path, tmp_path: Path, whole: tuple[str, dict[str, Any], float]
) -> None:
    from neocog.app.folder import held, started
    from neocog.core.errors import ResourceError

    network, expected, _ = whole
    run = tmp_path / "run"
    assert killer.run(*command(pictures, run, network), kill=9, when=run / "checkpoint.json").code == -9
    assert (run / "lock").is_file()  # of the dead process
    with held(run):
        owner = json.loads((run / "lock").read_text())
        assert (owner["pid"], owner["started"]) == (os.getpid(), started(os.getpid()))
        end = killer.run(*command(pictures, run, network))
        assert end.code == 6
        assert f"in use by process {os.getpid()}" in end.err
        with pytest.raises(ResourceError), held(run):
            pass
    assert killer.run(*command(pictures, run, network)).code == 0
    assert outcome(run) == expected
    assert not (run / "lock").exists()
