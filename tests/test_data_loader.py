"""Batches: the right pictures in the right order, the same whoever computes them, and errors that arrive."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import pictures
from neocog.core import seeding
from neocog.core.spec import Preprocessing
from neocog.data import loader as loader_module
from neocog.data import store as store_module
from neocog.data.augment import Augment
from neocog.data.dataset import Dataset, open_dataset
from neocog.data.decode import DecodeOptions, decode
from neocog.data.loader import Loader
from neocog.data.preprocess import normalise, view
from neocog.data.store import CacheStore, MemoryStore
from neocog.data.stream import find_pictures, stream

PREPROCESSING = Preprocessing(16, 18)


@pytest.fixture(params=["memory", "cache"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Dataset:
    root = pictures.write_classes(tmp_path / "data", {"a": 20, "b": 17}, size=(24, 24))
    if request.param == "cache":
        (root / "a" / "other.png").write_bytes(pictures.encode(pictures.photo(40, 30, 99), "PNG"))
    dataset = open_dataset(str(root), resize=18, cache_dir=tmp_path / "cache")
    assert isinstance(dataset.store, CacheStore if request.param == "cache" else MemoryStore)
    return dataset


def make(data: Dataset, **options: object) -> Loader:
    return Loader(data, np.arange(len(data)), **({"preprocessing": PREPROCESSING, "batch_size": 5} | options))  # type: ignore[arg-type]


def by_row(loader: Loader, epoch: int = 0) -> dict[int, torch.Tensor]:
    return {
        int(row): image for batch in loader.epoch(epoch) for row, image in zip(batch.indices, batch.images, strict=True)
    }


@pytest.mark.parametrize("layout", [True, False])
def test_evaluation_sees_the_views_in_order(data: Dataset, layout: bool) -> None:
    rows = data.rows("train")
    loader = make(data, channels_last=layout)
    loader = Loader(data, rows, preprocessing=PREPROCESSING, batch_size=4, channels_last=layout)
    batches = list(loader.epoch(0))
    assert len(batches) == len(loader) == -(-len(rows) // 4)
    assert torch.cat([batch.indices for batch in batches]).tolist() == rows.tolist()
    assert torch.cat([batch.targets for batch in batches]).tolist() == data.labels[rows].tolist()
    for batch in batches:
        assert batch.images.is_contiguous(memory_format=torch.channels_last if layout else torch.contiguous_format)
        for image, row in zip(batch.images, batch.indices, strict=True):
            path = data.paths[int(row)]
            assert path is not None
            pixels = view(torch.from_numpy(decode(path).pixels).permute(2, 0, 1), PREPROCESSING)
            assert torch.allclose(image, normalise(pixels[None], PREPROCESSING)[0], atol=1e-6)


def test_training_order_is_keyed(data: Dataset) -> None:
    loader = make(data, shuffle=True, seed=3)
    for epoch in (0, 1):
        order = [int(row) for batch in loader.epoch(epoch) for row in batch.indices]
        assert order == seeding.permutation(3, epoch, len(data)).tolist()


AUGMENTS = {
    "none": None,
    "padded": Augment("padded", 3, flip=True),
    "resized": Augment("resized", flip=True, colour=0.3),
    "all": Augment("resized", flip=True, rotation=20, colour=0.3, noise=0.1, erasing=0.5),
}


@pytest.mark.parametrize("name", AUGMENTS)
def test_a_picture_is_the_same_in_any_batch_and_thread(data: Dataset, name: str) -> None:
    augment = AUGMENTS[name]
    expected = by_row(make(data, augment=augment, seed=1, batch_size=5, threads=1), 2)
    for options in (
        {"batch_size": 1, "threads": 3},
        {"batch_size": 64},
        {"shuffle": True, "batch_size": 7, "threads": 2, "ahead": 5},
        {"channels_last": True},
    ):
        found = by_row(make(data, augment=augment, seed=1, **options), 2)
        assert all(torch.equal(found[row], expected[row]) for row in expected), options
    other = by_row(make(data, augment=augment, seed=1), 3)
    differ = [not torch.equal(other[row], expected[row]) for row in expected]
    assert any(differ) == (augment is not None)


def test_padded_crops_without_room_in_memory(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = by_row(make(data, augment=Augment("padded", 3)))
    monkeypatch.setattr(loader_module, "MEMORY_LIMIT", 0)
    monkeypatch.setattr(store_module, "MEMORY_LIMIT", 0)
    found = by_row(make(data, augment=Augment("padded", 3)))
    assert all(torch.equal(found[row], expected[row]) for row in expected)


def test_skipped_batches_are_not_computed(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = make(data, shuffle=True, augment=Augment("resized", colour=0.2))
    whole = list(loader.epoch(4))
    looked: list[int] = []
    picture = type(data.store).picture
    monkeypatch.setattr(type(data.store), "picture", lambda self, row: looked.append(row) or picture(self, row))
    rest = list(loader.epoch(4, skip=3))
    assert len(rest) == len(whole) - 3
    assert all(torch.equal(a.images, b.images) for a, b in zip(rest, whole[3:], strict=True))
    assert set(looked) == {int(row) for batch in whole[3:] for row in batch.indices}
    assert list(loader.epoch(4, skip=len(loader))) == []


def test_one_picture_left_over_joins_the_batch_before_it(data: Dataset) -> None:
    """Only in training, and only one: batch norm cannot learn from a single value a channel."""
    size = next(b for b in range(2, 40) if len(data) % b == 1)

    def sizes(**options: object) -> list[int]:
        loader = make(data, batch_size=size, **options)
        found = [len(batch.indices) for batch in loader.epoch(0)]
        assert len(found) == len(loader)
        assert [len(b.indices) for b in loader.epoch(0, skip=len(loader) - 1)] == found[-1:]
        return found

    whole = len(data) // size
    assert sizes(shuffle=True) == [size] * (whole - 1) + [size + 1]
    assert sizes(shuffle=True, drop_last=True) == [size] * whole
    assert sizes() == [size] * whole + [1]
    assert len(list(make(data, batch_size=len(data) + 5, shuffle=True).epoch(0))) == 1


def test_last_batch_can_be_dropped(data: Dataset) -> None:
    loader = make(data, batch_size=8, drop_last=True)
    assert len(loader) == len(list(loader.epoch(0))) == len(data) // 8
    assert all(len(batch.indices) == 8 for batch in loader.epoch(0))


def test_mixed_targets(data: Dataset) -> None:
    batch = next(make(data, augment=Augment(mixup=0.4), batch_size=20, num_classes=5).epoch(0))
    assert batch.targets.shape == (20, 5)
    assert torch.allclose(batch.targets.sum(1), torch.ones(20))
    assert next(make(data, augment=Augment(mixup=0.4)).epoch(0)).targets.shape == (5, 2)


def test_low_precision(data: Dataset) -> None:
    for augment in (None, Augment(colour=0.2)):
        assert next(make(data, dtype=torch.bfloat16, augment=augment).epoch(0)).images.dtype == torch.bfloat16


def test_errors_of_threads_reach_the_caller(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object, row: int) -> torch.Tensor:
        raise OSError("the disk is gone")

    monkeypatch.setattr(type(data.store), "picture", broken)
    with pytest.raises(OSError, match="the disk is gone"):
        list(make(data, augment=Augment("resized")).epoch(0))


def test_pictures_may_vanish_after_the_scan(data: Dataset) -> None:
    expected = by_row(make(data))
    assert data.paths[0] is not None
    shutil.rmtree(data.paths[0].parents[1])
    assert all(torch.equal(image, expected[row]) for row, image in by_row(make(data)).items())


def test_other_rows_than_zero_to_n(data: Dataset) -> None:
    rows = np.array([30, 2, 17, 5])
    for augment in (Augment("padded", 2), Augment("resized"), None):
        alone = by_row(Loader(data, rows, preprocessing=PREPROCESSING, batch_size=3, augment=augment))
        whole = by_row(make(data, augment=augment))
        assert list(alone) == rows.tolist()
        assert all(torch.equal(alone[row], whole[row]) for row in alone)


def test_streaming_sees_what_evaluation_sees(data: Dataset) -> None:
    files = [path for path in data.paths if path is not None]
    evaluated = by_row(make(data))
    row = 0
    for paths, batch, _, bad in stream(files, data.options, PREPROCESSING, 8, threads=2):
        assert bad == []
        assert batch.dtype == torch.uint8
        for path, image in zip(paths, normalise(batch, PREPROCESSING), strict=True):
            assert path == data.paths[row]
            assert torch.equal(image, evaluated[row])
            row += 1
    assert row == len(files)


def test_streaming_is_lazy_and_names_bad_files(tmp_path: Path) -> None:
    good, text = tmp_path / "good.png", tmp_path / "text.png"
    good.write_bytes(pictures.encode(pictures.photo(), "PNG"))
    text.write_text("no picture")
    drawn = []

    def endless():  # type: ignore[no-untyped-def]
        while True:
            drawn.append(1)
            yield text if len(drawn) % 3 == 0 else good

    batches = stream(endless(), DecodeOptions(), PREPROCESSING, 4, threads=2)
    for _ in range(5):
        paths, batch, sizes, bad = next(batches)
        assert len(paths) == len(batch) == 4
        assert sizes == [pictures.photo().shape[:2]] * 4
        assert [error.reason for _, error in bad] == ["not_an_image"] * len(bad)
    assert len(drawn) < 5 * 6 + 20
    batches.close()  # type: ignore[attr-defined]
    only_bad = list(stream([text] * 9 + [tmp_path / "missing.png"], DecodeOptions(), PREPROCESSING, 4, threads=1))
    assert [len(views.bad) for views in only_bad] == [4, 4, 2]
    assert only_bad[0].pixels.shape == (0, 3, 16, 16)
    assert only_bad[2].bad[1][1].reason == "missing"


def test_finding_pictures(tmp_path: Path) -> None:
    root = pictures.write_classes(tmp_path / "in", {"b": 2, "a": 1})
    (root / ".hidden.png").write_bytes(b"")
    (root / "notes.txt").write_text("x")
    (root / "z.png").write_bytes(b"")
    found = list(find_pictures([str(tmp_path / "missing.png"), root, root / "notes.txt"]))
    names = [str(path.relative_to(tmp_path)) for path in found]
    assert names == ["missing.png", "in/z.png", "in/a/0.png", "in/b/0.png", "in/b/1.png", "in/notes.txt"]


def test_mnist_from_its_original_files(shared: Path) -> None:
    data = open_dataset(str(shared / "data" / "mnist"), DecodeOptions(channels=1))
    assert {name: len(data.rows(name)) for name in ("train", "val", "test")} == {
        "train": 51_000,
        "val": 9000,
        "test": 10_000,
    }
    assert data.classes == list("0123456789")
    preprocessing = Preprocessing(28, 28, *data.mean_std(data.rows("train")))
    loader = Loader(data, data.rows("train"), preprocessing=preprocessing, batch_size=512, augment=Augment("padded", 2))
    batch = next(loader.epoch(0))
    assert batch.images.shape == (512, 1, 28, 28)
    assert abs(float(batch.images.mean())) < 0.1
    assert abs(float(batch.images.std()) - 1) < 0.1
