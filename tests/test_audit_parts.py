"""The parts of the audit, each against an independent judge: search, registration, outliers, groups, memory."""

import gc
import tracemalloc
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pictures
from command import Command
from neocog.core.errors import DataError, UsageError
from neocog.data.close import close_pairs, neighbours
from neocog.data.dataset import open_dataset
from neocog.data.decode import DecodeOptions
from neocog.data.groups import compiled, named_groups, together
from neocog.data.looks import looks, unpack
from neocog.data.near import components, near_pairs
from neocog.data.outliers import find_outliers
from neocog.data.scan import Kept, assemble, examine
from neocog.data.source import open_source
from neocog.data.split import split
from pictures import Bytes, encode, varied


def kept(file: str, pixels: Bytes | None = None, label: str = "a", official: str | None = None) -> Kept:
    look = looks(pixels[None])[0] if pixels is not None else ""
    height, width = pixels.shape[:2] if pixels is not None else (8, 8)
    return Kept(file, None, label, official, f"sha of {file}", width, height, "RGB", (), False, look)


def found_pairs(all_pixels: list[Bytes]) -> set[tuple[int, int]]:
    rows = [kept(f"a/{i}.png", pixels) for i, pixels in enumerate(all_pixels)]
    return set(near_pairs(rows, lambda row: torch.from_numpy(all_pixels[row].copy()).permute(2, 0, 1)))


def test_close_pairs_are_those_that_comparing_all_finds() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(2000, 63)).astype(np.float32)
    vectors[1000:1500] = vectors[:500] + 0.02 * rng.normal(size=(500, 63)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    squares = ((vectors[:, None, :8] - vectors[None, :, :8]) ** 2).sum(2)
    for part in range(8, 63, 11):
        squares += ((vectors[:, None, part : part + 11] - vectors[None, :, part : part + 11]) ** 2).sum(2)
    expected = {(int(i), int(j)) for i, j in np.argwhere(squares < 0.2**2) if i < j}
    found = {(int(i), int(j)) for i, j in close_pairs(vectors, 0.2)}
    assert len(expected) >= 500
    assert found <= expected
    assert len(expected - found) <= 5
    rows = np.arange(0, 2000, 200)
    distances, others = neighbours(vectors, rows, 3)
    judged = np.sqrt(np.sort(squares[rows], axis=1)[:, 3])
    assert distances == pytest.approx(judged, abs=1e-3)
    assert not (others == rows).any()


def test_many_equal_vectors_cost_no_more_than_others() -> None:
    vectors = np.zeros((5_000, 63), np.float32)
    vectors[:, 0] = 1.0
    tracemalloc.start()
    pairs = close_pairs(vectors, 0.1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(pairs) < 5_000 * 200  # and not 5,000²/2 = 12.5 million
    assert peak < 300e6


def changed(pixels: Bytes, how: str) -> Bytes:
    image = Image.fromarray(pixels)
    if how == "smaller":
        return np.asarray(image.resize((int(image.width * 0.7), int(image.height * 0.7)), 3))
    if how == "cropped":
        return pixels[1:-1, 2:-1]
    if how == "brighter":
        return np.clip(pixels * 1.08 + 6, 0, 255).astype(np.uint8)
    if how == "mirrored":
        return pixels[:, ::-1]
    return pixels[..., ::-1]  # recoloured


@pytest.mark.parametrize("how", ["smaller", "cropped", "brighter"])
def test_changed_copies_are_near(how: str) -> None:
    originals = [varied(seed) for seed in range(0, 200, 2)]
    pairs = found_pairs([*originals, *(changed(original, how) for original in originals[:20:2])])
    expected = {(2 * i, 100 + i) for i in range(10)}
    assert pairs <= expected
    assert len(pairs) >= 9


@pytest.mark.parametrize("how", ["mirrored", "recoloured"])
def test_other_pictures_are_not_near(how: str) -> None:
    originals = [varied(seed) for seed in range(0, 200, 2)]
    red_or_blue = [one for one in originals if abs(one[..., 0].mean() - one[..., 2].mean()) > 40][:20]
    assert len(red_or_blue) == 20
    assert found_pairs([*originals, *(changed(original, how) for original in red_or_blue)]) == set()


def test_simple_drawings_are_not_taken_for_each_other() -> None:
    """Handwritten digits: two ones of two writers may differ in a few pixels only."""
    data = open_dataset("digits")
    assert data.scan.near_pairs == []
    assert data.scan.outliers == []


def test_components_join_what_is_linked_through_others() -> None:
    assert components(6, [(4, 2), (2, 0), (5, 3)]).tolist() == [0, 1, 0, 3, 0, 3]


def test_a_set_of_dark_pictures_is_not_dark() -> None:
    night = [(varied(seed) // 8).astype(np.uint8) for seed in range(40)]
    assert {one.kind for one in find_outliers([kept(f"{i}", pixels) for i, pixels in enumerate(night)])} == set()
    mixed = [varied(seed) for seed in range(40)] + night[:1]
    found = find_outliers([kept(f"{i}", pixels) for i, pixels in enumerate(mixed)])
    assert [(one.row, one.kind) for one in found] == [(40, "dark")]
    assert find_outliers([]) == []


def test_what_is_not_known_is_no_outlier() -> None:
    assert find_outliers([kept(f"{i}") for i in range(40)]) == []
    table = unpack([""])
    assert not table["signature"].any()


# Groups


def patients(count: int, each: int, labels: str = "ab") -> list[Kept]:
    return [kept(f"{labels[p % len(labels)]}/patient{p:03}_{i}.png", label=labels[p % len(labels)])
            for p in range(count) for i in range(each)]  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_groups_stay_on_one_side_and_fractions_hold(seed: int) -> None:
    rows = patients(80, 5)
    named, warnings = named_groups(rows, compiled(r"patient(\d+)"))  # type: ignore[arg-type]
    assert warnings == []
    sets = split(rows, val_fraction=0.15, test_fraction=0.2, seed=seed, groups=together(rows, named))
    sides = defaultdict(set)
    for one, name in zip(rows, sets, strict=True):
        sides[one.file[2:12]].add(name)
    assert all(len(names) == 1 for names in sides.values())
    for label in "ab":
        counts = Counter(name for one, name in zip(rows, sets, strict=True) if one.label == label)
        assert counts == {"train": 130, "val": 30, "test": 40}
    assert sets == split(rows, val_fraction=0.15, test_fraction=0.2, seed=seed, groups=together(rows, named))
    assert sets != split(rows, val_fraction=0.15, test_fraction=0.2, seed=seed + 1, groups=together(rows, named))


def test_groups_that_span_classes_and_differ_in_size() -> None:
    rng = np.random.default_rng(0)
    rows = [
        kept(f"p{p}/{i}", label="ab"[int(rng.random() < 0.3)]) for p in range(40) for i in range(rng.integers(1, 30))
    ]
    named, _ = named_groups(rows, compiled(r"p\d+"))  # type: ignore[arg-type]
    for seed in range(10):
        sets = split(rows, val_fraction=0.2, test_fraction=0.2, seed=seed, groups=together(rows, named))
        sides = defaultdict(set)
        for one, name in zip(rows, sets, strict=True):
            sides[one.file.split("/")[0]].add(name)
        assert all(len(names) == 1 for names in sides.values())
        shares = Counter(sets)
        assert 0.1 < shares["test"] / len(rows) < 0.3
        assert 0.1 < shares["val"] / len(rows) < 0.3


def test_groups_that_cannot_be_divided() -> None:
    rows = patients(6, 10, "aaab")  # class b is one patient
    named, _ = named_groups(rows, compiled(r"patient(\d+)"))  # type: ignore[arg-type]
    with pytest.raises(
        DataError, match=r"the 10 pictures of the class 'b' are 1 group that must stay together.*at least 3"
    ):
        split(rows, val_fraction=0.2, test_fraction=0.2, seed=0, groups=together(rows, named))


def test_patterns_that_do_not_fit() -> None:
    rows = [*patients(3, 2), kept("a/stranger.png")]
    groups, warnings = named_groups(rows, compiled(r"patient\d+"))  # type: ignore[arg-type]
    assert groups == [[0, 1], [2, 3], [4, 5]]
    assert "1 file names do not match" in warnings[0]
    assert "'a/stranger.png'" in warnings[0]
    with pytest.raises(DataError, match=r"'x\(y\)' matches no file name"):
        named_groups(rows, compiled("x(y)"))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no regular expression"):
        compiled("(")


@pytest.mark.row(25, "a drawn split keeps near duplicates on one side, whatever their classes are called")
def test_near_duplicates_stay_on_one_side(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for number in range(60):
        folder = root / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.png").write_bytes(encode(varied(4 * number), "PNG"))
        if number < 20:
            (folder / f"{number}.jpg").write_bytes(encode(varied(4 * number), "JPEG", quality=85))
    for seed in range(3):
        data = open_dataset(str(root), seed=seed, cache_dir=tmp_path / "cache")
        side = {Path(file).with_suffix("").name: set() for file in data.files}
        for file, name in zip(data.files, data.splits.tolist(), strict=True):
            side[Path(file).with_suffix("").name].add(name)
        assert data.scan.near_pairs is not None
        assert len(data.scan.near_pairs) == 20
        assert all(len(names) == 1 for names in side.values())
        assert len(set(data.groups.tolist())) == 60


def test_frames_of_one_scene_can_still_be_divided(tmp_path: Path) -> None:
    """Where a class has nothing but near duplicates, it is divided all the same, and the run says so."""
    root = tmp_path / "data"
    for label, seeds in (("a", [0]), ("b", range(4, 84, 4))):
        (root / label).mkdir(parents=True)
        for seed in seeds:
            (root / label / f"{seed}.png").write_bytes(encode(varied(seed), "PNG"))
    for quality in (70, 75, 80, 85, 90):
        (root / "a" / f"{quality}.jpg").write_bytes(encode(varied(0), "JPEG", quality=quality))
    data = open_dataset(str(root), cache_dir=tmp_path / "cache")
    assert "near duplicates lie in several sets" in data.warnings[-1]
    assert {str(name) for name in data.splits[data.labels == 0]} == {"train", "val", "test"}


# Many files, and the first part of a run


@pytest.mark.row(31, "under 2.5 kB of memory a file")
def test_memory_for_each_file_is_small(tmp_path: Path) -> None:
    """Of 200 classes with 5 files each, what a scan keeps for good."""
    data = [encode(varied(seed)[:16, :16], "PNG") for seed in range(50)]
    for label in range(200):
        (tmp_path / f"class{label:05}").mkdir()
        for i in range(5):
            (tmp_path / f"class{label:05}" / f"picture{i:07}.png").write_bytes(data[(5 * label + i) % 50] + bytes([i]))
    gc.collect()
    tracemalloc.start()
    source = open_source(str(tmp_path))
    scan = assemble(source, list(examine(source, DecodeOptions(), 2, None)), max_excluded=0.0, strict=False)
    gc.collect()
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(scan.kept) == 1000
    assert held / 1000 < 2500
    assert peak / 1000 < 5000


@pytest.mark.row(5, "trains; of very long pictures the middle part")
@pytest.mark.row(29, "trains, warns, and prints the balanced accuracy beside the accuracy")
@pytest.mark.row(32, "a run on it works, and leaves nothing in it")
def test_odd_pictures_train(neocog: Command, tmp_path: Path) -> None:
    root = tmp_path / "data"
    for seed in range(46):
        folder = root / ("rare" if seed < 3 else "usual")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{seed}.png").write_bytes(encode(varied(seed), "PNG"))
    for case in pictures.good():
        if case.name in ("one.png", "line.png", "cmyk.jpg", "sixteen.png", "frames.gif", "turned_6.jpg", "rgba.png"):
            (root / "usual" / case.name).write_bytes(case.data)
    for folder in (root, root / "rare", root / "usual"):
        folder.chmod(0o555)
    try:
        result = neocog("train", root, "--model", "lenet5", "--epochs", 1, "--image-size", 32, "--out", "run")
    finally:
        for folder in (root, root / "rare", root / "usual"):
            folder.chmod(0o755)
    assert result.code == 0, result
    assert "'usual' has 50 pictures, 'rare' 3" in result.out
    assert "balanced" in result.out
    assert sorted(path.name for path in root.iterdir()) == ["rare", "usual"]
