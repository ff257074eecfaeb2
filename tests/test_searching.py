"""A search: never below the defaults, repeated by its seed, shared by processes, unharmed by kills, and in time."""

import csv
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

import pytest

import neocog
from command import Command, one_line_error
from drawn import colours
from killer import Killer
from neocog.app import doctor, searching_plan, searching_study, searching_trial
from neocog.app.compare_plan import Measured
from neocog.app.run import Run
from neocog.app.searching import Search, search, start
from neocog.app.searching_loop import RESERVE
from neocog.app.searching_space import PRESETS, SPACE, defaults
from neocog.app.searching_study import SharedStudy, create, latest
from neocog.app.searching_table import Row, best_of, rows_of
from neocog.core.config import load_config
from neocog.core.errors import DivergedError, Interrupted, ModelFileError, UsageError, remedy
from neocog.core.events import Events
from neocog.core.files import sha256_of
from neocog.report.model import Setting
from neocog.report.search import AxisRow, SearchPage, TrialRow, render_search
from neocog.report.search_chart import progress, so_far
from neocog.training.budget import Pace
from pages import HOSTILE, Seen, assert_closed, assert_inert

SMALL: dict[str, Any] = {"batch_size": 16, "image_size": 28, "device": "cpu", "epochs": 2}
FLAGS = ("--batch-size", 16, "--image-size", 28, "--device", "cpu", "--epochs", 2)
CLOCKS = {"seconds", "note", "folder"}
WEIGHTS = "model/model.safetensors"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colours(tmp_path_factory.mktemp("search") / "pictures", 12, noise=200, tint=20)


def searched(pictures: Path, out: Path, events: Events | None = None, **more: Any) -> Search:
    return search(pictures, ["mnist_fcn"], out=out, events=events, **{"trials": 3, **SMALL, **more})


def outcome(folder: Path) -> dict[str, Any]:
    """All but times, and how often a trial was begun."""
    found = json.loads((folder / "search.json").read_text())
    rows = [{name: value for name, value in row.items() if name not in CLOCKS} for row in found["rows"]]
    return {
        "rows": rows, "best": found["best"], "test": found["test"],
        "weights": [sha256_of(folder / row["name"] / WEIGHTS) for row in rows if row["state"] != "failed"],
    }  # fmt: skip


@pytest.fixture(scope="module")
def whole(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Search:
    return searched(pictures, tmp_path_factory.mktemp("whole") / "run", seed=3)


@pytest.fixture
def study(tmp_path: Path) -> Iterator[SharedStudy]:
    """Of two candidates."""
    one = {"model": "m", "regime": "scratch", "epochs": 2, "settings": {}, "defaults": {"lr": 0.001, "mixup": 0.0}}
    create(tmp_path / "study.db", {"seed": 1}, {"a": one, "b": one | {"defaults": {"lr": 0.01}}})
    made = SharedStudy(tmp_path / "study.db")
    yield made
    made.close()


# The space


def decided(**more: Any) -> Any:
    values = {"data": "x", "regime": "scratch", "lr": 0.001, "augment": "light", "mixup": 0.0, "erasing": 0.0}
    return load_config(None, values | more)


def test_every_value_of_the_space_is_a_setting() -> None:
    for optimizer, lr in (("adamw", 0.001), ("sgd", 0.05), ("sgd", 50.0)):
        for regime in ("scratch", "probe", "partial", "full", "gradual", "features"):
            weights = {} if regime == "scratch" else {"weights": "imagenet"}
            views = {"views": 10} if regime == "features" else {}
            config = decided(regime=regime, optimizer=optimizer, lr=lr, **weights, **views)
            found = defaults(config, {})
            for axis in SPACE:
                assert (axis.name in found) == (regime in axis.regimes)
                if axis.name not in found:
                    continue
                ends = PRESETS if axis.kind == "choice" else axis.range(found[axis.name])
                if axis.kind != "choice":
                    assert ends[0] <= found[axis.name] <= ends[1]
                for end in ends:
                    load_config(None, config.model_dump(exclude_none=True) | {axis.name: end})
    features = defaults(decided(regime="features", weights="imagenet", views=10), {})
    assert not {"augment", "erasing", "finetune_lr"} & features.keys()
    assert {"mixup", "views", "label_smoothing"} <= features.keys()


def test_what_is_given_is_not_searched() -> None:
    assert "weight_decay" not in defaults(decided(weight_decay=0.0), {"weight_decay": 0.0, "lr": None})
    assert "lr" in defaults(decided(), {"lr": None})
    assert "label_smoothing" not in defaults(decided(loss="margin"), {})
    with pytest.raises(UsageError, match="fitted at once: there is nothing to search"):
        defaults(decided(regime="features", weights="imagenet", head="knn"), {})
    with pytest.raises(UsageError, match="every setting of the search is given"):
        defaults(decided(), {axis.name: 1 for axis in SPACE})


# The study


def test_places_are_the_defaults_first_and_no_two_are_alike(study: SharedStudy) -> None:
    other = SharedStudy(study.path)
    claims = [(study, other)[number % 2].next(6) for number in range(6)]
    assert study.next(6) is None
    assert [claim.place for claim in claims if claim] == list(range(6))
    first, second = claims[0], claims[1]
    assert first is not None
    assert second is not None
    assert (first.candidate, first.settings) == ("a", {"lr": 0.001, "mixup": 0.0})
    assert (second.candidate, second.settings) == ("b", {"lr": 0.01})
    rates = [claim.settings["lr"] for claim in claims if claim]
    assert len(set(rates)) == 6
    assert all(1e-5 <= rate <= 0.1 for rate in rates)
    other.close()


def test_a_worker_on_another_machine_is_dead_when_it_is_silent(study: SharedStudy) -> None:
    claim = study.next(2)
    assert claim is not None
    claim.trial.set_user_attr("worker", searching_study.worker() | {"host": "elsewhere", "pid": 1})
    second = study.next(2)
    assert second is not None
    assert second.place == 1
    assert study.next(2) is None  # the other is not known to be dead
    with sqlite3.connect(study.path) as file:
        file.execute("UPDATE trial_heartbeats SET heartbeat = datetime('now', '-170 seconds')")
    file.close()
    assert study.next(2) is None
    with sqlite3.connect(study.path) as file:
        file.execute("UPDATE trial_heartbeats SET heartbeat = datetime('now', '-190 seconds') WHERE trial_id = 1")
    file.close()
    again = study.next(2)
    assert again is not None
    assert (again.place, again.candidate, again.settings, again.before) == (0, "a", claim.settings, 1)
    assert not study.end(claim, "COMPLETE", 0.9)  # it was alive after all, and too late
    assert study.end(again, "COMPLETE", 0.5)
    assert [(row.trial, row.state) for row in rows_of(study)] == [(0, "finished"), (1, "running")]


def test_what_a_kill_leaves_is_mended(study: SharedStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every moment between the asking for a trial and its begin, and between its end and the next attempt."""

    def killed(moment: str) -> None:
        def leave(*_: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(searching_study, moment, leave)
            with pytest.raises(KeyboardInterrupt):
                study.next(3)

    fail = searching_study.load_optuna().trial.TrialState.FAIL
    for place, usual in enumerate([{"lr": 0.001, "mixup": 0.0}, {"lr": 0.01}]):
        killed("suggest")
        killed("worker")
        claim = study.next(3)
        assert claim is not None
        assert (claim.place, claim.before, claim.settings) == (place, 0, usual)
        assert study.end(claim, "COMPLETE", 0.5)
    killed("suggest")
    assert sorted(latest(study.trials())) == [0, 1]  # nothing was known of it yet
    killed("worker")
    expected = study.next(3)
    assert expected is not None
    assert (expected.place, expected.before) == (2, 0)
    with searching_study.quiet() as optuna:
        study.study.tell(expected.trial, state=fail)
        for _ in range(2):  # a second mender finds nothing to do
            study._mend(optuna)
    assert [trial.user_attrs["place"] for trial in study.trials() if trial.state.name == "WAITING"] == [2]
    dead: list[int] = []
    monkeypatch.setattr(searching_study, "started", lambda pid: None if pid in dead else str(pid))
    for attempt in (1, 2):
        found = study.next(3)
        assert found is not None
        assert (found.place, found.settings, found.before) == (2, expected.settings, attempt)
        found.trial.set_user_attr("worker", searching_study.worker() | {"pid": attempt, "started": str(attempt)})
        dead.append(attempt)
    assert study.next(3) is None  # three died of it
    row = rows_of(study)[2]
    assert (row.state, row.note) == ("failed", "it ended without a result 3 times")


def test_optuna_is_quiet_and_left_as_it_was(capfd: pytest.CaptureFixture[str], study: SharedStudy) -> None:
    optuna = searching_study.load_optuna()
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.INFO)
    try:
        claim = study.next(1)
        assert claim is not None
        study.end(claim, "FAIL", error="it diverged")
        assert optuna.logging.get_verbosity() == optuna.logging.INFO
        assert capfd.readouterr() == ("", "")
    finally:
        optuna.logging.set_verbosity(before)


def test_files_that_are_no_study_are_refused(neocog: Command, pictures: Path) -> None:
    ask = ("compare", pictures, "--models", "mnist_fcn", "--search", *FLAGS, "--study")
    Path("text.db").write_text("no database at all, but long enough to be read as one" * 30)
    one_line_error(neocog(*ask, "text.db", "--out", "run"), 4, "text.db cannot be read", "not a database")
    with sqlite3.connect("other.db") as file:
        file.execute("CREATE TABLE other (x)")
    file.close()
    one_line_error(neocog(*ask, "other.db", "--out", "run"), 2, "other.db holds no search")
    Path("folder.db").mkdir()
    one_line_error(neocog(*ask, "folder.db", "--out", "run"), 2, "folder.db is a folder")
    assert not Path("run").exists()


# A search


def test_the_first_trial_has_the_defaults_and_the_best_is_not_below(
    pictures: Path, tmp_path: Path, whole: Search
) -> None:
    run = neocog.train(pictures, "mnist_fcn", regime="scratch", out=tmp_path / "plain", seed=3, **SMALL)
    for name in (WEIGHTS, "predictions.csv", "split.csv"):
        assert sha256_of(run.folder / name) == sha256_of(whole.folder / "trial-0000" / name)
    best, first = whole.best, whole.rows[0]
    assert best is not None
    scores = [(row.val, -(row.val_loss or 0)) for row in whole.rows if row.state == "finished"]
    assert (best.val, -(best.val_loss or 0)) == max(scores) >= (first.val, -(first.val_loss or 0))
    assert len({json.dumps(row.settings) for row in whole.rows}) == 3
    for row in whole.rows:
        numbers = Run.open(whole.folder / row.name).metrics("val")
        assert (row.val, row.val_loss) == (numbers["top1"], numbers["nll"])
    table = list(csv.DictReader((whole.folder / "trials.csv").read_text().splitlines()))
    assert [row["trial"] for row in table] == [row.name for row in whole.rows]
    assert [float(row["lr"]) for row in table] == pytest.approx([row.settings["lr"] for row in whole.rows], rel=1e-5)
    page = whole.report.read_text()
    for words in (
        best.name,
        "looked at once",
        "for this trial only",
        "Best settings beside the defaults",
        "weight_decay",
    ):
        assert words in page
    assert_closed(page, Seen(page).tags)


def test_best_toml_repeats_the_best_trial(neocog: Command, pictures: Path, whole: Search) -> None:
    assert whole.best is not None
    assert whole.best.trial != 0  # with this seed another one than the defaults
    made = neocog("train", "--config", whole.config, "--out", "again")
    assert made.code == 0, made.err
    for name in (WEIGHTS, "predictions.csv"):
        assert sha256_of(Path("again") / name) == sha256_of(whole.run.folder / name)


def test_the_same_seed_is_the_same_search(pictures: Path, tmp_path: Path, whole: Search) -> None:
    """Also begun with fewer trials, and gone on with."""
    seen: list[str] = []
    real = Run.metrics

    def metrics(run: Run, split: str = "test") -> Any:
        seen.extend([run.folder.name] if split == "test" else [])
        return real(run, split)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "metrics", metrics)
        searched(pictures, tmp_path / "run", seed=3, trials=2)
        again = searched(pictures, tmp_path / "run", seed=3)
    assert outcome(again.folder) == outcome(whole.folder)
    assert again.best is not None
    assert again.best.name == seen[-1]
    assert len(seen) == 2  # once each time, of the best alone
    assert sha256_of(again.folder / "trials.csv") != ""
    other = SharedStudy(tmp_path / "run" / "study.db")
    rows = rows_of(other)
    other.close()
    assert rows == again.rows
    with pytest.raises(UsageError, match="holds a search already"):
        start(str(pictures), ["mnist_fcn"], [], SMALL, tmp_path / "run", Events(), trials=3, resume="never")


def test_another_search_is_refused(pictures: Path, tmp_path: Path, whole: Search) -> None:
    other = colours(tmp_path / "other", 12, seed=1)
    with pytest.raises(UsageError, match=r"is another one: pictures was '\w+' and is '\w+'; give another"):
        searched(other, whole.folder, seed=3)
    with pytest.raises(
        UsageError, match=r"is another one: pictures was .*, seed was 3 and is 0, epochs was 2 and is 3"
    ):
        searched(pictures, whole.folder, epochs=3)
    with pytest.raises(UsageError, match="is another one: candidates was"):
        search(pictures, ["lenet5"], out=whole.folder, trials=3, seed=3, **SMALL)
    with pytest.raises(UsageError, match=r"is another one: .*lr was None and is 0.1"):
        searched(pictures, whole.folder, seed=3, lr=0.1)
    moved = shutil.copytree(pictures, tmp_path / "moved")  # the same pictures in another place are the same
    assert searched(moved, whole.folder, seed=3).rows == whole.rows
    (tmp_path / "run" / "trial-0000").mkdir(parents=True)
    with pytest.raises(UsageError, match="exists already"):
        searched(pictures, tmp_path / "run")


def test_below_the_median_a_trial_is_paused(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching_study, "STARTUP", 2)
    found = searched(pictures, tmp_path / "run", trials=7, epochs=3, seed=1)

    def history(row: Any) -> list[float]:
        lines = (found.folder / row.name / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line)["val_accuracy"] for line in lines]

    states = []
    for row in found.rows:
        own, before = history(row), [history(one) for one in found.rows[: row.trial] if one.state == "finished"]
        worse = [
            epoch for epoch in range(1, 4)
            if len(before) >= 2 and epoch <= len(own) and max(own[:epoch]) < median(one[epoch - 1] for one in before)
        ]  # fmt: skip
        assert (row.state == "pruned") == (bool(worse) and worse[0] < 3)
        assert row.epochs == (worse[0] if row.state == "pruned" else 3)
        states.append(row.state)
        ended = json.loads((found.folder / row.name / "run.json").read_text())["sittings"][-1]["ended"]
        assert ended.startswith(f"paused after {worse[0]} epochs, as {row.name}" if row.state == "pruned" else "fin")
    assert {"pruned", "finished"} <= set(states)


def test_the_best_is_a_whole_trial_and_ties_go_by_loss_then_to_the_first() -> None:
    scores = [("finished", 0.8, 0.5), ("pruned", 0.9, 0.1), ("finished", 0.8, 0.4), ("finished", 0.8, 0.4)]
    rows = [
        Row(number, str(number), "a", "m", "scratch", state, {}, 3, 3.0, val, loss)
        for number, (state, val, loss) in enumerate(scores)
    ]
    best = best_of(rows)
    assert best is not None
    assert best.trial == 2
    assert best_of(rows[1:2]) is None


def test_a_trial_that_diverges_is_a_failed_row(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = searching_trial.train_until

    def train(config: Any, folder: Path, *rest: Any, **more: Any) -> Any:
        if folder.name != "trial-0000" or bad:
            raise DivergedError("the loss became nan", "a smaller --lr")
        return real(config, folder, *rest, **more)

    monkeypatch.setattr(searching_trial, "train_until", train)
    bad = False
    found = searched(pictures, tmp_path / "run", trials=3)
    assert [row.state for row in found.rows] == ["finished", "failed", "failed"]
    assert found.rows[1].note == "the loss became nan; a smaller --lr"
    assert "the loss became nan" in found.report.read_text()
    bad = True
    with pytest.raises(DivergedError, match="none of 5 trials could be trained; trial-0004: the loss became nan"):
        searched(pictures, tmp_path / "none", trials=50)
    with pytest.raises(DivergedError, match="none of 1 trials"):
        searched(pictures, tmp_path / "one", trials=1)


def test_an_error_that_is_not_the_settings_ends_the_search(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(searching_trial, "train_until", lambda *_, **__: (_ for _ in ()).throw(OSError("disk")))
        with pytest.raises(OSError, match="disk"):
            searched(pictures, tmp_path / "run", trials=1)
    found = searched(pictures, tmp_path / "run", trials=1)
    assert [(row.state, row.note) for row in found.rows] == [
        ("finished", "begun 2 times: its process ended before it did")
    ]


def test_stopped_it_goes_on_where_it_was(pictures: Path, tmp_path: Path, whole: Search) -> None:
    events, trainers = Events(), []
    events.on("training", lambda trainer: trainers.append(trainer))
    events.on("step_ended", lambda epoch, **_: trainers[-1].stop(2) if len(trainers) == 2 and epoch == 1 else None)
    with pytest.raises(Interrupted, match=r"trial-0001: .*the same command goes on") as caught:
        searched(pictures, tmp_path / "run", events, seed=3)
    assert caught.value.exit_code == 130
    again, sittings = Events(), []
    again.on("training", lambda trainer: sittings.append((trainer.folder.name, trainer.progress.epoch)))
    found = searched(pictures, tmp_path / "run", again, seed=3)
    assert sittings[0] == ("trial-0001", 1)
    assert outcome(found.folder) == outcome(whole.folder)
    assert [row.note for row in found.rows] == [""] * 3  # who stops it on purpose is no accident


def test_the_folder_of_another_search_is_left_alone(pictures: Path, tmp_path: Path, whole: Search) -> None:
    shutil.copytree(whole.folder, tmp_path / "run")
    (tmp_path / "run" / "study.db").unlink()
    with pytest.raises(UsageError, match="exists already"):
        searched(pictures, tmp_path / "run", seed=3)
    with pytest.raises(UsageError, match="exists already"):
        searched(pictures, tmp_path / "run", seed=4, study=tmp_path / "new.db")
    claim = searching_study.Claim(None, 1, "a", {"lr": 0.5}, 0)  # type: ignore[arg-type]
    config = Run.open(whole.folder / "trial-0001").config.model_copy(update={"lr": 0.5})
    with pytest.raises(UsageError, match=r"trial-0001 holds the run of another search \(lr differ\)"):
        searching_trial.refuse_stranger(whole.folder / "trial-0001", config, claim)


def test_candidates_and_embeddings(pictures: Path, tmp_path: Path) -> None:
    """Of two candidates both defaults come first; the views of one are embedded once for all trials."""
    run = neocog.train(pictures, "mnist_fcn", regime="scratch", out=tmp_path / "source", **SMALL)
    cache = Path(os.environ["XDG_CACHE_HOME"])
    found = search(pictures, ["mnist_fcn"], regimes=["features", "scratch"], weights=str(run.folder / WEIGHTS),
                   trials=2, out=tmp_path / "run", seed=1, **SMALL)  # fmt: skip
    assert [row.candidate for row in found.rows] == ["mnist_fcn-features", "mnist_fcn-scratch"]
    assert found.rows[0].settings["views"] == 10
    assert "augment" not in found.rows[0].settings
    embedded = {path: path.stat().st_mtime_ns for path in cache.rglob("views/*/*.npy")}
    assert embedded
    more = search(pictures, ["mnist_fcn"], regimes=["features", "scratch"], weights=str(run.folder / WEIGHTS),
                  trials=3, out=tmp_path / "run", seed=1, **SMALL)  # fmt: skip
    assert "mnist_fcn-features" in {row.candidate for row in more.rows[2:]}
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("views/*/*.npy")} == embedded
    assert "The candidate is" in more.report.read_text()
    with pytest.raises(UsageError, match="the defaults of 2 candidates are tried first"):
        search(pictures, ["mnist_fcn", "lenet5"], trials=1, out=tmp_path / "few", **SMALL)


# In time


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Measured:
    """An epoch is half a second, a trial of two epochs two, whatever this machine does."""
    one = Measured(setup=0.5, pace=Pace(0.1, 0.1), validation=0.3, ending=0.5, batches=2)
    monkeypatch.setattr(searching_plan, "measure", lambda *_: (one, {"settings": {}}))
    return one


@pytest.mark.parametrize("slower", [1.0, 4.0])
def test_it_ends_in_time(pictures: Path, tmp_path: Path, measured: Measured, slower: float) -> None:
    """On a clock that only steps move, as they were measured or four times slower."""
    now, events = [0.0], Events()

    def step(**_: Any) -> None:
        now[0] += 0.5 * slower

    events.on("step_ended", step)
    given = {"time": "15s" if slower > 1 else "9s"} | SMALL
    found = start(str(pictures), ["mnist_fcn"], [], given, tmp_path / "run", events, clock=lambda: now[0])
    whole = [row for row in found.rows if row.state == "finished"]
    left = float(given["time"][:-1]) - RESERVE - now[0]
    assert left >= 0
    assert len(whole) == (2 if slower == 1 else 1)
    assert found.best is not None
    assert median(row.seconds or 0 for row in whole) * 1.1 > left  # no other one would have fitted
    assert all(row.state in ("finished", "pruned") for row in found.rows)


def test_stopped_by_the_clock_a_trial_waits(pictures: Path, tmp_path: Path, measured: Measured, whole: Search) -> None:
    """In the middle of an epoch, to go on later as if it had not stopped."""
    now, events, slow = [0.0], Events(), [40.0]

    def step(**_: Any) -> None:
        now[0] += slow[0]

    events.on("step_ended", step)
    given = {"time": "40s", "seed": 3} | SMALL
    ask = (str(pictures), ["mnist_fcn"], [], given, tmp_path / "run", events)
    with pytest.raises(UsageError, match="40s was not enough for one trial; the same command goes on"):
        start(*ask, clock=lambda: now[0], trials=1)
    slow[0], now[0] = 0.1, 0.0
    found = start(*ask, clock=lambda: now[0], trials=1)
    assert [(row.state, row.epochs, row.note) for row in found.rows] == [("finished", 2, "")]
    assert json.loads((tmp_path / "run/trial-0000/run.json").read_text())["sittings"][-1]["from_batch"] == 2
    for name in (WEIGHTS, "predictions.csv"):
        assert sha256_of(tmp_path / "run/trial-0000" / name) == sha256_of(whole.folder / "trial-0000" / name)


def test_trials_are_as_long_as_the_time_allows(
    neocog: Command, pictures: Path, tmp_path: Path, measured: Measured
) -> None:
    now, events = [0.0], Events()
    events.on("run_started", lambda **_: now.__setitem__(0, 29.0))  # one trial is enough to see
    given = {"time": "33s"} | SMALL | {"epochs": None}
    found = start(str(pictures), ["mnist_fcn"], [], given, tmp_path / "run", events, clock=lambda: now[0], trials=6)
    # 33 s less 3 for the page and a tenth are 27: 4.5 for each of six, of which 1 is no training; 7 epochs of 0.5 s
    assert {row.planned for row in found.rows} == {7}
    ask = ("compare", pictures, "--models", "mnist_fcn", "--search", "--batch-size", 16, "--epochs", 200)
    one_line_error(neocog(*ask, "--time", "60s", "--out", "new"), 2, "60s is not enough for one trial: about 1")
    assert not Path("new").exists()


# Several processes


@pytest.fixture(scope="module")
def killer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killer]:
    made = Killer(tmp_path_factory.mktemp("cache"), CHECKPOINT_SECONDS=0.02)
    yield made
    made.close()


def test_killed_the_same_command_ends_the_same(killer: Killer, pictures: Path, tmp_path: Path, whole: Search) -> None:
    """Once while the second trial learns; NEOCOG_KILLS times more at random moments."""

    def command(run: Path) -> tuple[object, ...]:
        return ("compare", pictures, "--models", "mnist_fcn", "--search", "--trials", 3, *FLAGS, "--seed", 3,
                "--out", run, "--resume", "auto")  # fmt: skip

    expected, luck = outcome(whole.folder), random.Random(0)
    for number in range(1 + int(os.environ.get("NEOCOG_KILLS", "0"))):
        run = tmp_path / str(number)
        moment: dict[str, Any] = {"after": 6 * luck.random()}
        if not number:
            moment = {"when": run / "trial-0001" / "checkpoint.json"}
        killed = killer.run(*command(run), kill=9, **moment)
        assert number or killed.code == -9
        again = killer.run(*command(run))
        assert again.code == 0, again.err
        assert outcome(run) == expected
        assert not list(run.rglob("*.tmp"))
        if not number:
            notes = [row["note"] for row in json.loads((run / "search.json").read_text())["rows"]]
            assert notes == ["", "begun 2 times: its process ended before it did", ""]


def test_two_processes_share_a_study(pictures: Path, tmp_path: Path) -> None:
    words = ["compare", pictures, "--models", "mnist_fcn", "--search", "--trials", 4, *FLAGS, "--epochs", 1, "--study",
             tmp_path / "shared.db"]  # fmt: skip
    command = [sys.executable, "-W", "error", "-m", "neocog", *map(str, words)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [one.communicate(timeout=200) for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    assert [err for _, err in said] == ["", ""]
    shared = SharedStudy(tmp_path / "shared.db")
    trials, rows = shared.trials(), rows_of(shared)
    shared.close()
    assert sorted(latest(trials)) == list(range(4)) == [trial.number for trial in trials]
    assert {row.state for row in rows} <= {"finished", "pruned"}
    assert len({json.dumps(row.settings) for row in rows}) == 4
    workers = [trial.user_attrs["worker"]["pid"] for trial in trials]
    assert set(workers) <= {one.pid for one in both}
    assert [out.count("epochs a trial") for out, _ in said] == [1, 1]
    found = Search.open(tmp_path / "shared")
    assert found.best is not None
    assert len(found.rows) == 4


# The faces


def test_without_optuna_it_says_what_to_install(
    neocog: Command, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    refused = neocog("compare", pictures, "--models", "mnist_fcn", "--search", "--out", "run")
    one_line_error(refused, 2, "neocog compare --search needs Optuna", 'pip install "neocog[search]"')
    assert not Path("run").exists()


def test_the_doctor_names_the_extra(neocog: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    declared = ["torch>=2", "optuna>=5; extra == 'search'"]
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: declared)
    assert "search: complete" in neocog("doctor").out
    known = doctor.version
    monkeypatch.setattr(doctor, "version", lambda name: None if name == "optuna" else known(name))
    assert f"search: optuna missing: {remedy('search')}" in neocog("doctor").out


def test_on_the_command_line(neocog: Command, pictures: Path) -> None:
    ask = (
        "compare",
        pictures,
        "--models",
        "mnist_fcn",
        "--search",
        "--trials",
        2,
        *FLAGS,
        "--epochs",
        1,
        "--out",
        "run",
    )
    made = neocog(*ask)
    assert made.code == 0, made.err
    for words in ("trial-0000", "trial-0001", "best", "looked at for this trial only", "run/search.html",
                  "neocog train --config run/best.toml"):  # fmt: skip
        assert words in made.out
    found = json.loads(neocog(*ask, "--json").out)
    assert found["best"] in ("trial-0000", "trial-0001")
    assert [row["trial"] for row in found["rows"]] == ["trial-0000", "trial-0001"]
    one_line_error(neocog(*ask, "--resume", "never"), 2, "holds a search already")
    one_line_error(neocog("compare", pictures, "--models", "mnist_fcn", "--trials", 2), 2, "go with --search")
    one_line_error(neocog("compare", "absent", *ask[2:-1], "new"), 3, "absent")
    one_line_error(neocog(*ask[:-1], "new", "--val-fraction", "0"), 2, "no picture is kept for validation")
    one_line_error(neocog(*ask[:-2], "--study", "nosuffix"), 2, "nosuffix has no suffix")
    assert not Path("new").exists()
    Path("run/search.json").write_text("{")
    with pytest.raises(ModelFileError, match="damaged"):
        Search.open("run")
    assert neocog(*ask).code == 0  # the study has it all
    assert Search.open("run").best is not None


# The page


def page(text: str = "") -> SearchPage:
    rows = tuple(
        TrialRow(
            number, text or f"trial-{number:04}", text or "a", state, val, 0.5, 3, 3, 12.5, text or "lr 0.001", text
        )
        for number, (state, val) in enumerate([("finished", 0.8), ("pruned", 0.5), ("finished", 0.9), ("failed", None)])
    )
    axes = (AxisRow(text or "lr", text or "0.001", text or "0.002", text or "0.1 to 1", 0.7, text or "Bengio"),
            AxisRow(text or "mixup", text or "0", text or "0.1", text or "0 to 1", None, text or "Zhang"))  # fmt: skip
    return SearchPage(
        text or "flowers", text or "now", text or "how", text or "chosen", text or "trial-0002", text or "a", 0.9, 0.8,
        False, axes, rows, 0.85, (0.8, 0.9), 100, 0.2, True, 10, (text or "a note",),
        ((text or "machine", text or "c"),),
        (Setting(text or "seed", text or "0", True),), text or "neocog compare", text or "neocog train",
    )  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_stay_text(text: str) -> None:
    assert_inert(render_search(page(text)), render_search(page("plain")), text)


@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("text", ["", "x" * 200])
def test_the_page_in_a_browser(browser: Any, tmp_path: Path, width: int, text: str) -> None:
    path = tmp_path / "search.html"
    path.write_text(render_search(page(text)), "utf-8")
    view = browser.new_page(viewport={"width": width, "height": 800})
    complaints: list[str] = []
    view.on("console", lambda message: complaints.append(message.text))
    view.goto(path.as_uri())
    inner = view.evaluate("document.documentElement.scrollWidth")
    points = view.evaluate("document.querySelectorAll('#progress circle.point').length")
    view.close()
    assert (inner, points, complaints) == (width, 2, [])


def test_the_page_says_what_it_does_not_know() -> None:
    plain = replace(page(), test=None, interval=None, is_usual=True,
                    axes=tuple(replace(axis, importance=None) for axis in page().axes))  # fmt: skip
    html = render_search(plain)
    for words in ("There are no test pictures at hand", "No trial did better than the defaults",
                  "asks for 10 whole trials"):  # fmt: skip
        assert words in html
    assert "could not be trained to their end" in render_search(replace(page(), usual=None))


def test_the_line_is_the_best_so_far() -> None:
    luck = random.Random(0)
    points = [(number, luck.random(), luck.random() < 0.7) for number in range(40)]
    stair = so_far(points)
    for number, _, _ in points:
        before = [score for trial, score, whole in points if whole and trial <= number]
        at = [score for trial, score in stair if trial <= number]
        assert (at[-1:] or None) == ([max(before)] if before else None)
    assert so_far([(0, 0.5, False)]) == []
    assert progress([(0, 0.5, False)]) == ""
    assert asdict(page())["several"]
