"""Several processes learn what one would have learned, and fail as one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from drawn import steps
from neocog.core.files import sha256_of
from together import RUNS

HERE = Path(__file__).parent
RUN = ("--model", "mnist_convnet", "--image-size", "16", "--batch-size", "10", "--device", "cpu", "--augment", "light")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 60, 40 and 20: batches and evaluation batches that do not divide by two."""
    folder = tmp_path_factory.mktemp("together") / "pictures"
    return steps(folder, {"class0": 60, "class1": 40, "class2": 21})


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache")),
                         "PYTHONWARNINGS": "ignore"}  # fmt: skip


@pytest.fixture(scope="module")
def one_and_two(
    pictures: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """What together.py wrote as one process, and as two."""
    folder = tmp_path_factory.mktemp("outcomes")
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    script = str(HERE / "together.py")
    jobs = [
        subprocess.Popen([sys.executable, *how, script, str(pictures), str(folder / name)], env=environment)
        for name, how in (("one", ()), ("two", torchrun))
    ]
    assert [job.wait(300) for job in jobs] == [0, 0]
    return folder / "one", folder / "two"


def apart(one: dict[str, Tensor], two: dict[str, Tensor], names: str) -> float:
    chosen = [name for name in one if name.startswith(names) and one[name].is_floating_point()]
    assert chosen
    return max((one[name] - two[name]).abs().max().item() for name in chosen)


@pytest.mark.parametrize("name", [name for name in RUNS if name != "synchronised"])
def test_two_processes_learn_what_one_learns(one_and_two: tuple[Path, Path], name: str) -> None:
    """121 pictures in batches of 9, shared as 5 and 4: a mean of means would be off."""
    one, two = (load_file(folder / f"{name}.safetensors") for folder in one_and_two)
    assert one["losses"].shape == (2, 4)
    assert apart(one, two, "losses") < 1e-5
    assert apart(one, two, "s") < 1e-4  # stem, stages
    assert torch.equal(one["losses"][:, 1], two["losses"][:, 1])
    moved = load_file(one_and_two[0] / "plain.safetensors")["losses"][:, 0]
    assert moved[0] != moved[1]


def test_two_processes_see_the_gradient_of_both(one_and_two: tuple[Path, Path]) -> None:
    """DDP averages before anybody looks: norms are those of one process with the whole batch."""
    one, two = (json.loads((folder / "watched.json").read_text()) for folder in one_and_two)
    assert [row["epoch"] for row in one] == [row["epoch"] for row in two] == [0.0, 1.0, 2.0]
    numbers = ("gradient_norm_mean", "gradient_norm_largest", "update_ratio_mean")
    for row, other in zip(one[1:], two[1:], strict=True):
        for layer, same in zip(row["layers"], other["layers"], strict=True):
            assert layer["steps"] == same["steps"] == 4  # of 10 batches, by threes
            assert [layer[name] for name in numbers] == pytest.approx([same[name] for name in numbers], rel=2e-3)
            assert min(layer[name] for name in numbers) > 1e-5


def test_batch_norm_over_all_processes_is_that_of_one(one_and_two: tuple[Path, Path]) -> None:
    one, two = (load_file(folder / "synchronised.safetensors") for folder in one_and_two)
    assert apart(one, two, "losses") < 1e-4
    statistics = [name for name in one if name.endswith(("running_mean", "running_var"))]
    assert len(statistics) > 30
    for name in statistics:
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("file", ["same True.npz", "same False.npz"])
def test_the_same_weights_give_exactly_the_same_predictions(one_and_two: tuple[Path, Path], file: str) -> None:
    one, two = (np.load(folder / file) for folder in one_and_two)
    assert len(one.files) == 3
    for column in one.files:
        assert np.array_equal(one[column], two[column])
    assert np.ptp(one["arr_1"]) > 0.01  # there is a signal


def neocog(*words: object) -> list[str]:
    return [sys.executable, "-m", "neocog", *(str(word) for word in words)]


def outcome(run: Path) -> tuple[str, str, list[Any]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    plain = [{key: row[key] for key in ("train_loss", "val_loss", "lr")} for row in rows]
    return sha256_of(run / "model" / "model.safetensors"), sha256_of(run / "predictions.csv"), plain


def processes_of(parent: int) -> list[int]:
    """The processes that `neocog --devices` started, the first one first."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            after = (path / "stat").read_text().rpartition(")")[2].split()
            rank = dict(entry.split("=", 1) for entry in (path / "environ").read_text().split("\0") if "=" in entry)
        except (OSError, ValueError):
            continue
        if int(after[1]) == parent and "RANK" in rank:
            found.append((int(rank["RANK"]), int(path.name)))
    return [pid for _, pid in sorted(found)]


def wait_for(condition: Any, seconds: float = 60) -> None:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "it never happened"
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="the processes are found through /proc")
@pytest.mark.row(55, "the others end within 30 seconds, one message says which died, `resume` goes on to the same bits")
def test_a_killed_process_ends_the_job_and_two_go_on_exactly(
    pictures: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    def train(run: Path, epochs: int) -> list[str]:
        return neocog("train", pictures, *RUN, "--watch", "--epochs", epochs, "--devices", 2, "--out", run)

    subprocess.run(train(tmp_path / "whole", 12), env=environment, check=True, capture_output=True)
    job = subprocess.Popen(
        train(tmp_path / "run", 12), env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    wait_for((tmp_path / "run" / "checkpoint.json").exists)
    os.kill(processes_of(job.pid)[1], signal.SIGKILL)
    killed = time.monotonic()
    _, err = job.communicate(timeout=60)
    assert time.monotonic() - killed < 30
    assert job.returncode == 6
    lines = [line for line in err.splitlines() if line.startswith("error")]  # the other one may say that it saves
    assert len(lines) == 1, err
    assert "process 1 of 2 was killed by signal 9" in lines[0]
    assert f"neocog resume {tmp_path / 'run'} --devices 2" in lines[0]
    done = json.loads((tmp_path / "run" / "run.json").read_text())["sittings"][-1]["ended"]
    assert done != "finished"
    subprocess.run(neocog("resume", tmp_path / "run", "--devices", 2), env=environment, check=True, capture_output=True)
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")
    for name in ("watch.jsonl", "surface.json"):
        assert (tmp_path / "run" / name).read_text() == (tmp_path / "whole" / name).read_text()
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["exact"]
    assert [sitting["processes"] for sitting in record["sittings"]] == [2, 2]
    assert "2; the same bits as one sitting" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.row(49, "several processes: all finish the same step; `--devices` leaves 143")
def test_a_signal_stops_all_processes_at_one_step(pictures: Path, environment: dict[str, str], tmp_path: Path) -> None:
    words = neocog("train", pictures, *RUN, "--epochs", 500, "--devices", 2, "--out", tmp_path / "run")
    job = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    wait_for((tmp_path / "run" / "checkpoint.json").exists)
    job.send_signal(signal.SIGTERM)
    _, err = job.communicate(timeout=60)
    assert job.returncode == 143, err
    assert "everything is saved" in err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["sittings"][-1]["exit_code"] == 143


HANG = """
import os, signal, sys, time, datetime
from neocog.training import world
world.DEADLINE = datetime.timedelta(seconds=2)
from neocog.app.processes import joined
with joined("cpu") as w:
    w.gather([1.0])
    if not w.first:
        time.sleep(600)
    w.gather([2.0])
"""


@pytest.mark.row(55, "a process that hangs is given up after 25 seconds")
def test_a_process_that_hangs_ends_the_job(environment: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "hang.py"
    script.write_text(HANG)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    end = subprocess.run(torchrun, env=environment, capture_output=True, text=True, timeout=60)
    assert end.returncode != 0
    assert "died or hangs" in end.stderr


LEAVE = """
from pathlib import Path
import torch
from neocog.app.processes import joined
from neocog.training.world import together
def work(world):
    network = together(torch.nn.Linear(2, 1))
    network(torch.ones(3, 2)).sum().backward()
    assert any("gloo" in comm.read_text() for comm in Path("/proc/self/task").glob("*/comm"))
with joined("cpu") as world:
    work(world)
left = [comm.read_text() for comm in Path("/proc/self/task").glob("*/comm")]
assert not any("gloo" in name for name in left), left
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="the system does not list threads under /proc")
def test_no_thread_outlives_the_group(environment: dict[str, str], tmp_path: Path) -> None:
    """One that holds a message when Python shuts down aborts the process."""
    script = tmp_path / "leave.py"
    script.write_text(LEAVE)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    end = subprocess.run(torchrun, env=environment, capture_output=True, text=True, timeout=60)
    assert end.returncode == 0, end.stderr


def test_too_few_pictures_for_so_many_processes(pictures: Path, environment: dict[str, str], tmp_path: Path) -> None:
    words = neocog("train", pictures, *RUN, "--batch-size", 3, "--devices", 2, "--out", tmp_path / "run")
    end = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert end.returncode == 2, end.stderr
    assert [line for line in end.stderr.splitlines() if line] == [
        "error: 3 pictures a batch are too few for 2 processes; at least 4 are needed: raise --batch-size or use fewer "
        "processes"
    ]


def test_two_processes_share_the_embeddings(pictures: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """Regime features: each process embeds its share, both learn the head as one would alone."""
    own = environment | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    source = neocog("train", pictures, *RUN, "--epochs", 2, "--out", tmp_path / "source")
    subprocess.run(source, env=own, check=True, capture_output=True)
    words = ("train", pictures, *RUN, "--weights", tmp_path / "source", "--regime", "features", "--views", 3,
             "--epochs", 6, "--precision", "fp32")  # fmt: skip
    two = neocog(*words, "--devices", 2, "--out", tmp_path / "two")
    said = subprocess.run(two, env=own, check=True, capture_output=True, text=True).stdout
    assert said.count("features ") == 1  # one voice
    views = list((tmp_path / "cache" / "neocog" / "views").glob("*/view-*.npy"))
    assert len(views) == 4
    one = neocog(*words, "--out", tmp_path / "one")
    assert "all at hand" in subprocess.run(one, env=own, check=True, capture_output=True, text=True).stdout
    for path in views:
        path.unlink()
    alone = subprocess.run(neocog(*words, "--out", tmp_path / "alone"), env=own, capture_output=True, text=True).stdout
    assert "embedded now" in alone
    assert {path.name for path in views} == {path.name for path in (tmp_path / "cache").rglob("view-*.npy")}  # the bits
    for name in ("one", "alone"):
        for row, other in zip(outcome(tmp_path / "two")[2], outcome(tmp_path / name)[2], strict=True):
            assert row["train_loss"] == pytest.approx(other["train_loss"], abs=1e-5)
            assert row["val_loss"] == pytest.approx(other["val_loss"], abs=1e-5)
