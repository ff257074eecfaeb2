"""The scan, the cache and the data set: everything is counted, nothing is replaced, nothing is decoded twice."""

import json
import os
import shutil
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

import pictures
from neocog.core.errors import DataError, ResourceError
from neocog.core.spec import Preprocessing
from neocog.data import scan as scan_module
from neocog.data import store as store_module
from neocog.data.cache import Cache, prune
from neocog.data.dataset import Dataset, open_dataset
from neocog.data.decode import DecodeOptions, decode
from neocog.data.preprocess import shrink, view
from neocog.data.scan import ScanError, scan
from neocog.data.source import open_source
from neocog.data.store import CacheStore, MemoryStore
from neocog.data.threads import ordered_map


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    """100 good pictures and some of everything that can be wrong."""
    root = pictures.write_classes(tmp_path / "data", {"a": 60, "b": 40})
    (root / "a" / "cut.jpg").write_bytes(pictures.encode(pictures.photo(), "JPEG")[:-2])
    (root / "b" / "empty.png").write_bytes(b"")
    (root / "b" / "text.png").write_bytes(b"words")
    (root / "a" / "copy.png").write_bytes((root / "a" / "0.png").read_bytes())
    (root / "b" / "conflict.png").write_bytes((root / "a" / "1.png").read_bytes())
    (root / "b" / "called.jpg").write_bytes(pictures.encode(pictures.photo(seed=777), "PNG"))
    (root / "b" / "turned.jpg").write_bytes(pictures.encode(pictures.photo(20, 30, 778), "JPEG", exif=pictures.exif(6)))
    (root / "a" / ".hidden").write_bytes(b"")
    return root


def opened(root: Path, **options: object) -> Dataset:
    return open_dataset(str(root), cache_dir=root.parent / "cache", **options)  # type: ignore[arg-type]


@pytest.mark.row(1, "counted and named in `scan.json`")
@pytest.mark.row(2, "counted and named")
@pytest.mark.row(3, "counted and named")
@pytest.mark.row(4, "counted")
@pytest.mark.row(24, "groups are listed within a class and across classes")
@pytest.mark.row(31, "progress is told file by file")
def test_everything_is_counted(messy: Path) -> None:
    seen: list[tuple[int, int]] = []
    kept: dict[int, tuple[int, ...]] = {}
    source = open_source(str(messy))
    result = scan(
        source, DecodeOptions(), max_excluded=0.1, on_progress=lambda done, total: seen.append((done, total)),
        prepare=lambda pixels: pixels.shape, sink=kept.__setitem__,
    )  # fmt: skip
    assert seen == [(i, 107) for i in range(1, 108)]
    assert [(one.file, one.reason) for one in result.excluded] == [
        ("a/cut.jpg", "truncated"), ("b/empty.png", "empty"), ("b/text.png", "not_an_image"),
    ]  # fmt: skip
    assert len(result.kept) == len(kept) == 104
    assert all(kept[source.items.index(next(i for i in source.items if i.file == one.file))] for one in result.kept)
    assert result.notes == {"wrong_suffix": 1, "rotated": 1}
    assert result.modes == {"RGB": 104}
    assert result.ignored == {"hidden": 1}
    assert result.duplicates.within_class == [["a/0.png", "a/copy.png"]]
    assert result.duplicates.across_classes == [["a/1.png", "b/conflict.png"]]
    assert "1 picture lies in more than one class" in result.warnings[0]
    assert result.classes == ["a", "b"]
    assert not result.grey
    turned = next(one for one in result.kept if one.file == "b/turned.jpg")
    assert (turned.width, turned.height) == (20, 30)


@pytest.mark.row(20, "escaped in JSON, and the same after reading")
def test_the_report_is_json_for_any_file_name(tmp_path: Path) -> None:
    root = pictures.write_classes(tmp_path, {"a": 2, "b": 2})
    (root / os.fsdecode(b"a/\xff\xfe.png")).write_bytes(b"no picture")
    result = scan(open_source(str(root)), DecodeOptions(), max_excluded=1.0)
    text = result.to_json()
    text.encode("ascii")
    facts = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert facts["excluded"][0]["file"] == "a/\udcff\udcfe.png"
    assert facts["excluded"][0]["reason"] == "not_an_image"
    assert facts["classes"] == {"a": 2, "b": 2}


@pytest.mark.row(1, "`--strict`, or more than 1 % excluded, is exit 3")
def test_too_much_is_wrong(messy: Path) -> None:
    source = open_source(str(messy))
    with pytest.raises(ScanError, match=r"3 of 107 pictures \(2\.8%\).*'a/cut\.jpg' \(truncated\)") as caught:
        scan(source, DecodeOptions(), max_excluded=0.01)
    assert len(caught.value.scan.kept) == 104
    assert caught.value.exit_code == 3
    assert scan(source, DecodeOptions(), max_excluded=3 / 107).kept
    with pytest.raises(ScanError, match="3 of 107 pictures cannot be used"):
        scan(source, DecodeOptions(), max_excluded=1.0, strict=True)


def test_a_class_that_lost_all_its_pictures(tmp_path: Path) -> None:
    root = pictures.write_classes(tmp_path, {"a": 200, "b": 200, "c": 0})
    (root / "c" / "x.png").write_bytes(b"")
    with pytest.raises(ScanError, match=r"no picture of the class 'c' can be used: 'c/x\.png' \(empty\)"):
        scan(open_source(str(root)), DecodeOptions(), max_excluded=0.5)


def test_refused_data_leave_no_cache(messy: Path) -> None:
    with pytest.raises(ScanError):
        opened(messy)
    assert list((messy.parent / "cache").iterdir()) == []


def test_the_second_time_nothing_is_decoded(messy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(messy, max_excluded=0.1)
    folders = list((messy.parent / "cache").iterdir())
    assert len(folders) == 1
    monkeypatch.setattr(scan_module, "decode", lambda *a, **k: pytest.fail("decoded again"))
    second = opened(messy, max_excluded=0.1)
    assert second.scan == first.scan
    assert second.splits.tolist() == first.splits.tolist()
    assert all((second.store.picture(i) == first.store.picture(i)).all() for i in range(len(first)))
    with pytest.raises(ScanError):
        opened(messy, max_excluded=0.0)


def test_a_changed_picture_is_seen(messy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = messy / "a" / "5.bmp"
    data = bytearray(pictures.encode(pictures.photo(20, 20, 900), "BMP"))
    path.write_bytes(data)
    first = opened(messy, max_excluded=0.1)
    data[-1] ^= 1  # the same size, the same name, one other bit
    path.write_bytes(data)
    second = opened(messy, max_excluded=0.1)
    row = first.files.index("a/5.bmp")
    assert second.sha256[row] != first.sha256[row]
    assert int((second.store.picture(row) != first.store.picture(row)).sum()) == 1
    data[-1] ^= 1
    path.write_bytes(data)
    monkeypatch.setattr(scan_module, "decode", lambda *a, **k: pytest.fail("decoded again"))
    assert opened(messy, max_excluded=0.1).sha256 == first.sha256


def test_two_runs_may_write_the_same_cache(messy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cache, "find", lambda *a, **k: None)  # as if neither had seen the other's
    first, second = opened(messy, max_excluded=0.1), opened(messy, max_excluded=0.1)
    assert len(list((messy.parent / "cache").iterdir())) == 1
    assert all((second.store.picture(i) == first.store.picture(i)).all() for i in range(len(first)))


def test_another_size_or_background_is_another_cache(messy: Path) -> None:
    opened(messy, max_excluded=0.1)
    opened(messy, max_excluded=0.1, resize=16)
    opened(messy, max_excluded=0.1, options=DecodeOptions(background="black"))
    assert len(list((messy.parent / "cache").iterdir())) == 3


def test_what_is_kept_is_what_is_decoded_and_shrunk(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for i, (label, size) in enumerate(
        [("a", (40, 60)), ("a", (90, 50)), ("a", (16, 16)), ("b", (300, 31)), *[("b", (9, 9))] * 3]
    ):
        (root / label).mkdir(parents=True, exist_ok=True)
        (root / label / f"{i}.png").write_bytes(pictures.encode(pictures.photo(*size, seed=i), "PNG"))
    data = opened(root, resize=32)
    assert isinstance(data.store, CacheStore)
    preprocessing = Preprocessing(24, 32)
    for row, path in enumerate(data.paths):
        assert path is not None
        pixels = torch.from_numpy(decode(path).pixels).permute(2, 0, 1)
        assert (data.store.picture(row) == shrink(pixels, 32)).all()
        assert (view(data.store.picture(row), preprocessing) == view(pixels, preprocessing)).all()
    assert data.equal_size is None


def test_equal_pictures_live_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = pictures.write_classes(tmp_path / "data", {"a": 4, "b": 4})
    data = opened(root)
    assert isinstance(data.store, MemoryStore)
    assert data.equal_size == (20, 20)
    monkeypatch.setattr(store_module, "MEMORY_LIMIT", 8 * 20 * 20 * 3 - 1)
    large = opened(root)
    assert isinstance(large.store, CacheStore)
    assert all((large.store.picture(i) == data.store.picture(i)).all() for i in range(8))


def test_grey_pictures_are_noticed_however_they_are_stored(tmp_path: Path) -> None:
    root = pictures.write_classes(tmp_path / "data", {"a": 4, "b": 4})
    for i, path in enumerate(sorted(root.rglob("*.png"))):
        plane = pictures.grey(pictures.photo(20, 20, i))
        path.write_bytes(pictures.encode(pictures.three(plane) if i % 2 else plane, "PNG"))
    data = opened(root)
    assert data.grey
    assert data.channels == 3
    one = data.with_channels(1)
    assert one.store.picture(0).shape == (1, 20, 20)
    assert one.options.channels == 1
    for row, path in enumerate(one.paths):
        assert path is not None
        assert (one.store.picture(row)[0].numpy() == decode(path, one.options).pixels[..., 0]).all()
        assert (data.store.picture(row) == one.store.picture(row)).all()
    nearly = pictures.three(pictures.grey(pictures.photo(20, 20)))
    nearly[3, 4, 2] ^= 1
    (root / "a" / "0.png").write_bytes(pictures.encode(nearly, "PNG"))
    colour = opened(root)
    assert not colour.grey
    with pytest.raises(ValueError, match="channels=1"):
        colour.with_channels(1)


def test_labels_follow_the_sorted_names(tmp_path: Path) -> None:
    root = pictures.write_classes(tmp_path / "data", {"b": 3, "a": 4, "C": 5})
    data = opened(root)
    assert data.classes == ["C", "a", "b"]
    assert Counter(data.labels.tolist()) == {0: 5, 1: 4, 2: 3}
    assert data.labels.dtype == np.int64
    for row, file in enumerate(data.files):
        assert data.classes[data.labels[row]] == file.split("/")[0]
    rows = [data.rows(name) for name in ("train", "val", "test")]
    assert sorted(np.concatenate(rows).tolist()) == list(range(12))
    assert [row.set for row in data.split_rows()] == data.splits.tolist()


def test_mean_and_std(tmp_path: Path) -> None:
    root = pictures.write_classes(tmp_path / "data", {"a": 4, "b": 4})
    data = opened(root)
    rows = data.rows("train")
    pixels = np.stack([data.store.picture(int(row)).numpy() for row in rows]) / 255
    mean, std = data.mean_std(rows)
    assert mean == pytest.approx(pixels.mean(axis=(0, 2, 3)), abs=1e-6)
    assert std == pytest.approx(pixels.std(axis=(0, 2, 3)), abs=1e-6)


@pytest.mark.row(32, "nothing is written or touched in it")
def test_data_that_may_only_be_read(messy: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in messy.rglob("*"))
    opened(messy, max_excluded=0.1)
    assert sorted((path, path.stat().st_mtime_ns) for path in messy.rglob("*")) == before


def test_no_room_for_the_cache(messy: Path) -> None:
    (messy.parent / "cache").write_bytes(b"a file stands here")
    with pytest.raises(ResourceError, match="XDG_CACHE_HOME"):
        opened(messy, max_excluded=0.1)


def test_a_damaged_cache_is_written_again(messy: Path) -> None:
    first = opened(messy, max_excluded=0.1)
    (folder,) = (messy.parent / "cache").iterdir()
    for name, content in [
        ("found.jsonl", b"{broken"),
        ("pixels.bin", b"short"),
        ("index.npz", b"PK"),
        ("index.npz", b""),
    ]:
        (folder / name).write_bytes(content)
        again = opened(messy, max_excluded=0.1)
        assert again.scan == first.scan
        assert all((again.store.picture(i) == first.store.picture(i)).all() for i in range(len(first)))
    shutil.rmtree(folder)
    assert opened(messy, max_excluded=0.1).scan == first.scan


def test_the_oldest_caches_make_room(tmp_path: Path) -> None:
    for age, name in enumerate(["new", "old", "older"]):
        (tmp_path / name).mkdir()
        (tmp_path / name / "found.jsonl").write_bytes(bytes(1000))
        os.utime(tmp_path / name, (10_000 - age, 10_000 - age))
    (tmp_path / "foreign").mkdir()
    (tmp_path / ".killed.1234.tmp").mkdir()
    os.utime(tmp_path / ".killed.1234.tmp", (0, 0))
    (tmp_path / ".running.1234.tmp").mkdir()
    prune(tmp_path, tmp_path / "old", limit=2500)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".running.1234.tmp", "foreign", "new", "old"]
    prune(tmp_path, tmp_path / "old", limit=10)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".running.1234.tmp", "foreign", "old"]


def test_pictures_of_one_colour_can_be_normalised(tmp_path: Path) -> None:
    root = pictures.write_classes(tmp_path / "data", {"a": 3, "b": 3})
    for path in root.rglob("*.png"):
        path.write_bytes(pictures.encode(np.full((9, 9, 3), 51, np.uint8), "PNG"))
        path.write_bytes(path.read_bytes() + path.name.encode() + path.parent.name.encode())  # six different files
    data = opened(root)
    assert data.mean_std(data.rows("train")) == (pytest.approx((0.2,) * 3), pytest.approx((1 / 255,) * 3))


def test_two_classes_must_remain(tmp_path: Path) -> None:
    root = pictures.write_classes(tmp_path / "data", {"a": 2, "b": 2})
    with pytest.raises(DataError, match="at least 3"):
        opened(root)


@pytest.mark.row(31, "files are read as they are needed; who leaves early waits for none of the rest")
def test_ordered_map_keeps_order_bounds_and_errors() -> None:
    drawn = []

    def inputs():  # type: ignore[no-untyped-def]
        for i in range(1000):
            drawn.append(i)
            yield i

    results = ordered_map(lambda i: i * i, inputs(), threads=4, ahead=6)
    assert [next(results) for _ in range(10)] == [i * i for i in range(10)]
    assert len(drawn) <= 10 + 6
    results.close()  # type: ignore[attr-defined]
    done: list[int] = []
    results = ordered_map(lambda i: done.append(i) or time.sleep(0.02), range(1000), threads=2, ahead=100)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert len(done) < 20, "work that nobody waits for was done"
    with pytest.raises(ZeroDivisionError):
        list(ordered_map(lambda i: 1 // (5 - i), range(10), threads=3))
