"""What a run does to its folder, to its data and to the clock; and what it refuses to go on with."""

import json
import os
import re
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

import neocog as package
from command import Command, one_line_error
from drawn import colours
from neocog.app import folder as run_folder
from neocog.app import records
from neocog.app.train import resume
from neocog.core.errors import UsageError
from neocog.core.events import Events
from neocog.core.files import sha256_of

SMALL = ("--model", "mnist_fcn", "--epochs", 1, "--batch-size", 8)
QUICK: dict[str, Any] = {"model": "mnist_fcn", "epochs": 3, "batch_size": 8, "device": "cpu"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data` and a finished `run` of one epoch."""
    place = tmp_path_factory.mktemp("run folder")
    colours(place / "data", 8, noise=200, tint=20)
    package.train(place / "data", out=place / "run", **(QUICK | {"epochs": 1}))
    return place


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy, as the working folder."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    config = tmp_path / "run" / "config.toml"
    config.write_text(config.read_text().replace(str(made), str(tmp_path)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.row(
    36, "exists: refused (code 2), untouched, naming `resume` and `--force`, which starts anew in its place"
)
@pytest.mark.row(36, "is a file, lies inside the data: refused (code 2)")
def test_a_folder_in_use_for_something_is_not_overwritten(place: Path, neocog: Command) -> None:
    before = contents(place)
    one_line_error(neocog("train", "data", *SMALL, "--out", "run"), 2, "exists already", "neocog resume run", "--force")
    (place / "mine").mkdir()
    (place / "mine" / "thesis.txt").write_text("years of work")
    for force in ((), ("--force",)):  # a folder that holds no run is nobody's to remove
        one_line_error(neocog("train", "data", *SMALL, "--out", "mine", *force), 2, "exists already", "another --out")
        one_line_error(neocog("train", "data", *SMALL, "--out", "data/red/00.png", *force), 2, "is a file")
        one_line_error(neocog("train", "data", *SMALL, "--out", "data/run", *force), 2, "inside the data")
    assert contents(place) == before | {Path("mine/thesis.txt"): b"years of work"}
    assert neocog("train", "data", *SMALL, "--seed", 5, "--out", "run", "--force").code == 0
    assert package.Run.open("run").config.seed == 5


@pytest.mark.row(36, "is read-only: refused (code 2) before anything is computed")
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to(place: Path, neocog: Command) -> None:
    (place / "closed").mkdir(mode=0o500)
    one_line_error(neocog("train", "data", *SMALL, "--out", "closed/run"), 2, "cannot be written to")


@pytest.mark.row(36, "is read-only: refused (code 2) before anything is computed")
def test_a_folder_that_the_system_says_is_closed(place: Path, neocog: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """For root too, who may write anywhere: the system's answer is what counts."""
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "closed")
    (place / "closed").mkdir()
    one_line_error(neocog("train", "data", *SMALL, "--out", "closed/run"), 2, "closed cannot be written to")
    assert not any((place / "closed").iterdir())


class Earlier(datetime):
    """A clock that was set back by ten years, of a traveller."""

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return datetime.now(tz) - timedelta(days=3650)


@pytest.mark.row(37, "names from UTC with a random tail; durations from the monotonic clock")
def test_clocks_that_jump(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {run_folder.choose_folder(None, "net", "digits").name for _ in range(20)}
    assert len(names) == 20  # within one second, too
    stamp = re.compile(r"(\d{8}-\d{6})-net-[0-9a-f]{4}")
    for zone in ("Pacific/Kiritimati", "America/Adak"):  # 25 hours apart
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        name = run_folder.choose_folder(None, "net", "digits").name
        found = stamp.fullmatch(name)
        assert found
        told = datetime.strptime(found[1], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
        assert abs((datetime.now(UTC) - told).total_seconds()) < 60
    monkeypatch.delenv("TZ")
    time.tzset()

    moments = iter(range(10**9, 0, -(10**6)))
    monkeypatch.setattr(time, "time", lambda: float(next(moments)))  # every look at it is eleven days earlier
    monkeypatch.setattr(records, "datetime", Earlier)
    run = package.train(place / "data", out=place / "timed", time="8s", **(QUICK | {"epochs": 2}))
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    seconds = [row["seconds"] for row in rows]
    assert 0 < seconds[0] < seconds[1] < 60
    assert all(row["images_per_second"] > 0 for row in rows)
    [sitting] = records.read(run.folder).sittings
    assert int(sitting.started[:4]) == datetime.now(UTC).year - 10
    assert sitting.ended == "finished"


@pytest.mark.row(15, "nothing: a run learns from the decoded copy; a later sitting refuses, naming the file (code 2)")
def test_pictures_deleted_or_changed_during_training_change_nothing(place: Path) -> None:
    calm = package.train(place / "data", out=place / "calm", **QUICK)
    events, gone = Events(), place / "data" / "red" / "00.png"
    blue = contents(place / "data" / "blue")

    def spoil(**_: object) -> None:
        gone.unlink(missing_ok=True)
        for path in blue:
            (place / "data" / "blue" / path).write_bytes(b"no picture any more")

    events.on("step_ended", spoil)
    spoiled = package.train(place / "data", out=place / "spoiled", events=events, **QUICK)
    assert not gone.exists()
    for name in ("model/model.safetensors", "predictions.csv"):
        assert sha256_of(spoiled.folder / name) == sha256_of(calm.folder / name)
    for path, content in blue.items():
        (place / "data" / "blue" / path).write_bytes(content)
    with pytest.raises(UsageError, match=r"not those it was started on: 1 gone \(red/00\.png\)"):
        resume(spoiled.folder, epochs=4)


@pytest.mark.row(52, "a class folder more: exit code 2, naming the new files")
def test_a_run_does_not_go_on_with_other_classes(place: Path, neocog: Command) -> None:
    shutil.copytree(place / "data" / "red", place / "data" / "yellow")
    for path in (place / "data" / "yellow").iterdir():
        path.write_bytes(path.read_bytes() + b"x")
    before = contents(place / "run")
    one_line_error(neocog("resume", "run", "--epochs", 3), 2, "run", "8 new (yellow/00.png", "train a new run")
    assert contents(place / "run") == before


@pytest.mark.row(52, "exit code 2, listing each difference")
def test_a_run_does_not_go_on_with_other_settings(place: Path, neocog: Command) -> None:
    before = contents(place / "run")
    for words, found in (
        (
            ("--image-size", 64, "--optimizer", "sgd"),
            ("image_size was 16 and is 64", "optimizer was 'adamw' and is 's"),
        ),
        (("--model", "lenet5"), ("model was 'mnist_fcn' and is 'lenet5'",)),
    ):
        one_line_error(neocog("train", "data", *SMALL, *words, "--out", "run", "--resume", "exact"), 2, *found)
    one_line_error(
        neocog("train", "data", *SMALL, "--seed", 1, "--out", "run", "--resume", "exact"), 2, "in another set"
    )
    assert contents(place / "run") == before


@pytest.mark.row(53, "allowed: `run.json` says `exact: false`, and a warning names what is different")
def test_a_run_goes_on_under_other_conditions_and_says_so(place: Path, neocog: Command) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        shown = neocog("resume", "run", "--epochs", 2)
    finally:
        torch.set_num_threads(threads)
    assert shown.code == 0, shown.err
    assert f"warning    threads was {threads} and is {threads + 1}; the run has another length" in shown.out
    assert "the result will not be exactly that of one sitting" in shown.out
    record = records.read(place / "run")
    assert [record.exact, *(sitting.threads for sitting in record.sittings)] == [False, threads, threads + 1]


def test_the_same_conditions_keep_a_run_exact(place: Path, neocog: Command) -> None:
    (place / "run" / "report.html").unlink()  # as if it had been killed before its end
    assert "warning" not in neocog("resume", "run").out
    assert (place / "run" / "report.html").is_file()
    record = records.read(place / "run")
    assert record.exact
    assert [sitting.ended for sitting in record.sittings] == ["finished", "finished"]


def test_nothing_is_written_where_a_run_is_refused(place: Path) -> None:
    with pytest.raises(UsageError, match="is finished"):
        resume(place / "run")
    assert not (place / "run" / "lock").exists()


@pytest.mark.row(36, "`--force` removes nothing that a run did not write, and never the pictures")
def test_force_removes_a_run_and_nothing_else(place: Path, neocog: Command) -> None:
    again = ("train", "data", *SMALL, "--out", "run", "--force")
    (place / "run" / "notes.txt").write_text("mine")
    one_line_error(neocog(*again), 2, "run holds what no run wrote, such as notes.txt", "another --out")
    (place / "run" / "notes.txt").unlink()
    shutil.copytree(place / "data", place / "run" / "model" / "data")
    inside = ("train", "run/model/data", *SMALL, "--out", "run", "--force")
    one_line_error(neocog(*inside), 2, "the data run/model/data lie inside run")
    one_line_error(neocog(*again, "--resume", "auto"), 2, "give one of the two")
    assert (place / "run" / "report.html").is_file()
    assert neocog(*again).code == 0
    assert not (place / "run" / "model" / "data").exists()


def test_evaluation_refuses_other_pictures_than_the_run_s(place: Path, neocog: Command) -> None:
    config = place / "run" / "config.toml"
    config.write_text(config.read_text().replace("seed = 0", "seed = 1"))
    one_line_error(neocog("val", "run"), 2, "in another set")


def test_a_run_whose_model_is_gone_is_not_finished(place: Path, neocog: Command) -> None:
    before = (place / "run" / "model" / "model.safetensors").read_bytes()
    (place / "run" / "model" / "model.safetensors").write_bytes(before[:-1])
    assert neocog("train", "data", *SMALL, "--out", "run", "--resume", "auto").code == 0
    assert (place / "run" / "model" / "model.safetensors").read_bytes() == before


def test_best_weights_are_looked_at_before_hours_are_spent(place: Path, neocog: Command) -> None:
    for path in (place / "run" / "checkpoints").glob("best-*"):
        path.unlink()
    one_line_error(neocog("resume", "run", "--epochs", 9), 4, "best-", "does not exist")


def test_a_time_budget_that_is_over_ends_the_run(place: Path, neocog: Command) -> None:
    words = ("--model", "mnist_fcn", "--batch-size", 8, "--out", "timed")
    assert neocog("train", "data", *words, "--time", "8s").code == 0
    (place / "timed" / "report.html").unlink()
    shown = neocog("resume", "timed", "--time", "1s")
    assert shown.code == 0, shown.err
    assert "the clock decides the number of steps" in shown.out
    assert (place / "timed" / "report.html").is_file()


@pytest.mark.parametrize("size", ["banana", "2"])
def test_half_of_torchrun_s_variables(place: Path, neocog: Command, monkeypatch: pytest.MonkeyPatch, size: str) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)
    one_line_error(neocog("train", "data", *SMALL, "--out", "new"), 2, "WORLD_SIZE is", "torchrun")


@pytest.mark.row(38, "with `--force`, the old run stays where the new one would not find room")
def test_force_asks_for_room_before_the_old_run_goes(
    place: Path, neocog: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(place / "run")
    usage = shutil.disk_usage(place)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    one_line_error(neocog("train", "data", *SMALL, "--out", "run", "--force"), 6, "are free")
    assert contents(place / "run") == before
