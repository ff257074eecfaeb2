"""Splits never overlap, keep what is official, and survive any file name on their way to disk."""

import csv
import os
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neocog.core.errors import DataError
from neocog.data.scan import Kept
from neocog.data.split import UNUSED, Row, describe_split, read_split, split, write_split


def kept(label: str, sha: str, official: str | None = None) -> Kept:
    return Kept(f"{label}/{sha}", None, label, official, sha, 8, 8, "RGB", (), False)


def many(**counts: int) -> list[Kept]:
    return [kept(label, f"{label}{i}") for label, count in counts.items() for i in range(count)]


def test_fractions_hold_in_every_class() -> None:
    pictures = many(a=1000, b=200, c=20, d=3)
    sets = split(pictures, val_fraction=0.15, test_fraction=0.2, seed=0)
    found = Counter(zip([one.label for one in pictures], sets, strict=True))
    assert [found["a", name] for name in ("train", "val", "test")] == [650, 150, 200]
    assert [found["b", name] for name in ("train", "val", "test")] == [130, 30, 40]
    assert [found["c", name] for name in ("train", "val", "test")] == [13, 3, 4]
    assert [found["d", name] for name in ("train", "val", "test")] == [1, 1, 1]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 40), st.integers(1, 4)), min_size=1, max_size=60),
    st.integers(0, 2**63 - 1),
    st.sampled_from([(0.15, 0.15), (0.0, 0.3), (0.4, 0.0), (0.45, 0.5), (0.0, 0.0)]),
)
@pytest.mark.row(28, "exit 3 with the number it needs; no set is silently empty")
def test_sets_are_disjoint_whole_and_never_empty(
    groups: list[tuple[str, int, int]], seed: int, fractions: tuple[float, float]
) -> None:
    pictures = [kept(label, f"{label}{number}") for label, number, copies in groups for _ in range(copies)]
    val, test = fractions
    need = 1 + (val > 0) + (test > 0)
    different = defaultdict(set)
    for one in pictures:
        different[one.label].add(one.sha256)
    if min(map(len, different.values())) < need:
        with pytest.raises(DataError, match=f"at least {need}"):
            split(pictures, val_fraction=val, test_fraction=test, seed=seed)
        return
    sets = split(pictures, val_fraction=val, test_fraction=test, seed=seed)
    by_content = defaultdict(set)
    by_class = defaultdict(set)
    for one, name in zip(pictures, sets, strict=True):
        by_content[one.sha256].add(name)
        by_class[one.label].add(name)
    assert all(len(names) == 1 for names in by_content.values())
    wanted = {"train"} | ({"val"} if val else set()) | ({"test"} if test else set())
    assert all(names == wanted for names in by_class.values())


@pytest.mark.row(24, "copies stay on one side of a drawn split")
def test_one_picture_in_two_classes_stays_on_one_side() -> None:
    pictures = [*many(a=50, b=50), *(kept(label, f"shared{i}") for i in range(40) for label in "ab")]
    for seed in range(20):
        sets = split(pictures, val_fraction=0.2, test_fraction=0.2, seed=seed)
        sides = defaultdict(set)
        for one, name in zip(pictures, sets, strict=True):
            sides[one.sha256].add(name)
        assert all(len(names) == 1 for names in sides.values())


def test_the_seed_decides_and_names_and_order_do_not() -> None:
    pictures = many(a=100, b=100)
    first = dict(
        zip((one.sha256 for one in pictures), split(pictures, val_fraction=0.2, test_fraction=0.2, seed=5), strict=True)
    )
    renamed = [
        Kept("x/" + one.file, None, *[getattr(one, name) for name in Kept.__slots__[2:]]) for one in reversed(pictures)
    ]
    again = split(renamed, val_fraction=0.2, test_fraction=0.2, seed=5)
    assert [first[one.sha256] for one in renamed] == again
    other = split(pictures, val_fraction=0.2, test_fraction=0.2, seed=6)
    assert other != list(first.values())


def test_more_pictures_move_few() -> None:
    before = split(many(a=200), val_fraction=0.2, test_fraction=0.2, seed=0)
    after = split(many(a=210), val_fraction=0.2, test_fraction=0.2, seed=0)[:200]
    assert sum(a != b for a, b in zip(before, after, strict=True)) <= 10


def test_official_splits_are_kept() -> None:
    pictures = [kept("a", f"{name}{i}", name) for name in ("train", "val", "test") for i in range(5)]
    assert split(pictures, val_fraction=0.5, test_fraction=0.4, seed=0) == [one.split for one in pictures]


def test_missing_official_sets_are_drawn_from_train() -> None:
    train = [kept(label, f"{label}{i}", "train") for label in "ab" for i in range(100)]
    test = [kept(label, f"{label}t{i}", "test") for label in "ab" for i in range(7)]
    sets = split(train + test, val_fraction=0.15, test_fraction=0.3, seed=0)
    assert Counter(sets) == {"train": 170, "val": 30, "test": 14}
    assert set(sets[200:]) == {"test"}
    sets = split(train, val_fraction=0.15, test_fraction=0.3, seed=0)
    assert Counter(sets) == {"train": 110, "val": 30, "test": 60}
    assert describe_split(train, sets, 0).startswith("train as the data has them; val and test drawn from train")


@pytest.mark.row(24, "an official training picture that is in the test set too is left `unused`")
def test_official_leaks_leave_the_training_set() -> None:
    pictures = [
        kept("a", sha, name)
        for sha, name in (("x", "train"), ("y", "train"), ("x", "test"), ("z", "val"), ("x", "val"))
    ]
    sets = split(pictures, val_fraction=0.1, test_fraction=0.1, seed=0)
    assert sets == [UNUSED, "train", "test", "val", UNUSED]
    assert "2 training pictures are copies" in describe_split(pictures, sets, 0)


def test_an_official_test_alone_is_refused() -> None:
    with pytest.raises(DataError, match="no training pictures"):
        split([kept("a", "x", "test")], val_fraction=0.1, test_fraction=0.1, seed=0)


names = st.binary(min_size=1, max_size=30).map(os.fsdecode)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(names, names, st.sampled_from(["train", "val", "test", UNUSED])), max_size=20))
@pytest.mark.row(19, "the same after reading `split.csv`")
@pytest.mark.row(20, "the same after reading `split.csv`")
@pytest.mark.row(21, "no cell of a CSV is a formula")
def test_any_name_survives_the_file(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, str, str]]
) -> None:
    path = tmp_path_factory.mktemp("split") / "split.csv"
    rows = [Row(file, label, name, "0" * 64) for file, label, name in cells]
    write_split(path, rows)
    assert read_split(path) == rows
    with path.open(encoding="utf-8", newline="") as file:
        for line in csv.reader(file):
            assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in line)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "file,class\n",
        '"file","class","set","sha256"\n"a","b","later","c"\n',
        '"file","class","set","sha256"\n"a"\n',
    ],
)
def test_damaged_split_files(tmp_path: Path, text: str) -> None:
    (tmp_path / "split.csv").write_text(text)
    with pytest.raises(DataError, match=r"split\.csv"):
        read_split(tmp_path / "split.csv")
