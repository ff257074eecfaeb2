"""Checkpoints: whatever happens to a process, a disk or a file, a whole state remains and is found."""

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from neocog.core import files
from neocog.core.errors import ModelFileError, ResourceError, UsageError
from neocog.training import state
from neocog.training.checkpoint import Checkpoints, State

WEIGHTS = {"w": torch.arange(6.0).view(2, 3), "n": torch.tensor(3)}


def save(folder: Path, step: int, best: str | None = None) -> None:
    Checkpoints(folder).save({"step": step, "score": (-float("inf"), 0.5)}, WEIGHTS, best)


def step_of(folder: Path, **more: Any) -> int:
    number: int = Checkpoints(folder).load(**more).facts["step"]
    return number


def newest(folder: Path) -> Path:
    pointer = json.loads((folder / "checkpoint.json").read_text())
    return folder / "checkpoints" / pointer["states"][0]["file"]


def test_what_is_saved_comes_back_and_two_states_are_kept(tmp_path: Path) -> None:
    for step in range(5):
        best = Checkpoints(tmp_path).save_best(step, {"b": torch.full((2,), float(step))})
        save(tmp_path, step, best)
    found = Checkpoints(tmp_path).load()
    assert found.facts == {"step": 4, "score": [-float("inf"), 0.5]}
    assert all(torch.equal(found.tensors[name], value) for name, value in WEIGHTS.items())
    assert Checkpoints(tmp_path).load_best(best)["b"].tolist() == [4.0, 4.0]
    names = sorted(path.name.rpartition("-")[0] for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["best-00003", "best-00004", "state-000004", "state-000005"]


@pytest.mark.row(50, "exit code 4, by its sha256, naming the file; `resume --previous` goes on from the one before")
@pytest.mark.parametrize(
    "damage",
    [lambda data: data[: len(data) // 2], lambda data: data[:-1], lambda data: data + b"x", lambda data: b"text",
     lambda data: data[:50] + bytes([data[50] ^ 1]) + data[51:], lambda data: b"\x80\x04cos\nsystem\n(S'true'\ntR."],
    ids=["half", "one byte less", "one byte more", "text", "one bit", "pickle"],
)  # fmt: skip
def test_a_damaged_state_is_refused_unless_asked(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    path = newest(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ModelFileError, match="--previous") as caught:
        step_of(tmp_path)
    assert path.name in caught.value.cause
    assert step_of(tmp_path, fall_back=True) == 1
    assert "damaged" in Checkpoints(tmp_path).load(fall_back=True).note


def test_after_falling_back_the_damaged_state_is_forgotten(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    newest(tmp_path).write_bytes(b"junk")
    checkpoints = Checkpoints(tmp_path)
    checkpoints.load(fall_back=True)
    checkpoints.save({"step": 3}, WEIGHTS, None)
    newest(tmp_path).write_bytes(b"junk too")
    assert step_of(tmp_path, fall_back=True) == 1


@pytest.mark.row(
    48, "an empty or missing newest checkpoint is passed over, with a warning; files and folders are synced"
)
@pytest.mark.parametrize("missing", [False, True])
def test_a_power_cut_that_leaves_an_empty_file(tmp_path: Path, missing: bool) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    path = newest(tmp_path)
    path.unlink() if missing else path.write_bytes(b"")
    found = Checkpoints(tmp_path).load()
    assert found.facts["step"] == 1
    assert path.name in found.note


@pytest.mark.row(48, "an empty pointer: exit code 4, and `resume --previous` finds the newest whole state")
@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"format": 1, "states": 3}', b"\xff"])
def test_a_damaged_pointer(tmp_path: Path, content: bytes) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    (tmp_path / "checkpoint.json").write_bytes(content)
    with pytest.raises(ModelFileError, match=r"checkpoint\.json is damaged.*--previous"):
        step_of(tmp_path)
    assert step_of(tmp_path, fall_back=True) == 2


def test_nothing_whole_is_left(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"damaged|holds no checkpoint"):
        step_of(tmp_path)
    save(tmp_path, 1)
    newest(tmp_path).write_bytes(b"junk")
    with pytest.raises(ModelFileError, match="not those its name"):
        step_of(tmp_path)
    with pytest.raises(ModelFileError, match="no checkpoint of"):
        step_of(tmp_path, fall_back=True)


@pytest.mark.row(54, "exit code 4, saying that a newer neocog is needed")
def test_a_newer_format_is_not_guessed_at(tmp_path: Path) -> None:
    save(tmp_path, 1)
    pointer = tmp_path / "checkpoint.json"
    pointer.write_text(pointer.read_text().replace('"format": 1', '"format": 2'))
    for fall_back in (False, True):
        with pytest.raises(ModelFileError, match="needs a newer neocog"):
            step_of(tmp_path, fall_back=fall_back)


@pytest.mark.row(52, "exit code 2, listing each difference")
def test_a_state_of_other_settings_is_refused_with_every_difference(tmp_path: Path) -> None:
    found = State({"identity": {"model": "a", "classes": ["x", "y"], "image_size": 32, "seed": 0}}, {})
    same = {"model": "a", "classes": ["x", "y"], "image_size": 32}
    state.compare(found, same, tmp_path)
    with pytest.raises(UsageError) as caught:
        state.compare(found, same | {"classes": ["y", "x"], "image_size": 64}, tmp_path)
    for words in ("classes was ['x', 'y'] and is ['y', 'x']", "image_size was 32 and is 64"):
        assert words in caught.value.cause
    assert "model" not in caught.value.cause


def _die_at(call: int, folder: Path) -> None:
    """Saves step 2, and is killed at the so-and-so-many-th time it touches the disk."""
    left = call

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **more: Any) -> Any:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return function(*arguments, **more)

        return counted

    for name in ("fsync", "open", "close"):
        setattr(files.os, name, counting(getattr(os, name)))
    for name in ("write_bytes", "replace", "unlink", "open"):
        setattr(Path, name, counting(getattr(Path, name)))
    checkpoints = Checkpoints(folder)
    checkpoints.save({"step": 2}, WEIGHTS, checkpoints.save_best(2, WEIGHTS))


@pytest.mark.row(46, "a whole state, the old or the new one, at whichever moment; halves are removed at the next start")
def test_killed_at_every_moment_of_writing(tmp_path: Path) -> None:
    """The process is killed before each of its calls to the disk, one after the other, until it gets through."""
    fork = multiprocessing.get_context("fork")
    seen = []
    for call in range(200):
        folder = tmp_path / str(call)
        folder.mkdir()
        for step in (0, 1):
            save(folder, step, Checkpoints(folder).save_best(step, WEIGHTS))
        child = fork.Process(target=_die_at, args=(call, folder))
        child.start()
        child.join()
        checkpoints = Checkpoints(folder)
        for place in (folder, checkpoints.folder):
            files.remove_unfinished(place)
        assert not [path for path in folder.rglob("*") if path.name.endswith(".tmp")]
        seen.append(checkpoints.load().facts["step"])
        best = json.loads(checkpoints.pointer.read_text())["states"][0]["best"]
        assert torch.equal(checkpoints.load_best(best)["w"], WEIGHTS["w"])
        if child.exitcode == 0:
            break
        assert child.exitcode == -signal.SIGKILL
    assert seen == sorted(seen)  # 1, 1, ... 1, 2, ... 2
    assert seen[0] == 1
    assert seen[-1] == 2
    assert len(seen) > 12, "there were fewer moments than a save has"


def _save_with_little_room(folder: Path, room: int, weights: dict[str, torch.Tensor], answer: Any) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    try:
        Checkpoints(folder).save({"step": 2}, weights, None)
    except ResourceError as error:
        answer.put(str(error))


@pytest.mark.row(47, "the old checkpoint is intact; exit code 6, naming the bytes needed and free")
def test_a_full_disk_leaves_the_old_state(tmp_path: Path) -> None:
    save(tmp_path, 1)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    fork = multiprocessing.get_context("fork")
    answer = fork.SimpleQueue()
    # Made here: a fork has lost the threads that large tensors are filled by.
    weights = {"w": torch.zeros(100_000)}
    child = fork.Process(target=_save_with_little_room, args=(tmp_path, 50_000, weights, answer))
    child.start()
    child.join()
    message = answer.get()
    assert "400,000 bytes needed" in message
    assert "free" in message
    assert "neocog resume" in message
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert step_of(tmp_path) == 1


@pytest.mark.row(47, "logs, predictions and reports are whole or as they were; exit code 6")
def test_a_full_disk_while_anything_else_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    files.write_atomic(path, "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match="3 bytes needed"):
        files.write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["metrics.jsonl"]
