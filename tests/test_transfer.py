"""Transfer from the command line: every regime and head, from a small network that was trained on other colours."""

import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import neocog as package
from command import Command, one_line_error
from drawn import colours, steps
from neocog.app import choosing
from neocog.app.choosing import ALIKE, RULE, Evidence
from neocog.app.preparing import Preparation
from neocog.core.config import load_config
from neocog.core.events import Events
from neocog.core.folders import cache_folder
from neocog.core.head import HeadSpec
from neocog.export.bundle import read_card
from neocog.training.world import World

SMALL = ("--image-size", 16, "--batch-size", 8, "--device", "cpu", "--lr", 0.01)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`source`: a run on three colours; `data`: three other classes, `sets`: the same in sets of
    their own."""
    place = tmp_path_factory.mktemp("transfer")
    colours(place / "before", 20, noise=200, tint=30)
    package.train(
        place / "before", "resnet20", out=place / "source", epochs=3, image_size=16, batch_size=8, device="cpu"
    )
    colours(place / "data", 20, names=("x", "y", "z"), noise=200, tint=25, seed=7)
    for number, name in enumerate(("train", "val", "test")):
        colours(place / "sets" / name, 8, names=("x", "y", "z"), noise=200, tint=25, seed=number)
    return place


def states(run: Path) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    return package.Run.open(run.parent / "source").network().state_dict(), package.Run.open(run).network().state_dict()


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        (("--regime", "features"), {"head.fc"}),
        (("--regime", "features", "--views", 0, "--mixup", 0.4), {"head.fc"}),
        (("--regime", "probe"), {"head.fc"}),
        (("--regime", "partial", "--unfreeze", 1), {"head.fc", "stages.stage3"}),
        (("--regime", "gradual", "--head-epochs", 1), {"head.fc", "stages.stage3", "stages.stage2"}),
        (("--regime", "full", "--layer-decay", 0.5, "--head-epochs", 1), {"head.fc", "stem", "stages"}),
    ],
    ids=lambda value: "-".join(str(word) for word in value if str(word)[0] != "-") if isinstance(value, tuple) else "",
)
def test_a_regime_changes_what_it_says_and_nothing_else(
    neocog: Command, made: Path, tmp_path: Path, words: tuple[object, ...], changed: set[str]
) -> None:
    run = made / f"run-{abs(hash(words))}"
    result = neocog("train", made / "data", "--model", "resnet20", "--weights", made / "source", *SMALL, *words,
                    "--epochs", 3, "--out", run)  # fmt: skip
    assert result.code == 0, result.err
    before, after = states(run)
    moved = {name for name in after if not torch.equal(before[name], after[name])}
    assert moved
    assert all(any(name.startswith(part) for part in changed) for name in moved)
    assert all(any(name.startswith(part) for name in moved) for part in changed)
    assert "accuracy" in result.out
    checked = neocog("val", run, "--verify", "--json")
    assert checked.code == 0, checked.out
    report = (run / "report.html").read_text()
    assert f"regime {words[1]}" in report


@pytest.mark.parametrize("head", ["mlp", "svm", "knn", "prototype"])
@pytest.mark.parametrize("stage", [None, "stage2"])
def test_every_head_learns_is_kept_and_opens_again(
    neocog: Command, made: Path, tmp_path: Path, head: str, stage: str | None
) -> None:
    words = ("train", made / "data", "--model", "resnet20", "--weights", made / "source", *SMALL, "--head", head,
             *(("--stage", stage) if stage else ()), "--hidden", 5)  # fmt: skip
    result = neocog(*words, "--regime", "features", "--epochs", 20, "--views", 2, "--out", "run")
    assert result.code == 0, result.err
    card = read_card(Path("run/model"))
    if head == "svm" and stage is None:
        assert card.head is None  # the network's own layer holds it
    else:
        kind = "linear" if head == "svm" else head
        kept = 2 * sum(",train," in line for line in Path("run/split.csv").read_text().splitlines())
        assert card.head == HeadSpec(
            kind=kind, stage=stage, hidden=5 if head == "mlp" else None, pictures=kept if head == "knn" else None
        )  # fmt: skip
    run = package.Run.open("run")
    assert run.metrics("test")["top1"] > 0.5
    assert neocog("val", "run", "--verify", "--json").code == 0
    found = neocog("predict", "run", made / "data" / "x", "--json")
    answers = [json.loads(line)["answers"][0]["label"] for line in found.out.splitlines()]
    assert answers.count("x") > 10
    one_line_error(neocog("resume", "run"), 2, "finished")
    # And from there on: heads that are fitted at once give way to one that learns.
    more = neocog("train", made / "data", "--model", "resnet20", "--weights", "run", *SMALL, "--regime", "full",
                  "--epochs", 1, "--head-epochs", 0, "--out", "more")  # fmt: skip
    assert more.code == 0, more.err
    assert ("in the place of the run's" in more.out) == (head in ("knn", "prototype"))
    assert (read_card(Path("more/model")).head or HeadSpec()).stage == stage


def test_cached_views_are_what_a_probe_sees(made: Path, tmp_path: Path) -> None:
    """As many views as epochs: the same pictures in the same batches, so the same head but for 16-bit rounding."""
    same: dict[str, Any] = {
        "weights": str(made / "source"), "epochs": 4, "image_size": 16, "batch_size": 8, "lr": 0.01, "device": "cpu",
        "precision": "fp32",
    }  # fmt: skip
    probe = package.train(made / "data", "resnet20", regime="probe", out=tmp_path / "probe", **same)
    cached = package.train(made / "data", "resnet20", regime="features", views=4, out=tmp_path / "cached", **same)
    once = package.train(made / "data", "resnet20", regime="features", views=0, out=tmp_path / "once", **same)
    heads = [run.network().head.fc.weight for run in (probe, cached, once)]
    start = package.Run.open(made / "source").network().head.fc.weight
    moved = (heads[0] - start).abs().max()
    assert (heads[0] - heads[1]).abs().max() < 0.01 * moved
    assert (heads[0] - heads[2]).abs().max() > 0.05 * moved  # without augmentation it is another head
    rows = [
        [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
        for run in (probe, cached)
    ]
    for one, other in zip(*rows, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-3)
        assert one["val_loss"] == pytest.approx(other["val_loss"], rel=1e-3)


def test_the_cache_is_found_again_and_a_flipped_byte_is_made_good(
    neocog: Command, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = ("train", made / "sets", "--model", "resnet20", "--weights", made / "source", *SMALL, "--regime",
             "features", "--epochs", 3, "--views", 2)  # fmt: skip
    first = neocog(*words, "--out", "one")
    assert "embedded now" in first.out
    again = neocog(*words, "--out", "two")
    assert "all at hand" in again.out
    views = sorted((cache_folder() / "views").glob("*/view-*.npy"))
    assert len(views) == 3  # two of the training pictures, one of the validation's
    content = bytearray(views[0].read_bytes())
    content[-1] ^= 64
    views[0].write_bytes(content)
    third = neocog(*words, "--out", "three")
    assert f"the cached file {views[0].name} was damaged" in third.out
    weights = [(Path(run) / "model" / "model.safetensors").read_bytes() for run in ("one", "two", "three")]
    assert weights[0] == weights[1] == weights[2]
    neocog(*words[:-6], "--regime", "full", "--head-epochs", 0, "--epochs", 1, "--out", "other")
    # What the numbers depend on is in their key: none of these may find the others' cache.
    for more in (("--seed", 1), ("--flip",), ("--stage", "stage2"), ("--weights", "other"), ("--image-size", 24)):
        assert "embedded now" in neocog(*words, *more, "--out", f"a{more[0]}").out, more
    # And what changes no embedding finds it: run "one" has the backbone that it began with.
    for more in (("--weights", "one"), ("--lr", 0.02), ("--mixup", 0.2), ("--head", "mlp"), ("--batch-size", 16)):
        assert "all at hand" in neocog(*words, *more, "--out", f"b{more[0]}").out, more


def test_the_rates_of_all_parts_are_kept_and_drawn(made: Path, tmp_path: Path) -> None:
    run = package.train(
        made / "data", "resnet20", weights=str(made / "source"), regime="full", epochs=3, head_epochs=1, image_size=16,
        batch_size=8, lr=0.01, layer_decay=0.5, schedule="constant", warmup_epochs=0, device="cpu",
        out=tmp_path / "run",
    )  # fmt: skip
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["lr"] for row in rows] == [0.01] * 3
    assert rows[0]["rates"] == pytest.approx({"head": 0.01, "0": 0, "1": 0, "2": 0, "3": 0})
    for row in rows[1:]:
        assert row["rates"] == pytest.approx({"head": 1e-3, "0": 1e-3, "1": 5e-4, "2": 2.5e-4, "3": 1.25e-4})
    chart = run.report.read_text().partition("<figcaption>Learning rate</figcaption>")[2].partition("</figure>")[0]
    assert "first layers that learn" in chart


def test_a_class_count_that_disagrees_with_the_run(neocog: Command, made: Path, tmp_path: Path) -> None:
    """One class more than the run has: refused where the run goes on or is judged, a new classifier where it is only
    learned from; and a bundle that says so of itself."""
    data = tmp_path / "data"
    shutil.copytree(made / "data", data)
    run = tmp_path / "run"
    words = ("--model", "resnet20", "--epochs", 1, "--image-size", 16, "--batch-size", 8, "--out")
    assert neocog("train", data, *words, run).code == 0
    (data / "zebra").mkdir()
    for number in range(8):
        drawn = np.random.default_rng(number).integers(0, 255, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(drawn).save(data / "zebra" / f"{number}.png")
    for again in (("resume", run), ("train", data, *words, run, "--resume", "auto")):
        one_line_error(neocog(*again), 2, "4 classes, the run has 3 (new: zebra); 8 new (zebra/0.png")
    one_line_error(neocog("val", run, data), 3, "has classes that the run does not know: 'zebra'")
    learned = neocog("train", data, *words, "other", "--weights", run, "--regime", "full", "--head-epochs", 0)
    assert "new classifier for 4 classes (the weights had 3)" in learned.out
    card = run / "model" / "model.json"
    card.write_text(card.read_text().replace('"classes": [', '"classes": ["zebra", ', 1))
    for use in (("predict", run, made / "data"), ("train", data, *words, "more", "--weights", run, "--regime", "full")):
        one_line_error(neocog(*use), 4, "head.fc.weight (3, 64) for (4, 64)")


@pytest.mark.parametrize(
    ("seconds", "norms", "regime"),
    [(0.5, True, "full"), (5.0, True, "partial"), (50.0, True, "features"), (0.5, False, "partial")],
)
def test_auto_goes_by_the_passes_that_time_suffices_for(
    made: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, norms: bool, regime: str
) -> None:
    """Of a minute: a hundred passes of the whole network, eleven, one; without norms a hundred are few."""
    monkeypatch.setattr(choosing, "seconds_of_full", lambda *_: seconds)
    if not norms:
        monkeypatch.setattr(choosing, "NORMS", ())
    asked = {"data": str(made / "data"), "model": "resnet20", "weights": str(made / "source"), "image_size": 16,
             "time": "60s", "device": "cpu"}  # fmt: skip
    preparation = Preparation(load_config(None, asked), Events(), World(), time.monotonic())
    preparation.choose_model()
    preparation.open()
    preparation.choose_regime()
    assert preparation.config.regime == regime
    assert preparation.choices["regime"]["regime"] == regime
    assert ("which has no norms" in preparation.choices["regime"]["why"]) is not norms


def test_a_network_that_answers_one_thing_is_called_that(neocog: Command, made: Path) -> None:
    """SqueezeNet's last ReLU is easily shut for ever by a large rate."""
    words = ("train", made / "data", "--model", "squeezenet1_1", "--epochs", 2, "--image-size", 32, "--batch-size", 8)
    stuck = neocog(*words, "--lr", 0.05, "--optimizer", "sgd", "--out", "stuck")
    assert stuck.code == 0, stuck.err
    page = Path("stuck/report.html").read_text()
    for text in (stuck.out, page.replace("&#39;", "'")):
        assert re.search("every picture is called '[xyz]': nothing was learned", text)
    learned = neocog("train", made / "data", "--model", "resnet20", *SMALL, "--epochs", 3, "--out", "learned")
    assert "nothing was learned" not in learned.out


def test_features_are_resumed_to_the_same_bits(made: Path, tmp_path: Path) -> None:
    from neocog.app.train import resume, start
    from neocog.core.errors import Interrupted

    given = {"data": str(made / "data"), "model": "resnet20", "weights": str(made / "source"), "regime": "features",
             "image_size": 16, "batch_size": 8, "epochs": 6, "views": 3, "device": "cpu"}  # fmt: skip
    whole = start(load_config(None, given), tmp_path / "whole", Events())
    events, trainers = Events(), []
    events.on("training", lambda trainer: trainers.append(trainer))
    events.on("step_ended", lambda epoch, batch, **_: trainers[0].stop(2) if (epoch, batch) == (3, 2) else None)
    with pytest.raises(Interrupted):
        start(load_config(None, given), tmp_path / "stopped", events)
    again = resume(tmp_path / "stopped")
    assert again.network().head.fc.weight.equal(whole.network().head.fc.weight)


def test_auto_says_what_it_measured_and_can_be_overruled(neocog: Command, made: Path, tmp_path: Path) -> None:
    words = ("train", made / "data", "--model", "resnet20", "--weights", made / "source", *SMALL, "--epochs", 2)
    result = neocog(*words, "--find-lr", "--out", "run")
    assert result.code == 0, result.err
    lines = [line for line in result.out.splitlines() if line.startswith("evidence")]
    assert len(lines) == 4
    assert "42 training pictures, 14 in the rarest of 3 classes" in lines[0]
    assert "LogME" in lines[1]
    assert "the lectures' rule" in lines[3]
    chosen = package.Run.open("run").config.regime
    assert f"chosen: {chosen}" in lines[3]
    kept = json.loads(Path("run/choices.json").read_text())
    evidence = Evidence(**kept["regime"])
    assert [f"evidence   {line}" for line in evidence.lines()] == lines
    report = Path("run/report.html").read_text()
    assert "How it was chosen" in report
    assert "two-by-two" in report
    again = neocog("train", "--config", "run/config.toml", "--out", "again")  # a replay decides nothing again
    assert "evidence" not in again.out
    assert Path("again/model/model.safetensors").read_bytes() == Path("run/model/model.safetensors").read_bytes()
    overruled = neocog(*words, "--regime", "probe", "--out", "probe")
    assert "evidence" not in overruled.out


def evidence(**more: Any) -> Evidence:
    values: dict[str, Any] = {
        "pictures": 900, "classes": 10, "rarest": 90, "sampled": 500, "stage": "row4", "accuracy": 0.8,
        "halfway": 0.4, "log_me": 0.1, "h_score": 5.0, "features": 30.0, "full": 200.0, "left": None,
        "regime": "full", "why": "because",
    }  # fmt: skip
    return Evidence(**values | more)


def test_the_two_by_two_rule_has_four_cells() -> None:
    for pictures, large in ((900, False), (10_000, True)):
        for halfway, similar in ((0.4, True), (0.7, False)):
            found = evidence(pictures=pictures, halfway=halfway)
            assert (found.large, found.similar) == (large, similar)
            assert RULE[large, similar] in list(found.lines())[3]
            here = [text for _, cells in found.table() for text, stands in cells if stands]
            assert here == [RULE[large, similar]]
    assert evidence(halfway=0.8 - 0.7 * ALIKE - 1e-9).similar
    nothing = evidence(accuracy=None, halfway=None)
    assert nothing.added is None
    assert "nothing can be cross-validated" in list(nothing.lines())[1]


def test_refusals(neocog: Command, made: Path, tmp_path: Path) -> None:
    source = ("train", made / "data", "--model", "resnet20", "--weights", made / "source", *SMALL)
    for words, said in {
        ("--head", "knn", "--regime", "full"): "head knn is fitted to embeddings",
        ("--regime", "features", "--cutmix", 1): "cutmix cuts pixels",
        ("--regime", "features", "--shard"): "too small to be divided",
        ("--regime", "full", "--views", 3): "views goes with regime features",
        ("--views", 3, "--unfreeze", 1): "give one",
        ("--regime", "full", "--unfreeze", 3): "unfreeze goes with regime partial",
        ("--regime", "features", "--head", "svm", "--find-lr"): "fitted at once",
        ("--regime", "features", "--stage", "stage9"): "did you mean stage",
    }.items():
        one_line_error(neocog(*source, *words, "--out", "run"), 2, said)
        assert not Path("run").exists()
    nothing = ("train", made / "data", "--model", "resnet20", *SMALL)
    one_line_error(neocog(*nothing, "--regime", "features", "--out", "run"), 2, "needs weights")
    cut = ("--model", "mnist_fcn", "--image-size", 28)
    one_line_error(
        neocog("train", made / "data", *cut, "--head", "mlp", "--stage", "x", "--out", "run"), 2, "no stage 'x'"
    )


def test_a_class_without_training_pictures_is_named(neocog: Command, tmp_path: Path) -> None:
    steps(tmp_path / "data" / "train", {"a": 6, "b": 6})
    steps(tmp_path / "data" / "test", {"a": 3, "b": 3, "c": 3})
    result = neocog("train", tmp_path / "data", "--model", "resnet20", *SMALL, "--epochs", 1, "--out", "run")
    one_line_error(result, 3, "c", "train")


def test_a_cache_that_cannot_be_written_is_said(neocog: Command, made: Path, tmp_path: Path) -> None:
    (cache_folder() / "views").parent.mkdir(parents=True, exist_ok=True)
    views = cache_folder() / "views"
    aside = views.with_name("aside")
    if views.exists():
        views.rename(aside)
    views.write_text("a file")
    try:
        result = neocog("train", made / "data", "--model", "resnet20", "--weights", made / "source", *SMALL,
                        "--regime", "features", "--epochs", 1, "--out", "run")  # fmt: skip
        one_line_error(result, 6, str(views), "XDG_CACHE_HOME")
    finally:
        views.unlink()
        if aside.exists():
            aside.rename(views)


def test_auto_takes_what_other_settings_leave_possible_and_its_run_opens(neocog: Command, made: Path) -> None:
    words = ("train", made / "data", "--model", "resnet20", "--weights", made / "source", *SMALL, "--epochs", 1)
    for number, (more, regime) in enumerate(
        {("--views", 2): "features", ("--unfreeze", 1): "partial", ("--cutmix", 1): "full"}.items()
    ):
        assert neocog(*words, *more, "--out", f"run{number}").code == 0
        run = package.Run.open(f"run{number}")
        assert run.config.regime == regime
        assert neocog("val", run.folder, "--verify", "--json").code == 0
    nothing = ("train", made / "data", "--model", "resnet20", *SMALL, "--views", 3, "--out", "none")
    one_line_error(neocog(*nothing), 2, "views goes with regime features, which starts from weights")


def test_a_head_does_not_go_on_with_another_network(neocog: Command, made: Path) -> None:
    shutil.copytree(made / "source", "start")
    words = ("train", made / "data", "--model", "resnet20", "--weights", "start", *SMALL, "--regime", "features",
             "--epochs", 3, "--views", 1)  # fmt: skip
    assert neocog(*words, "--out", "run").code == 0
    other = ("train", made / "data", "--model", "resnet20", "--weights", "start", *SMALL, "--regime", "full",
             "--epochs", 1, "--head-epochs", 0, "--out", "other")  # fmt: skip
    assert neocog(*other).code == 0
    shutil.rmtree("start")
    shutil.move("other", "start")
    one_line_error(neocog("resume", "run", "--epochs", 4), 2, "backbone was")


def test_the_same_command_again_keeps_what_was_decided(neocog: Command, made: Path) -> None:
    words = ("train", made / "data", "--model", "resnet20", "--weights", made / "source", *SMALL[:-2], "--find-lr",
             "--epochs", 2, "--out", "run")  # fmt: skip
    first = neocog(*words)
    assert first.code == 0, first.err
    before = Path("run/config.toml").read_bytes()
    again = neocog(*words, "--resume", "exact")
    assert again.code == 0, again.err
    assert "evidence" not in again.out
    assert Path("run/config.toml").read_bytes() == before


def test_the_least_recently_used_embeddings_make_room(
    neocog: Command, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("neocog.app.embedding.KEEP_BYTES", 10_000)
    root = cache_folder() / "views"
    for name in ("old", "older"):
        (root / name).mkdir(parents=True)
        (root / name / "view-000-0.npy").write_bytes(bytes(9_000))
        os.utime(root / name, (1, 1))
    (root / "unfinished").mkdir()
    (root / "unfinished" / "part-000-000000-0.npy").write_bytes(bytes(9_000))
    words = ("train", made / "sets", "--model", "resnet20", "--weights", made / "source", *SMALL, "--regime",
             "features", "--views", 0, "--epochs", 1, "--out", "run")  # fmt: skip
    assert neocog(*words).code == 0
    left = {path.name for path in root.iterdir()}
    assert "unfinished" in left
    assert not left & {"old", "older"}
    assert len(left) == 3  # the training pictures' and the validation's own stay
