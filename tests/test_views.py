"""Cached embeddings: computed once, found again, shared, and never believed when a disk has changed them."""

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from neocog.core.errors import DivergedError
from neocog.data.features import FeatureLoader
from neocog.data.loader import Loader
from neocog.data.plan import Plan
from neocog.training.world import World
from neocog.transfer.views import PORTION, Views, folder_of, halved

N = 2 * PORTION + 40


def numbers(view: int, first: int, last: int) -> NDArray[np.float32]:
    """Row i of view v holds v + i / 1000, v, i."""
    rows = np.arange(first, last, dtype=np.float32)
    return np.stack([view + rows / 1000, np.full_like(rows, view), rows], axis=1)


class Counted:
    def __init__(self, fail_at: int | None = None) -> None:
        self.calls: list[tuple[int, int, int]] = []
        self.fail_at = fail_at

    def __call__(self, view: int, first: int, last: int) -> NDArray[np.float32]:
        if len(self.calls) == self.fail_at:
            raise KeyboardInterrupt
        self.calls.append((view, first, last))
        return numbers(view, first, last)


def filled(folder: Path, *views: int, world: World | None = None) -> tuple[Views, Counted]:
    count = Counted()
    made = Views(folder, N, count, world)
    for view in views:
        made.fill(view)
    return made, count


def test_a_view_is_computed_once_and_mapped(tmp_path: Path) -> None:
    made, count = filled(tmp_path, 0, 3)
    assert [call[0] for call in count.calls] == [0, 0, 0, 3, 3, 3]
    assert made.computed == 2 * N
    again, count = filled(tmp_path, 3, 0)
    assert (count.calls, again.computed, again.damaged) == ([], 0, [])
    assert isinstance(again[3], np.memmap)
    assert again[3].dtype == np.float16
    assert np.array_equal(again[3], numbers(3, 0, N).astype(np.float16))
    assert sorted(path.name.split("-")[1] for path in tmp_path.iterdir()) == ["000", "003"]  # no portions are left


@pytest.mark.parametrize("where", [0, 90, -1])
def test_a_flipped_byte_is_noticed_and_the_view_is_made_again(tmp_path: Path, where: int) -> None:
    filled(tmp_path, 0, 1)
    path = next(tmp_path.glob("view-001-*.npy"))
    content = bytearray(path.read_bytes())
    content[where] ^= 1
    path.write_bytes(content)
    made, count = filled(tmp_path, 0, 1)
    assert {call[0] for call in count.calls} == {1}
    assert made.damaged == [path.name]
    assert np.array_equal(made[1], numbers(1, 0, N).astype(np.float16))
    assert filled(tmp_path, 0, 1)[1].calls == []


def test_a_computation_that_was_stopped_goes_on(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Views(tmp_path, N, Counted(fail_at=2)).fill(0)
    portion = next(tmp_path.glob("part-000-000001-*.npy"))
    portion.write_bytes(portion.read_bytes()[:-1])
    made, count = filled(tmp_path, 0)
    assert count.calls == [(0, PORTION, 2 * PORTION), (0, 2 * PORTION, N)]  # the damaged portion, and the missing one
    assert made.damaged == [portion.name]
    assert np.array_equal(made[0], numbers(0, 0, N).astype(np.float16))


class Room:
    """What `torch.distributed`'s store does for the words that processes leave for each other."""

    def __init__(self) -> None:
        self.words: dict[str, Any] = {}

    def set(self, key: str, value: str) -> None:
        self.words[key] = value.encode()

    def check(self, keys: list[str]) -> bool:
        return all(key in self.words for key in keys)

    def get(self, key: str) -> Any:
        return self.words[key]


@pytest.mark.parametrize("one_disk", [True, False])
def test_two_processes_share_the_portions(tmp_path: Path, one_disk: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    room, counts = Room(), [Counted(), Counted()]
    monkeypatch.setattr(World, "gather", lambda self, values: [values, [0.0]])
    folders = [tmp_path / "a", tmp_path / ("a" if one_disk else "b")]
    made = [Views(folders[i], N, counts[i], World(i, 2, 2, room)) for i in (0, 1)]
    threads = [threading.Thread(target=one.fill, args=(0,)) for one in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    for one in made:
        assert np.array_equal(one[0], numbers(0, 0, N).astype(np.float16))
    shares = [sorted(first // PORTION for _, first, _ in count.calls) for count in counts]
    if one_disk:
        assert shares == [[0, 2], [1]]
    else:  # each host computes what the other could not leave for it
        assert shares == [[0, 1, 2], [0, 1, 2]]


def test_two_runs_that_want_the_same_do_not_hinder_each_other(tmp_path: Path) -> None:
    """Each finishes while the other is at it, and removes the portions that both have written."""
    problems: list[BaseException] = []

    def slow(view: int, first: int, last: int) -> NDArray[np.float32]:
        time.sleep(0.002 * draw.random())
        return numbers(view, first, last)

    def run() -> None:
        try:
            made = Views(tmp_path, N, slow)
            for view in range(15):
                made.fill(view)
                assert np.array_equal(made[view], numbers(view, 0, N).astype(np.float16))
        except BaseException as error:
            problems.append(error)

    draw = np.random.default_rng(0)
    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert problems == []


def test_what_is_no_16_bit_number_is_refused() -> None:
    assert halved(np.array([65504.0], np.float32)).tolist() == [65504.0]
    with pytest.raises(DivergedError, match=r"largest is 70000.*--regime probe"):
        halved(np.array([70000.0], np.float32))
    with pytest.raises(DivergedError):
        halved(np.array([np.nan], np.float32))


def test_a_folder_belongs_to_its_key(tmp_path: Path) -> None:
    key = {"weights": "a", "augment": {"flip": True}}
    assert folder_of(tmp_path, key) == folder_of(tmp_path, {"augment": {"flip": True}, "weights": "a"})
    assert folder_of(tmp_path, key) != folder_of(tmp_path, {"weights": "a", "augment": {"flip": False}})


def loader(mixup: float = 0.0, **more: Any) -> FeatureLoader:
    import torch

    labels = np.arange(100) % 3
    rows = np.arange(20, 75)
    plan = Plan(len(rows), 16, 5, shuffle=True, **more)
    return FeatureLoader(
        lambda epoch: numbers(epoch, 20, 75).astype(np.float16), labels, rows, plan, device=torch.device("cpu"),
        num_classes=3, mixup=mixup,
    )  # fmt: skip


def test_batches_are_those_of_the_pictures_loader() -> None:
    """The same rows in the same batches as a loader of pictures with that seed, and each row's own numbers."""
    made = loader()
    assert len(made) == 4
    batches = list(made.epoch(2))
    assert sorted(row for batch in batches for row in batch.indices.tolist()) == list(range(20, 75))
    for batch in batches:
        assert batch.images[:, 2].tolist() == batch.indices.tolist()
        assert batch.images[:, 1].tolist() == [2.0] * len(batch.indices)
        assert batch.targets.tolist() == [row % 3 for row in batch.indices.tolist()]
    assert [b.indices.tolist() for b in made.epoch(2, 3)] == [b.indices.tolist() for b in batches[3:]]
    assert [b.indices.tolist() for b in made.epoch(1)] != [b.indices.tolist() for b in batches]
    halves = [list(loader(rank=rank, world_size=2).epoch(2)) for rank in (0, 1)]
    for whole, one, two in zip(batches, *halves, strict=True):
        assert sorted([*one.indices.tolist(), *two.indices.tolist()]) == sorted(whole.indices.tolist())
    assert Loader.__len__.__doc__ is not None  # both count by Plan


def test_mixup_blends_embeddings_as_it_blends_targets() -> None:
    mixed, plain = next(loader(mixup=1.0).epoch(0)), next(loader().epoch(0))
    assert mixed.targets.shape == (16, 3)
    assert np.allclose(mixed.targets.sum(1), 1, atol=1e-6)
    rows, own = plain.images[:, 2], mixed.images[:, 2]
    assert (rows != own).any()
    for place in range(16):  # row numbers are blended by the same shares as the classes of the two rows
        others = [other for other in range(16) if other != place]
        shares = [
            float((own[place] - rows[other]) / (rows[place] - rows[other])) for other in others
        ]  # fmt: skip
        fits = [
            np.allclose(
                mixed.targets[place].numpy(),
                share * np.eye(3)[int(plain.targets[place])] + (1 - share) * np.eye(3)[int(plain.targets[other])],
                atol=2e-3,
            )
            for other, share in zip(others, shares, strict=True)
            if -1e-3 <= share <= 1.001
        ]
        assert any(fits)
