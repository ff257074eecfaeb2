"""A comparison: halved as by hand, resumed as if never stopped, its winner an ordinary run, and in time."""

import csv
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neocog
from command import Command, one_line_error
from drawn import colours
from killer import Killer
from neocog.app import compare_rungs
from neocog.app.compare import Comparison, candidates, start
from neocog.app.compare_folder import Row
from neocog.app.compare_plan import Measured, dearest, halving, least, make_plan, ranked, stretch
from neocog.app.compare_table import ordered, paired
from neocog.app.train import resume
from neocog.core.errors import DivergedError, Interrupted, UsageError
from neocog.core.events import Events
from neocog.core.files import sha256_of
from neocog.evaluate import Predictions
from neocog.metrics.paired import mcnemar
from neocog.report.compare import ComparePage, CompareRow, RungRow, render_compare, short
from neocog.report.model import Setting
from neocog.training.budget import Pace
from pages import HOSTILE, Seen, assert_closed, assert_inert

SMALL: dict[str, Any] = {"batch_size": 16, "image_size": 28, "lr": 0.003, "device": "cpu", "augment": "none"}
CLOCKS = {"training_seconds", "latency_ms"}


def paced(batch: float = 0.1, **more: Any) -> Measured:
    facts = {"setup": 1.0, "pace": Pace(batch, batch), "validation": 0.5, "ending": 2.0, "batches": 10}
    return Measured(**facts | more)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colours(tmp_path_factory.mktemp("compare") / "pictures", 12, noise=200, tint=20)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Every candidate takes so long as is said, whatever this machine does."""

    def say(one: Measured) -> None:
        facts = {"params": 1, "macs": 1, "memory": 1, "settings": {}}
        monkeypatch.setattr(compare_rungs, "measure", lambda *_: (one, dict(facts)))

    return say


# The plan


def test_halving_as_by_hand() -> None:
    assert [halving(n) for n in (1, 2, 3, 4, 5, 8, 9)] == [[1], [2], [3, 2], [4, 2], [5, 3, 2], [8, 4, 2], [9, 5, 3, 2]]
    assert ranked([(0.5, 1.0), (0.7, 2.0), (0.7, 1.5), (0.5, 1.0)]) == [2, 1, 0, 3]


def test_the_plan_of_four_equal_candidates_is_that_of_a_hand_computation() -> None:
    found = make_plan([paced()] * 4, 120.0)
    assert found is not None
    # 120 s less a tenth are 108; (4 + 2) sittings take 3 s each besides the training, which leaves 90: 45 for a rung
    assert found.sizes == [4, 2]
    assert found.seconds == pytest.approx([45 / 4, 45 / 2])
    # an epoch takes 10 x 0.1 + 0.5 s: 11.25 s are 7 of them, 33.75 s are 22
    assert found.targets == [[7, 22]] * 4


def test_a_plan_never_takes_longer_than_there_is() -> None:
    for left in (30.0, 60.0, 300.0):
        several = [paced(0.1), paced(0.9), paced(0.3), paced(0.02, setup=4.0), paced(0.2)]
        found = make_plan(several, left)
        enough = least(several)
        assert (found is None) == (left < enough)
        if found is not None:
            assert dearest(several, found.targets, found.sizes) <= 0.9 * left + 1e-9
            assert all(one == sorted(one) and one[0] >= 1 for one in found.targets)
    assert make_plan(several, enough * 1.001) is not None
    assert make_plan(several, enough * 0.999) is None


def test_the_time_of_a_head_on_embeddings_goes_back_to_the_others() -> None:
    quick = paced(0.1, embedding=5.0, epochs_at_once=100)
    with_quick, alone = make_plan([quick, *[paced()] * 3], 200.0), make_plan([paced()] * 4, 200.0)
    assert with_quick is not None
    assert alone is not None
    assert (with_quick.sizes, with_quick.targets[0]) == ([4, 2], [100, 100])
    assert with_quick.targets[1][-1] > alone.targets[1][-1]
    assert stretch(quick, 0, 100) == 1.0 + 5.0 + 2.0
    assert stretch(quick, 100, 100) == 0.0
    assert make_plan([quick], 8.0) is None


def test_rungs_that_cost_more_than_they_save_are_not_made() -> None:
    several = [paced(0.1, setup=3.0)] * 5
    short, long = make_plan(several, 60.0), make_plan(several, 600.0)
    assert short is not None
    assert long is not None
    # 54 s less five sittings of 5 s are 29, 5.8 for each; of ten sittings nearly nothing would remain
    assert (short.sizes, short.targets) == ([5], [[3]] * 5)
    assert long.sizes == [5, 3, 2]


def test_epochs_that_are_given_are_the_most() -> None:
    found = make_plan([paced()] * 2, 1000.0, most=7)
    assert found is not None
    assert found.targets == [[7], [7]]
    head = paced(0.1, pace=Pace(0.01, 0.1, head_batches=20))
    assert head.epochs(2 * (0.1 + 0.5) + 3 * 1.5 + 0.01) == 5  # two quick epochs, then three
    assert head.seconds(1, 4) == pytest.approx(0.6 + 2 * 1.5)


# Candidates


def test_candidates_are_pairs_and_mistakes_are_refused_at_once(pictures: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    for name in ("mnist_fcn.safetensors", "lenet5.pth", "resnet18-f37072fd.pth"):
        (weights / name).touch()
    given = {"weights": str(weights), "views": 3, "unfreeze": 1}
    config, rows = candidates("x", ["mnist_fcn", "LeNet5:partial", "resnet18:scratch", "resnet18:probe"],
                              ["auto", "features"], given)  # fmt: skip
    assert [row.name for row in rows] == [
        "mnist_fcn-auto", "mnist_fcn-features", "lenet5-partial", "resnet18-scratch", "resnet18-probe",
    ]  # fmt: skip
    files = [row.weights and Path(row.weights).name for row in rows]
    assert files == ["mnist_fcn.safetensors"] * 2 + ["lenet5.pth", None, "resnet18-f37072fd.pth"]
    settings = [row.config(config) for row in rows]
    assert [(one.views, one.unfreeze) for one in settings] == [(None, None), (3, None), (None, 1)] + [(None, None)] * 2

    def refused(match: str, *models: str, regimes: tuple[str, ...] = (), **more: Any) -> None:
        with pytest.raises(UsageError, match=match):
            candidates("x", models, regimes, more)

    refused("did you mean resnet18", "resnet81")
    refused("no regime called 'fll'", "resnet18:fll")
    refused("lenet5 scratch is named twice", "lenet5", "lenet5:scratch")
    refused("regime full needs weights", "lenet5", regimes=("full",))
    refused("has no weights of alexnet; put them there as alexnet.safetensors", "alexnet", weights=str(weights))
    refused("holds the weights of one network", "lenet5", "resnet18", weights=str(weights / "lenet5.pth"))
    refused("has no weights called 'imagenet'", "lenet5", weights="imagenet")
    refused("one split", "lenet5", folds=3)
    refused("nothing to compare")
    with pytest.raises(UsageError, match="validation"):
        neocog.compare(pictures, ["mnist_fcn"], out=tmp_path / "run", val_fraction=0.0, **SMALL)
    assert not (tmp_path / "run").exists()


# Runs


PACE = paced(0.1, setup=0.5, ending=0.5, batches=2, validation=0.3)  # an epoch is half a second
TIME = "19s"  # less AFTERWARDS for each of three


@pytest.fixture
def quick(measured: Callable[..., None]) -> dict[str, Any]:
    """Three candidates whose plan is two epochs in the first rung and more for the two best."""
    measured(PACE)
    return {"models": ["mnist_dense", "mnist_fcn", "lenet5"]}


def compared(pictures: Path, out: Path, asked: dict[str, Any], events: Events | None = None, **more: Any) -> Comparison:
    """On a clock that stands still."""
    given, models = {"time": TIME} | SMALL, asked["models"]
    return start(str(pictures), models, ["scratch"], given, out, events or Events(), clock=lambda: 100.0, **more)


def outcome(folder: Path) -> dict[str, Any]:
    """All but times."""
    rows = list(csv.DictReader((folder / "compare.csv").read_text().splitlines()))
    state = json.loads((folder / "compare.json").read_text())
    rungs = [[{k: v for k, v in one.items() if k != "seconds"} for one in row["rungs"]] for row in state["rows"]]
    return {
        "rows": [{name: value for name, value in row.items() if name not in CLOCKS} for row in rows],
        "rungs": rungs, "paired": state["paired"], "notes": state["notes"],
        "weights": [sha256_of(path) for path in sorted(folder.glob("*/model/model.safetensors"))],
    }  # fmt: skip


def test_the_better_half_stays_and_the_winner_is_an_ordinary_run(
    pictures: Path, tmp_path: Path, quick: dict[str, Any]
) -> None:
    events, said = Events(), []
    events.on("note", lambda label, text: said.append((label, text)))
    found = compared(pictures, tmp_path / "run", quick, events)
    state = found.state
    plan = make_plan([PACE] * 3, 19 - 3 * compare_rungs.AFTERWARDS)
    assert plan is not None
    first, last = plan.targets[0]
    assert 1 <= first < last
    assert [row.targets for row in state.rows] == [[first, last]] * 3
    after = {row.name: row.rungs[0] for row in state.rows}
    assert all(one["epochs"] == first for one in after.values())
    order = sorted(after, key=lambda name: (-after[name]["val_accuracy"], after[name]["val_loss"]))
    assert {row.name for row in state.rows if row.state == "dropped"} == {order[2]}
    assert {row.name for row in state.rows if row.state == "finished"} == set(order[:2])
    dropped = found.rows[2]
    assert (dropped.name, dropped.dropped, dropped.epochs, len(dropped.rungs)) == (order[2], 0, first, 1)
    assert dropped.test is not None
    best = found.rows[0]
    assert best.val is not None
    assert best.val >= (found.rows[1].val or 0)
    labels = [label for label, _ in said]
    assert labels.count("candidate") == 3
    assert labels.count("rung 1") == 4  # the fourth says who was dropped
    assert labels.count("rung 2") == 2
    line = next(text for label, text in said if label == "rung 2")
    assert f"{last}.0 of {last} epochs" in line

    # each run says how it stopped, and can be used and continued
    ended = {row.name: json.loads((found.folder / row.name / "run.json").read_text()) for row in state.rows}
    assert ended[dropped.name]["sittings"][-1]["ended"].startswith(f"paused after {first} epochs")
    assert [one["ended"].split()[0] for one in ended[best.name]["sittings"]] == ["paused", "finished"]
    assert ended[best.name]["exact"]
    alone = tmp_path / "alone"
    assert best.settings == {"epochs": last}
    neocog.train(pictures, best.model, regime="scratch", out=alone, epochs=last, **SMALL)
    for name in ("model/model.safetensors", "predictions.csv"):
        assert sha256_of(alone / name) == sha256_of(found.folder / best.name / name), name
    longer = resume(found.folder / dropped.name)
    assert len((longer.folder / "metrics.jsonl").read_text().splitlines()) == last

    # the paired test is that of the two files
    one, two = (found.run(row.name).predictions("test") for row in found.rows[:2])
    judge = mcnemar(one.predicted == one.labels, two.predicted == two.labels)
    assert state.paired is not None
    assert (state.paired["p_value"], state.paired["a_only"]) == (judge.p_value, judge.a_only)
    assert found.verdict.startswith(f"{best.name} and {found.rows[1].name}: ")
    assert found.best.folder == found.folder / best.name
    page = found.report.read_text()
    for words in (best.name, "validation accuracy", "dropped after rung 1", "95%"):
        assert words in page
    assert_closed(page, Seen(page).tags)
    before = (found.folder / "compare.json").stat().st_mtime_ns
    assert compared(pictures, tmp_path / "run", quick).state == state  # nothing is done twice
    assert (found.folder / "compare.json").stat().st_mtime_ns == before


def test_one_that_fails_is_a_row_and_the_rest_goes_on(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = compare_rungs.train_until

    def train(config: Any, folder: Path, *rest: Any, **more: Any) -> Any:
        if config.model == "mnist_dense":
            raise DivergedError("the loss became nan", "a smaller --lr")
        if config.model == "lenet5":
            raise MemoryError
        return real(config, folder, *rest, **more)

    monkeypatch.setattr(compare_rungs, "train_until", train)
    found = neocog.compare(pictures, ["mnist_dense", "mnist_fcn", "lenet5"], out=tmp_path / "run", epochs=1, **SMALL)
    states = {row.model: row.state for row in found.rows}
    assert states == {"mnist_fcn": "finished", "mnist_dense": "failed", "lenet5": "failed"}
    assert [row.error for row in found.rows[1:]] == [
        "the loss became nan; a smaller --lr", "the memory does not suffice; use a smaller --batch-size",
    ]  # fmt: skip
    assert found.verdict == "there are no two candidates with test pictures to compare"
    assert "the loss became nan" in found.report.read_text()
    with pytest.raises(UsageError, match="no candidate could be trained; mnist_dense-scratch: the loss became nan"):
        neocog.compare(pictures, ["mnist_dense"], out=tmp_path / "none", epochs=1, **SMALL)


def test_stopped_it_goes_on_where_it_was(pictures: Path, tmp_path: Path, quick: dict[str, Any]) -> None:
    whole = outcome(compared(pictures, tmp_path / "whole", quick).folder)
    events, trainers = Events(), []
    events.on("training", lambda trainer: trainers.append(trainer))
    events.on("step_ended", lambda epoch, **_: trainers[-1].stop(2) if len(trainers) == 2 and epoch == 1 else None)
    run = tmp_path / "run"
    with pytest.raises(Interrupted, match=rf"mnist_fcn-scratch: .*the same command with --out {run} goes on") as caught:
        compared(pictures, run, quick, events)
    assert caught.value.exit_code == 130
    first = run / "mnist_dense-scratch" / "run.json"
    before = first.stat().st_mtime_ns
    with pytest.raises(UsageError, match="is not finished"):
        Comparison.open(run)
    with pytest.raises(UsageError, match="holds a comparison already"):
        compared(pictures, run, quick, resume="never")
    with pytest.raises(UsageError, match="begun with other settings: seed was 0 and is 1"):
        start(str(pictures), quick["models"], ["scratch"], {"time": TIME, "seed": 1} | SMALL, run, Events())
    again = Events()
    sittings: list[str] = []
    again.on("training", lambda trainer: sittings.append(trainer.folder.name))
    compared(pictures, run, quick, again)
    assert sittings[:2] == ["mnist_fcn-scratch", "lenet5-scratch"]
    assert before <= first.stat().st_mtime_ns
    assert outcome(run) == whole
    assert not (run / "lock").exists()


def test_stopped_after_the_last_epoch_of_a_rung_it_learns_no_more_there(
    pictures: Path, tmp_path: Path, quick: dict[str, Any]
) -> None:
    whole = outcome(compared(pictures, tmp_path / "whole", quick).folder)
    events = Events()

    def leave(progress: Any) -> None:
        raise KeyboardInterrupt

    events.on("run_ended", leave)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            compared(pictures, tmp_path / "run", quick, events)
    assert outcome(compared(pictures, tmp_path / "run", quick).folder) == whole


def test_a_budget_that_is_too_short_says_what_would_do(
    neocog: Command, pictures: Path, measured: Callable[..., None]
) -> None:
    measured(paced(1.0))
    ask = ("compare", pictures, "--models", "mnist_fcn,lenet5,mnist_dense", "--batch-size", 16)
    refused = neocog(*ask, "--time", "20s", "--out", "run")
    # three of 1 s + 10.5 s + 2 s, with a tenth for the unforeseen, and their rows of the table; some second is gone
    one_line_error(refused, 2, "20s is not enough for 3 candidates: at least ")
    enough = int(refused.err.split("at least ")[1].split()[0])
    assert 45 + 4.5 <= enough < 45 + 4.5 + 20
    assert not Path("run").exists()


def test_with_less_time_fewer_stay(pictures: Path, tmp_path: Path, measured: Callable[..., None]) -> None:
    measured(PACE)
    now, events = [0.0], Events()

    def step(**_: Any) -> None:
        now[0] += 0.7  # instead of 0.1

    events.on("step_ended", step)
    models = ["mnist_dense", "mnist_fcn", "mnist_convnet", "squeezenet1_1", "lenet5"]
    given = {"time": "60s"} | SMALL
    found = start(str(pictures), models, ["scratch"], given, tmp_path / "run", events, clock=lambda: now[0])
    assert now[0] <= 60
    assert found.state.sizes == [5, 3, 2]
    assert "after rung 1 only 2 of 3 went on: this machine was slower than measured" in found.state.notes
    assert sorted(row.dropped is not None for row in found.rows) == [False, False, True, True, True]


@pytest.mark.parametrize(("batch", "seconds"), [(16, 1.0), (1, 3.0)])
def test_slower_than_measured_it_still_ends_in_time(
    pictures: Path, tmp_path: Path, measured: Callable[..., None], batch: int, seconds: float
) -> None:
    """Every step takes ten times as long as was measured, on a clock that nothing else moves; then even the first epoch
    would take longer than there is."""
    measured(PACE)
    now, events = [0.0], Events()

    def step(**_: Any) -> None:
        now[0] += seconds

    events.on("step_ended", step)
    given = {"time": "60s"} | SMALL | {"batch_size": batch}
    models = ["mnist_dense", "mnist_fcn", "lenet5", "mnist_convnet"]
    found = start(str(pictures), models, ["scratch"], given, tmp_path / "run", events, clock=lambda: now[0])
    assert now[0] <= 60
    assert found.state.complete
    assert any("slower than measured" in note for note in found.state.notes)
    assert {row.state for row in found.rows[:2]} == {"shortened"}
    assert all(row.test is not None for row in found.rows)
    assert "stopped for lack of time" in found.report.read_text()
    assert [row.epochs < 1 for row in found.rows] == [batch == 1] * 4


def test_time_that_is_left_goes_to_who_was_paused(
    pictures: Path, tmp_path: Path, measured: Callable[..., None]
) -> None:
    """The first of two is slow at first and is paused for it; the other leaves time, in which it learns to its end."""
    measured(PACE)
    now, events, steps = [0.0], Events(), iter([4.0] * 2)

    def step(**_: Any) -> None:
        now[0] += next(steps, 0.02)

    events.on("step_ended", step)
    models, given = ["mnist_dense", "lenet5"], {"time": "19s"} | SMALL
    found = start(str(pictures), models, ["scratch"], given, tmp_path / "run", events, clock=lambda: now[0])
    assert now[0] <= 19
    paused = next(row for row in found.state.rows if row.model == "mnist_dense")
    ends = json.loads((found.folder / paused.name / "run.json").read_text())["sittings"]
    assert [one["ended"].split()[0] for one in ends] == ["paused", "finished"]
    assert [row.state for row in found.rows] == ["finished"] * 2
    assert paused.epochs == paused.planned
    assert (paused.note, found.state.notes) == ("", [])
    assert len(paused.rungs) == len(found.state.sizes)
    assert paused.rungs[-1]["seconds"] > 8


@pytest.fixture(scope="module")
def killer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killer]:
    made = Killer(tmp_path_factory.mktemp("cache"), CHECKPOINT_SECONDS=0.02)
    yield made
    made.close()


def test_killed_the_same_command_gives_the_same_table(killer: Killer, pictures: Path, tmp_path: Path) -> None:
    """Once while the second candidate learns; NEOCOG_KILLS times more at random moments."""

    def command(run: Path) -> tuple[object, ...]:
        return ("compare", pictures, "--models", "mnist_dense,mnist_fcn", "--epochs", 2, "--batch-size", 8, "--device",
                "cpu", "--out", run, "--resume", "auto")  # fmt: skip

    end = killer.run(*command(tmp_path / "whole"))
    assert end.code == 0, end.err
    expected, luck = outcome(tmp_path / "whole"), random.Random(0)
    for number in range(1 + int(os.environ.get("NEOCOG_KILLS", "0"))):
        run = tmp_path / str(number)
        moment = {"when": run / "mnist_fcn-scratch" / "checkpoint.json"}
        killed = killer.run(*command(run), kill=9, **moment if not number else {"after": end.seconds * luck.random()})
        assert number or killed.code == -9
        second = killer.run(*command(run))
        assert second.code == 0, second.err
        assert outcome(run) == expected
        assert not list(run.rglob("*.tmp"))


def test_on_the_command_line(neocog: Command, pictures: Path) -> None:
    ask = ("compare", pictures, "--models", "mnist_fcn, lenet5", "--epochs", 1, "--batch-size", 16, "--out", "run")
    made = neocog(*ask)
    assert made.code == 0, made.err
    assert made.out.count("rung 1 ") == 2
    for words in ("1 of 1 epochs", "best two", "run/compare.html", "neocog predict run/"):
        assert words in made.out
    found = json.loads(neocog(*ask, "--json").out)
    assert found["best"] == found["rows"][0]["candidate"]
    rows = list(csv.DictReader(Path("run/compare.csv").read_text().splitlines()))
    assert [row["candidate"] for row in rows] == [row["candidate"] for row in found["rows"]]
    assert [float(row["test_accuracy"]) for row in rows] == pytest.approx([r["test_accuracy"] for r in found["rows"]],
                                                                         abs=1e-6)  # fmt: skip
    assert all(row["latency_ms"] > 0 and row["training_step_bytes"] > 0 for row in found["rows"])
    one_line_error(neocog(*ask[:-1], "other", "--resume", "never", "--model", "x"), 2, "--model")
    one_line_error(neocog(*ask, "--resume", "never"), 2, "holds a comparison already")
    one_line_error(neocog(*ask, "--resume", "perhaps"), 2, "never, exact or auto")
    one_line_error(neocog("compare", "absent", *ask[2:-1], "new"), 3, "absent")
    one_line_error(neocog(*ask[:-1], pictures), 2, "not overwritten")
    assert not Path("new").exists()
    Path("run/compare.json").write_text("{")
    one_line_error(neocog(*ask), 4, "compare.json is damaged")


def test_heads_on_embeddings_end_at_once(pictures: Path, tmp_path: Path) -> None:
    run = neocog.train(pictures, "mnist_fcn", out=tmp_path / "source", epochs=1, **SMALL)
    weights = tmp_path / "weights"
    weights.mkdir()
    shutil.copy(run.folder / "model" / "model.safetensors", weights / "mnist_fcn.safetensors")
    found = neocog.compare(pictures, ["mnist_fcn"], regimes=["features", "full", "scratch"], weights=str(weights),
                           time="2m", epochs=2, views=2, out=tmp_path / "run", **SMALL)  # fmt: skip
    assert [row.state for row in found.rows] == ["finished"] * 3
    row = next(row for row in found.rows if row.regime == "features")
    assert row.settings == {"views": 2, "epochs": 2}
    assert row.memory is None
    last = json.loads((found.folder / row.name / "metrics.jsonl").read_text().splitlines()[-1])
    assert row.seconds > last["seconds"]  # embedding is a part of it
    assert found.run(row.name).config.views == 2
    fitted = neocog.compare(pictures, ["mnist_fcn"], regimes=["features"], head="knn", weights=str(weights),
                            time="1m", out=tmp_path / "knn", **SMALL)  # fmt: skip
    assert [(row.state, row.epochs, row.planned) for row in fitted.rows] == [("finished", 1, 1)]
    assert "fitted at once" in fitted.report.read_text()
    for number, time in enumerate(("1m", None)):
        chosen = neocog.compare(pictures, ["mnist_fcn"], weights=str(weights), time=time, epochs=9, find_lr=True,
                                out=tmp_path / f"auto{number}", **SMALL | {"lr": None})  # fmt: skip
        assert [(row.name, row.way) for row in chosen.rows] == [("mnist_fcn-auto", "full (auto)")]  # there is time
        assert chosen.best.config.regime == "full"
        assert chosen.best.config.lr is not None


# The table


def test_the_order_is_that_of_the_validation_pictures() -> None:
    def row(name: str, state: str, val: float | None, **more: Any) -> Row:
        return Row(name, name, "scratch", None, state=state, val=val, **more)

    rows = [
        row("failed", "failed", None), row("early", "dropped", 0.99, dropped=0), row("late", "dropped", 0.5, dropped=1),
        row("second", "finished", 0.8, val_loss=0.5, test=1.0), row("third", "shortened", 0.7, test=1.0),
        row("first", "finished", 0.8, val_loss=0.4, test=0.1),
    ]  # fmt: skip
    assert [row.name for row in ordered(rows)] == ["first", "second", "third", "late", "early", "failed"]


def test_the_paired_test_knows_who_is_who(tmp_path: Path) -> None:
    files, labels = [str(i) for i in range(12)], np.zeros(12, np.int64)
    for name, wrong in (("good", 1), ("bad", 9)):
        (tmp_path / name).mkdir()
        p = np.array([[0.2, 0.8]] * wrong + [[0.9, 0.1]] * (12 - wrong), np.float32)
        Predictions(files, ["test"] * 12, ["a", "b"], labels, p).write(tmp_path / name / "predictions.csv")
    rows = [Row(name, name, "scratch", None, state="finished", test=0.5) for name in ("good", "bad")]
    found = paired(tmp_path, rows)
    assert found is not None
    assert (found["a"], found["a_only"], found["b"], found["b_only"]) == ("good", 8, "bad", 0)
    assert found["verdict"].startswith("good is better than bad")
    assert paired(tmp_path, rows[:1]) is None


# The page


def page(text: str = "") -> ComparePage:
    name = text or "resnet18-full"
    rows = (
        CompareRow(name, text or "resnet18", text or "full", "finished", "9 of 9 epochs", 0.9, 0.88, (0.82, 0.93),
                   11_000_000, 1_800_000_000, 120.0, 12.0, 2**30),
        CompareRow("squeezenet1_0-probe", "squeezenet1_0", "probe", "dropped", "3.2 of 9 epochs, dropped after rung 1",
                   0.7, 0.71, (0.6, 0.8), 700_000, 700_000_000, 30.0, 4.0, None, text),
        CompareRow("vgg16-full", "vgg16", "full", "failed", "failed", note=text or "the memory does not suffice"),
    )  # fmt: skip
    return ComparePage(
        text or "flowers", text or "now", text or "how", text or "chosen", text or "no difference", rows, 0.2, 100,
        (RungRow(1, name, 3.2, 0.8, 0.5, 31.0, text or "stays"),), (text or "a note",),
        ((text or "machine", text or "cpu"),), (Setting(text or "lr", text or "0.1", True),), text or "neocog compare",
    )  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_stay_text(text: str) -> None:
    assert_inert(render_compare(page(text)), render_compare(page("plain")), text)


@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("text", ["", "x" * 200])
def test_the_page_in_a_browser(browser: Any, tmp_path: Path, width: int, text: str) -> None:
    path = tmp_path / "compare.html"
    path.write_text(render_compare(page(text)), "utf-8")
    view = browser.new_page(viewport={"width": width, "height": 800})
    complaints: list[str] = []
    view.on("console", lambda message: complaints.append(message.text))
    view.goto(path.as_uri())
    inner = view.evaluate("document.documentElement.scrollWidth")
    figures = view.evaluate("document.querySelectorAll('#price svg').length")
    tallest = view.evaluate("Math.max(...[...document.querySelectorAll('#rungs tr')].map(r => r.clientHeight))")
    view.close()
    assert inner == width
    assert figures == 2
    assert text or tallest < 80
    assert complaints == []


def test_a_page_without_test_pictures_says_so() -> None:
    rows = tuple(replace(row, test=None, interval=None) for row in page().rows)
    html = render_compare(replace(page(), rows=rows))
    assert "There are no test pictures" in html
    assert "#price" not in html
    assert [short(n) for n in (5, 1500, 1_819_066_368)] == ["5", "1.5 k", "1.82 G"]
    assert {field.name for field in fields(CompareRow)} >= {"val", "test", "latency", "memory"}
