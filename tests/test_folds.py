"""Folds: dealt fairly, run one after the other, stopped and continued anywhere, and summed up honestly."""

import csv
import json
import shutil
import signal
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import neocog
from command import Command, one_line_error
from drawn import colours
from neocog.app import folding
from neocog.app.folds import Folds
from neocog.app.train import resume
from neocog.core.config import load_config, seconds
from neocog.core.errors import DataError, DivergedError, Interrupted, ModelFileError, UsageError
from neocog.core.events import Events
from neocog.core.files import sha256_of
from neocog.data.dataset import Dataset, open_dataset
from neocog.data.folds import deal, divide
from neocog.data.scan import Kept
from neocog.evaluate import Predictions
from neocog.evaluate.folds import interval_of_pictures, spread, summarise_folds
from neocog.training.world import World

NAMES = ("blue", "green", "red")
QUICK: dict[str, Any] = {"model": "mnist_fcn", "epochs": 2, "batch_size": 8, "lr": 0.003, "device": "cpu"}


def paint(folder: Path, n: int = 8, seed: int = 0) -> Path:
    return colours(folder, n, names=NAMES, noise=200, tint=20, seed=seed)


def kept(label: str, sha: str) -> Kept:
    return Kept(f"{label}/{sha}", None, label, None, sha, 8, 8, "RGB", (), False)


# Dealing


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(7, 40), min_size=1, max_size=5), st.integers(2, 7), st.integers(0, 99))
def test_parts_are_equal_within_one_in_all_and_in_each_class(sizes: list[int], folds: int, seed: int) -> None:
    pictures = [kept(f"class{label}", f"{label} {i}") for label, n in enumerate(sizes) for i in range(n)]
    groups = list(range(len(pictures)))
    parts = deal(pictures, groups, folds, str(seed))
    for chosen in (pictures, *([one for one in pictures if one.label == f"class{n}"] for n in range(len(sizes)))):
        counts = Counter(part for one, part in zip(pictures, parts, strict=True) if one in chosen)
        assert max(counts.values()) - min(counts[part] for part in range(folds)) <= 1
    backwards = deal(pictures[::-1], groups, folds, str(seed))
    assert backwards[::-1] == parts  # the order of files does not matter


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 9)), min_size=12, max_size=40), st.integers(2, 5))
def test_groups_stay_whole_and_parts_nearly_equal(sizes: list[tuple[str, int]], folds: int) -> None:
    sizes += [(label, 1) for label in "ab" for _ in range(folds)]
    pictures = [kept(label, f"{number} {i}") for number, (label, n) in enumerate(sizes) for i in range(n)]
    groups = [number for number, (_, n) in enumerate(sizes) for _ in range(n)]
    parts = deal(pictures, groups, folds, "0")
    of_group = defaultdict(set)
    for group, part in zip(groups, parts, strict=True):
        of_group[group].add(part)
    assert all(len(found) == 1 for found in of_group.values())
    for label in "ab":
        counts = Counter(part for one, part in zip(pictures, parts, strict=True) if one.label == label)
        assert len(counts) == folds
        assert max(counts.values()) - min(counts.values()) <= max(n for name, n in sizes if name == label)


def test_the_seed_decides() -> None:
    pictures = [kept("a", str(i)) for i in range(30)]
    groups = list(range(30))
    assert deal(pictures, groups, 3, "0") == deal(pictures, groups, 3, "0") != deal(pictures, groups, 3, "1")


def test_a_class_with_too_little_is_named() -> None:
    pictures = [kept(label, f"{label}{i}") for label in "ab" for i in range(4)]
    with pytest.raises(DataError, match="class 'a' has 4 different pictures, fewer than 5 folds"):
        deal(pictures, list(range(8)), 5, "0")
    with pytest.raises(DataError, match="class 'b' has 2 groups that must stay together, fewer than 3 folds"):
        deal(pictures, [0, 1, 2, 3, 4, 4, 5, 5], 3, "0")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint(tmp_path_factory.mktemp("folds") / "pictures")


def sets_of(data: Dataset, **more: Any) -> dict[str, str]:
    arguments: dict[str, Any] = {"fold": 1, "folds": None, "repeats": None, "val_fraction": 0.2, "test_fraction": 0.25}
    return dict(zip(data.files, divide(data, **(arguments | more)).splits.tolist(), strict=True))


def of_test(sets: dict[str, str]) -> set[str]:
    return {file for file, name in sets.items() if name == "test"}


def test_every_picture_is_tested_once_in_each_division(pictures: Path) -> None:
    data = open_dataset(str(pictures))
    for first in (1, 5):
        folds = [sets_of(data, fold=first + i, folds=4, repeats=2) for i in range(4)]
        assert sorted(file for sets in folds for file in of_test(sets)) == sorted(data.files)
        assert all(Counter(sets.values()) == {"test": 6, "val": 3, "train": 15} for sets in folds)
        # Not the same pictures validate again and again, and so are never learned.
        assert len({frozenset(f for f, name in sets.items() if name == "val") for sets in folds}) == 4
    first, other = (of_test(sets_of(data, fold=fold, folds=4, repeats=2)) for fold in (1, 5))
    assert first != other
    assert set(sets_of(data, folds=4, val_fraction=0.0).values()) == {"train", "test"}


def test_repeats_alone_are_independent_draws(pictures: Path) -> None:
    data = open_dataset(str(pictures))
    draws = [sets_of(data, fold=i, repeats=3) for i in (1, 2, 3)]
    assert all(Counter(sets.values()) == {"test": 6, "val": 6, "train": 12} for sets in draws)
    assert len({frozenset(of_test(sets)) for sets in draws}) == 3
    with pytest.raises(UsageError, match="no fold 4: folds and repeats make 3"):
        sets_of(data, fold=4, repeats=3)


def test_copies_and_named_groups_share_a_part(pictures: Path, tmp_path: Path) -> None:
    for file in sorted(pictures.rglob("*.png")):
        place = tmp_path / "data" / file.parent.name
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place / f"patient{int(file.stem) // 2}-{file.stem}.png")
        shutil.copy(file, place / f"copy of {file.stem}.png")
    data = open_dataset(str(tmp_path / "data"), group_by=r"patient\d")
    sets = sets_of(data, folds=2)
    place_of = defaultdict(set)
    for file, name in sets.items():
        place_of[data.groups[data.files.index(file)]].add(name)
    # Patients have pictures in all classes, and each picture its copy: four groups, two of them tested.
    assert len(place_of) == 4
    assert list(place_of.values()).count({"test"}) == 2
    assert all(len(names) == 1 for names in place_of.values())


def test_the_data_own_test_stays_aside(tmp_path: Path) -> None:
    for name, n, seed in (("train", 6, 0), ("val", 2, 1), ("test", 3, 2)):
        paint(tmp_path / name, n, seed)
    shutil.copy(tmp_path / "test" / "red" / "00.png", tmp_path / "train" / "red" / "copy.png")
    data = open_dataset(str(tmp_path))
    folds = [sets_of(data, fold=i, folds=4) for i in (1, 2, 3, 4)]
    own = {file for file in data.files if file.startswith("test/")}
    for sets in folds:
        assert {file for file, name in sets.items() if name == "unused"} == own | {"train/red/copy.png"}
    assert {file for sets in folds for file in of_test(sets)} == set(data.files) - own - {"train/red/copy.png"}
    text = divide(data, 1, 4, None, val_fraction=0.1, test_fraction=0.1).how_split
    assert "the 9 test pictures that the data itself has stay aside, and so do 1 copies of them" in text


# Statistics


def predictions(right: list[bool], files: list[str] | None = None) -> Predictions:
    n = len(right)
    p = np.array([[0.9, 0.1] if one else [0.2, 0.8] for one in right], np.float32)
    return Predictions(files or [str(i) for i in range(n)], ["test"] * n, ["a", "b"], np.zeros(n, np.int64), p)


def test_the_interval_over_folds_is_nadeau_and_bengios() -> None:
    rights = [[True] * n + [False] * (10 - n) for n in (6, 8, 9, 7, 5)]
    found = summarise_folds(
        [predictions(one, [f"{k}{i}" for i in range(10)]) for k, one in enumerate(rights)], [40] * 5
    )
    over = found["over"]["top1"]
    # mean 0.7, s = sqrt(0.025), t(0.975; 4) = 2.776445 (any table), times sqrt(1/5 + 10/40)
    half = 2.776445 * np.sqrt(0.2 + 0.25) * np.sqrt(0.025)
    assert over["mean"] == pytest.approx(0.7)
    assert over["standard_deviation"] == pytest.approx(np.sqrt(0.025))
    assert over["interval"] == pytest.approx([0.7 - half, min(1.0, 0.7 + half)], abs=1e-6)
    assert found["pooled"]["top1"] == pytest.approx(0.7)
    assert found["pooled"]["pictures"] == found["pooled"]["predictions"] == 50
    assert [one["top1"] for one in found["runs"]] == pytest.approx([0.6, 0.8, 0.9, 0.7, 0.5])
    for words in ("Nadeau and Bengio 2003", "Bengio and Grandvalet 2004"):
        assert words in found["note"]


def test_equal_results_prove_no_certainty() -> None:
    assert spread([1.0, 1.0, 1.0], 0.5, True) == {"mean": 1.0, "standard_deviation": 0.0, "interval": None}
    assert spread([0.5], 0.5, True)["interval"] is None


def test_repeated_predictions_of_a_picture_are_no_further_pictures() -> None:
    """Against the bootstrap done picture by picture."""
    draw = np.random.default_rng(1)
    hard = draw.beta(0.5, 0.4, (60, 1))  # most pictures are right, or wrong, in nearly every repeat
    right = draw.random((60, 4)) < hard
    files = [str(i) for i in range(60) for _ in range(4)]
    low, high = interval_of_pictures(predictions(right.ravel().tolist(), files))
    resampled = right.mean(1)[draw.integers(0, 60, (4000, 60))].mean(1)
    assert [low, high] == pytest.approx(np.quantile(resampled, [0.025, 0.975]), abs=0.02)
    naive = summarise_folds([predictions(right.ravel().tolist())], [1])["pooled"]["top1_interval"]
    assert high - low > 1.5 * (naive[1] - naive[0])


# Runs


@pytest.fixture(scope="module")
def whole(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Folds:
    made = neocog.train(pictures, out=tmp_path_factory.mktemp("whole") / "run", folds=3, **QUICK)
    assert isinstance(made, Folds)
    return made


def weights(folder: Path) -> list[str]:
    return [sha256_of(path) for path in sorted(folder.glob("fold-*/model/model.safetensors"))]


def test_each_picture_is_named_by_the_network_that_did_not_learn_it(whole: Folds, pictures: Path) -> None:
    found = whole.predictions()
    assert sorted(found.files) == sorted(f"{p.parent.name}/{p.name}" for p in pictures.rglob("*.png"))
    assert set(found.split) == {"test"}
    for run in whole.runs:
        rows = {row["file"]: row["set"] for row in csv.DictReader((run.folder / "split.csv").read_text().splitlines())}
        own = run.predictions("test")
        assert all(rows[file] == "test" for file in own.files)
        mine = found.rows(np.array([file in own.files for file in found.files]))
        assert np.array_equal(mine.probabilities, own.probabilities)
    numbers = json.loads((whole.folder / "folds.json").read_text())
    assert numbers["complete"]
    assert [one["folder"] for one in numbers["runs"]] == ["fold-01", "fold-02", "fold-03"]
    assert [one["top1"] for one in numbers["runs"]] == [run.metrics("test")["top1"] for run in whole.runs]
    assert numbers["pooled"]["top1"] == whole.metrics()["top1"]
    with pytest.raises(DataError, match="no val pictures"):
        whole.metrics("val")
    page = whole.report.read_text()
    for words in ("3 folds", "fold-03", "Nadeau and Bengio 2003", "Wrong, and most sure of it"):
        assert words in page
    assert "http" not in page.split("</style>")[1]


def test_a_fold_alone_is_the_same_run(whole: Folds, pictures: Path, tmp_path: Path) -> None:
    run = neocog.train(pictures, out=tmp_path / "alone", folds=3, fold=2, **QUICK)
    assert sha256_of(run.folder / "model" / "model.safetensors") == weights(whole.folder)[1]
    assert (run.folder / "split.csv").read_bytes() == (whole.folder / "fold-02" / "split.csv").read_bytes()
    config = (run.folder / "config.toml").read_text()
    assert "folds = 3" in config
    assert "fold = 2" in config


def stopping(fold: int, stop: Callable[[Any], None]) -> Events:
    """Events that call `stop` with the trainer after the first step of a fold."""
    events, trainers = Events(), []
    events.on("training", lambda trainer: trainers.append(trainer))

    def step(epoch: int, batch: int, **_: Any) -> None:
        if len(trainers) == fold and (epoch, batch) == (0, 1):
            stop(trainers[-1])

    events.on("step_ended", step)
    return events


def test_stopped_in_a_fold_it_goes_on_there(whole: Folds, pictures: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(Interrupted, match=rf"fold 2 of 3: .*`neocog resume {run}` continues") as caught:
        neocog.train(
            pictures, out=run, folds=3, events=stopping(2, lambda trainer: trainer.stop(signal.SIGTERM)), **QUICK
        )
    assert caught.value.exit_code == 143
    partial = json.loads((run / "folds.json").read_text())
    assert (partial["complete"], len(partial["runs"])) == (False, 1)
    with pytest.raises(ModelFileError, match="1 finished folds of 3; `neocog resume"):
        Folds.open(run)
    before = (run / "fold-01" / "run.json").stat().st_mtime_ns
    assert not (run / "fold-03").exists()
    again = resume(run)
    assert isinstance(again, Folds)
    assert (run / "fold-01" / "run.json").stat().st_mtime_ns == before
    assert json.loads((run / "fold-02" / "run.json").read_text())["sittings"][1]["from_batch"] > 0
    assert weights(run) == weights(whole.folder)
    assert (run / "predictions.csv").read_bytes() == (whole.folder / "predictions.csv").read_bytes()
    assert not (run / "lock").exists()


def test_one_that_fails_fails_all_and_the_rest_is_kept(pictures: Path, tmp_path: Path) -> None:
    def fail(_: Any) -> None:
        raise DivergedError("the loss became nan")

    with pytest.raises(DivergedError, match="fold 2 of 3: the loss became nan") as caught:
        neocog.train(pictures, out=tmp_path / "run", folds=3, events=stopping(2, fail), **QUICK)
    assert caught.value.exit_code == 5
    assert neocog.Run.open(tmp_path / "run" / "fold-01").metrics("test")["pictures"] == 8


@pytest.mark.row(14, "a later fold refuses to begin on other pictures than the first one's")
def test_folds_are_not_mixed_from_two_states_of_the_data(pictures: Path, tmp_path: Path) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(pictures, data)
    with pytest.raises(Interrupted) as caught:
        neocog.train(data, out=run, folds=2, events=stopping(1, lambda trainer: trainer.stop(signal.SIGINT)), **QUICK)
    assert caught.value.exit_code == 130
    resume(run)
    shutil.rmtree(run / "fold-02")
    (data / "red" / "05.png").write_bytes((data / "red" / "05.png").read_bytes() + b"x")
    with pytest.raises(UsageError, match=r"fold 2 of 2: .*1 changed_since_scan \(red/05.png\)"):
        resume(run)
    assert not (run / "fold-02").exists()


def test_a_time_budget_is_shared_by_the_folds_to_come(tmp_path: Path) -> None:
    config = load_config(None, {"data": "x", "time": "1m", "folds": 3})
    first = folding.config_of(tmp_path / "fold-01", config, 1, lambda: 0.0, 3, World())
    assert (first.fold, seconds(str(first.time))) == (1, 20.0)
    later = folding.config_of(tmp_path / "fold-02", config, 2, lambda: 30.0, 2, World())
    assert (later.fold, seconds(str(later.time))) == (2, 15.0)
    assert seconds(str(folding.config_of(tmp_path / "fold-03", config, 3, lambda: 70.0, 1, World()).time)) < 0.01


def test_on_the_command_line(neocog: Command, pictures: Path, whole: Folds) -> None:
    small = ("--model", "mnist_fcn", "--epochs", 1, "--batch-size", 8, "--folds", 2, "--repeats", 2)
    made = neocog("train", pictures, *small, "--out", "run")
    assert made.code == 0, made.err
    for number in (1, 2, 3, 4):
        assert f"fold       {number} of 4: accuracy" in made.out
    assert made.out.count("network ") == 1  # the first fold's lines are not said again
    result = next(line for line in made.out.splitlines() if line.startswith("result"))
    assert "on 24 pictures" in result
    found = json.loads(neocog("train", pictures, *small, "--out", "run", "--resume", "exact", "--json").out)
    assert found["folds"]["complete"]
    assert found["metrics"]["pictures"] == 48
    assert found["metrics"]["top1"] == found["folds"]["pooled"]["top1"]
    one_line_error(neocog("train", pictures, *small, "--out", "run"), 2, "exists already", "neocog resume")
    one_line_error(neocog("train", pictures, *small, "--lr", 0.5, "--out", "run", "--resume", "exact"), 2,
                   "other settings", "lr was None and is 0.5")  # fmt: skip
    one_line_error(neocog("resume", "run", "--epochs", 3), 2, "neocog resume run/fold-01 --epochs 3")
    one_line_error(neocog("predict", "run", pictures), 2, "several folds", "run/fold-01")
    one_line_error(neocog("train", pictures, "--fold", 2), 2, "neither folds nor repeats")
    one_line_error(neocog("train", pictures, *small, "--fold", 5), 2, "make 4")
    one_line_error(neocog("train", pictures, "--repeats", 2, "--test-fraction", 0), 2, "test-fraction")
    one_line_error(neocog("train", pictures, "--folds", 9, "--out", "no"), 3, "'blue' has 8 different pictures, fewer")
    assert not Path("no").exists()
    before = weights(Path("run"))
    assert neocog("train", pictures, *small[:-2], "--seed", 1, "--out", "run", "--force").code == 0
    assert not set(before) & set(weights(Path("run")))
    one_line_error(neocog("train", pictures / "absent", *small, "--out", "run", "--force"), 3, "absent")
    assert weights(Path("run"))  # refused data cost nothing that was there


def test_a_settings_file_of_all_folds_replays_them(whole: Folds, tmp_path: Path) -> None:
    config = load_config(whole.folder / "config.toml", {})
    assert (config.folds, config.fold) == (3, None)
    assert replace(whole.runs[0]).config.fold == 1
