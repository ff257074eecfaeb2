"""Training seen from inside: what is measured is what a plain loop would find, and the training does not feel it.

A watched run is killed in test_kill.py, and several processes are in test_together.py.
"""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import neocog as package
from command import Command, one_line_error
from drawn import colours
from neocog.app.preparing import prepare
from neocog.app.train import resume
from neocog.app.watching import points_within, read, rows_per_epoch
from neocog.core.config import load_config
from neocog.core.errors import DivergedError, Interrupted, ModelFileError
from neocog.core.events import Events
from neocog.core.files import sha256_of
from neocog.explaining.diagnosis import diagnose
from neocog.explaining.inside import BINS, SAMPLE, awake, inside, sample, spread
from neocog.explaining.steps import Steps
from neocog.training.loop import Trainer
from neocog.training.watched import ROWS
from untouched import fingerprint

Rows = list[dict[str, Any]]


# the measurements


class Small(nn.Module):
    """A convolution, a norm, a bias of two dimensions and two dense layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.norm = nn.BatchNorm2d(3)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.hidden = nn.Linear(3 * 36, 8)
        self.out = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = (self.norm(self.conv(x)) + self.bias).tanh().flatten(1)
        out: Tensor = self.out(self.hidden(x).tanh())
        return out


LAYERS = {"conv": "conv.weight", "hidden": "hidden.weight", "out": "out.weight"}


def batches(number: int) -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(3)
    return [(torch.randn(6, 1, 8, 8, generator=draw), torch.randint(0, 4, (6,), generator=draw)) for _ in range(number)]


def test_norms_and_ratios_are_those_of_a_plain_loop() -> None:
    torch.manual_seed(0)
    network = Small()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=0.1)
    steps = Steps(network)
    assert steps.layers == list(LAYERS)
    gradients: dict[str, list[float]] = {name: [] for name in LAYERS}
    ratios: dict[str, list[float]] = {name: [] for name in LAYERS}
    for x, labels in batches(5):
        loss = F.cross_entropy(network(x), labels)
        own = {name: network.get_parameter(path) for name, path in LAYERS.items()}
        found = torch.autograd.grad(loss, list(own.values()), retain_graph=True)
        before = {name: weight.detach().clone() for name, weight in own.items()}
        loss.backward()  # type: ignore[no-untyped-call]
        steps.before()
        optimizer.step()
        steps.after()
        optimizer.zero_grad()
        for (name, weight), gradient in zip(own.items(), found, strict=True):
            gradients[name].append(math.sqrt(float((gradient.double() ** 2).sum())))
            moved = (weight.detach() - before[name]).double().norm() / before[name].double().norm()
            ratios[name].append(float(moved))
    rows = steps.row()
    assert (
        len({round(value, 5) for values in gradients.values() for value in values}) == 15
    )  # there is something to see
    for row in rows:
        name = row["layer"]
        assert row["steps"] == 5
        assert row["gradient_norm_mean"] == pytest.approx(np.mean(gradients[name]), rel=1e-5)
        assert row["gradient_norm_largest"] == pytest.approx(max(gradients[name]), rel=1e-5)
        assert row["update_ratio_mean"] == pytest.approx(np.mean(ratios[name]), rel=1e-4)
    assert all(row["steps"] == 0 and row["gradient_norm_mean"] is None for row in steps.row())  # all begins anew


def test_layers_that_do_not_learn_and_weights_of_zeros() -> None:
    torch.manual_seed(0)
    network = Small()
    network.conv.requires_grad_(False)
    nn.init.zeros_(network.out.weight)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    steps = Steps(network)
    for x, labels in batches(2):
        F.cross_entropy(network(x), labels).backward()  # type: ignore[no-untyped-call]
        steps.before()
        optimizer.step()
        steps.after()
        optimizer.zero_grad()
    kept = {name: value.clone() for name, value in steps.tensors().items()}
    conv, hidden, out = steps.row()
    assert conv["gradient_norm_mean"] is conv["update_ratio_mean"] is None
    assert hidden["gradient_norm_mean"] > 0
    assert hidden["steps"] == out["steps"] == 2
    assert 0 < out["update_ratio_mean"] < math.inf  # of its second step alone: at the first it was 0
    steps.load(kept)
    assert steps.row() == [conv, hidden, out]


class Dead(nn.Module):
    """Channel 2 of 4 is 0 whatever the picture, and so are 3 of 5 units behind it; spelled in `how`."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.conv, self.act, self.fc = nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Linear(4 * 36, 5)
        with torch.no_grad():
            self.conv.weight[2], self.conv.bias[2] = 0.0, -1.0  # type: ignore[index]
            self.fc.bias.copy_(torch.tensor([9.0, -99.0, 9.0, -99.0, -99.0]))

    def relu(self, x: Tensor) -> Tensor:
        match self.how:
            case "module":
                out: Tensor = self.act(x)
                return out
            case "function":
                return F.relu(x)
            case "method":
                return x.relu()
            case "in place":
                return x.relu_()
            case _:
                return x.clamp(min=0)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.fc(self.relu(self.conv(x)).flatten(1)))


@pytest.mark.parametrize("how", ["module", "function", "method", "in place", "clamp"])
def test_dead_units_are_found_however_they_are_spelled(how: str) -> None:
    torch.manual_seed(0)
    network = Dead(how).train()
    pictures = [torch.randn(20, 1, 8, 8), torch.randn(7, 1, 8, 8)]
    before = fingerprint(network)
    _, (first, second) = inside(network, pictures)
    assert fingerprint(network) == before
    assert (first.name, second.name) == (("act", "act (2)") if how == "module" else ("", " (2)"))
    assert (first.channels, first.dead_channels, first.units, first.dead_units) == (4, 1, 4 * 36, 36)
    assert (second.channels, second.dead_channels, second.units, second.dead_units) == (5, 3, 5, 3)


def test_a_unit_that_one_picture_wakes_is_alive() -> None:
    network = nn.Sequential(nn.Flatten(), nn.ReLU())
    asleep = -torch.ones(4, 3)
    awake = asleep.clone()
    awake[3, 1] = 0.5
    assert inside(network, [asleep])[1][0].dead_units == 3
    assert inside(network, [asleep, awake])[1][0].dead_units == 2
    assert inside(network, [awake, asleep])[1][0].dead_units == 2


def test_in_every_memory_layout_the_same_units_are_awake() -> None:
    torch.manual_seed(0)
    maps = (torch.randn(3, 4, 5, 6) - 1.2).relu()
    expected = (maps > 0).any(0)
    assert 0 < int(expected.sum()) < expected.numel()
    for layout in (torch.contiguous_format, torch.channels_last):
        assert torch.equal(awake(maps.contiguous(memory_format=layout)), expected)
    assert torch.equal(awake(maps.transpose(2, 3)), expected.transpose(1, 2))


def test_of_tokens_a_column_is_a_channel() -> None:
    tokens = torch.ones(2, 5, 3) * torch.tensor([1.0, -1.0, 1.0])
    [found] = inside(nn.Sequential(nn.ReLU()), [tokens])[1]
    assert (found.channels, found.dead_channels, found.units, found.dead_units) == (3, 1, 15, 5)


def test_a_histogram_is_numpys() -> None:
    torch.manual_seed(0)
    values = torch.randn(5000) * 3 + 1
    values[0] = 500.0  # far outside: in the last bin
    found = spread("x", values, 0)
    assert found.mean == pytest.approx(values.double().mean().item())
    assert found.std == pytest.approx(values.double().numpy().std())
    assert found.low == pytest.approx(float(values.min()))
    assert found.high is not None
    assert found.high == pytest.approx(found.mean + 4 * found.std)  # type: ignore[operator]
    expected, _ = np.histogram(values.double().clamp(found.low, found.high), BINS, (found.low, found.high))
    assert found.counts == expected.tolist()
    assert found.counts[-1] == 1
    assert sum(found.counts) == 5000
    flat = spread("x", torch.full((7,), 2.0), 0)
    assert (flat.mean, flat.std, flat.low, flat.high, sum(flat.counts)) == (2.0, 0.0, 1.5, 2.5, 7)


def test_stages_and_what_is_not_finite() -> None:
    network = package.create_model("lenet5", num_classes=4).train()
    x = torch.randn(5, 1, 32, 32)
    stages, _ = inside(network, [x, x[:2]])
    names = [stage.name for stage in stages]
    assert names[0] == "stem"
    assert names[-1] == "head"
    assert [name for name in names if name.startswith("stages.")] == names[1:-1] != []
    with torch.no_grad():
        scores = network.eval()(torch.cat([x, x[:2]])).double()
    assert stages[-1].mean == pytest.approx(float(scores.mean()), abs=1e-6)
    assert stages[-1].std == pytest.approx(float(scores.std(correction=0)), rel=1e-4)
    assert all(stage.not_finite == 0 for stage in stages)
    x[1, 0, 9, 9] = math.nan
    stages, _ = inside(network, [x])
    assert stages[0].not_finite == 1
    assert stages[-1].not_finite == 4
    assert sum(stages[0].counts) == x.numel() - 1


def test_a_large_map_is_sampled_from_all_channels_and_pictures() -> None:
    maps = torch.arange(6).repeat_interleave(64 * 64).reshape(1, 6, 64, 64).repeat(8, 1, 1, 1).float()
    maps += 10 * torch.arange(8)[:, None, None, None]
    for layout in (torch.contiguous_format, torch.channels_last):
        found = sample(maps.contiguous(memory_format=layout))
        assert SAMPLE / 2 < len(found) <= SAMPLE
        numbers = torch.bincount(found.long(), minlength=76)
        kept = numbers[numbers > 0]
        assert len(kept) == 48
        assert int(kept.max()) < 1.1 * int(kept.min())


# what it says


def deep(act: type[nn.Module]) -> nn.Sequential:
    """Ten dense layers of 32, He's start for ReLU, Glorot's for a sigmoid, as each was published for."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(10):
        one = nn.Linear(32, 32)
        (nn.init.kaiming_normal_ if act is nn.ReLU else nn.init.xavier_normal_)(one.weight)
        layers += [one, act()]
    return nn.Sequential(*layers, nn.Linear(32, 4))


class Residual(nn.Module):
    """The same depth, of sigmoids with a way around each."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Linear(32, 32) for _ in range(10))
        self.out = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer(x).sigmoid()
        out: Tensor = self.out(x)
        return out


def learned(network: nn.Module, rate: float = 0.05) -> Rows:
    """Rows of 30 steps on four clouds of points."""
    draw = torch.Generator().manual_seed(0)
    centres = 2 * torch.randn(4, 32, generator=draw)
    optimizer, steps, rows = torch.optim.SGD(network.parameters(), lr=rate), Steps(network), []
    for number in range(30):
        labels = torch.randint(0, 4, (64,), generator=draw)
        x = centres[labels] + torch.randn(64, 32, generator=draw)
        F.cross_entropy(network(x), labels).backward()  # type: ignore[no-untyped-call]
        steps.before()
        optimizer.step()
        steps.after()
        optimizer.zero_grad()
        if number % 10 == 9:
            stages, rectifiers = inside(network, [x])
            rows.append({
                "epoch": number + 1, "steps": number + 1, "pictures": 64, "layers": steps.row(),
                "stages": [{"stage": s.name, "not_finite": s.not_finite} for s in stages],
                "rectifiers": [{"rectifier": r.name, "channels": r.channels, "channels_dead": r.dead_channels}
                               for r in rectifiers],
            })  # fmt: skip
    return rows


def test_gradients_vanish_through_sigmoids_and_not_through_relus_or_shortcuts() -> None:
    """The lectures' lesson, measured: ten sigmoids, each of which passes on a quarter at most."""
    sigmoid = diagnose(learned(deep(nn.Sigmoid)))
    assert sigmoid.main.what == "vanishing"
    assert sigmoid.numbers["first_to_last_gradient"] < 1e-4  # type: ignore[operator]
    assert "its norm in the first layer that learned, 0, is" in sigmoid.main.text
    for network in (deep(nn.ReLU), Residual()):
        fine = diagnose(learned(network))
        assert fine.numbers["first_to_last_gradient"] > 0.05  # type: ignore[operator]
        assert fine.main.what == "gradient"
        assert not fine.main.grave


def test_gradients_explode_from_a_start_too_large() -> None:
    network = deep(nn.ReLU)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.endswith("weight"):
                weight.mul_(4)
    found = diagnose(learned(network, rate=1e-3))
    assert found.main.grave
    assert found.main.what in ("exploding", "not finite")


def rows_of(*gradients: tuple[float, ...], update: float = 1e-3, dead: int = 0, broken: int = 0) -> Rows:
    return [
        {
            "epoch": n + 1, "steps": n + 1, "pictures": 9,
            "layers": [
                {"layer": f"l{i}", "steps": 1, "gradient_norm_mean": g, "gradient_norm_largest": g,
                 "update_ratio_mean": update}
                for i, g in enumerate(row)
            ],
            "stages": [{"stage": "s", "not_finite": broken}],
            "rectifiers": [{"rectifier": "r", "channels": 10, "channels_dead": dead}],
        }
        for n, row in enumerate(gradients)
    ]  # fmt: skip


@pytest.mark.parametrize(("rows", "what", "grave", "said"), [
    (rows_of((1.0, 1.0, 1.0)), "gradient", False, "reaches the first layer"),
    (rows_of((0.0009, 0.5, 1.0)), "vanishing", True, "1 of 3 layers"),
    (rows_of((0.0011, 0.5, 1.0)), "gradient", False, "0.0011 times"),
    (rows_of((0.0009, 1, 1), (0.9, 1, 1), (0.9, 1, 1)), "gradient", False, "0.9 times"),  # one row decides nothing
    (rows_of((1.0, 1.0, 1.0), (9.0, 9.0, 9.0)), "gradient", False, "reaches"),
    (rows_of((1.0, 1.0, 1.0), (11.0, 11.0, 11.0)), "exploding", True, "grew to 11 times"),
    (rows_of((2000.0, 40.0, 1.0)), "exploding", True, "grows on its way back"),
    (rows_of((1.0, 1.0, 1.0), dead=3), "gradient", False, "reaches"),
    (rows_of((1.0, 1.0, 1.0), dead=4), "dead", True, "4 of 10 in r"),
    (rows_of((1.0, 1.0, 1.0), broken=2), "not finite", True, "infinite in s"),
    (rows_of((1.0, 1.0)), "gradient", False, "too few layers"),
])  # fmt: skip
def test_what_is_said_of_rows(rows: Rows, what: str, grave: bool, said: str) -> None:
    main = diagnose(rows).main
    assert (main.what, main.grave) == (what, grave)
    assert said in main.text


@pytest.mark.parametrize(("update", "said"), [
    (1e-3, "about the 0.001"), (9e-5, "hardly move"), (1.1e-4, "about"), (9e-3, "about"), (1.1e-2, "large steps"),
])  # fmt: skip
def test_what_is_said_of_updates(update: float, said: str) -> None:
    [text] = [one.text for one in diagnose(rows_of((1.0, 1.0, 1.0), update=update)).findings if one.what == "update"]
    assert said in text


# in a run


COMMON: dict[str, Any] = {"epochs": 3, "batch_size": 8, "image_size": 16, "device": "cpu", "threads": 1}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colours(tmp_path_factory.mktemp("watched") / "pictures", 14)


def weights(run: Path) -> str:
    return sha256_of(run / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def source(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose weights others start from."""
    out = tmp_path_factory.mktemp("source") / "run"
    package.train(pictures, "mnist_convnet", out=out, **COMMON | {"epochs": 1})
    return out


CASES: dict[str, dict[str, Any]] = {
    "dropout": {"model": "mnist_convnet", "accumulate": 2, "clip_norm": 0.5, "ema": 0.9},
    "batch norm": {"model": "resnet20", "optimizer": "sgd", "precision": "bf16", "mixup": 0.2},
    "probe": {"model": "mnist_convnet", "regime": "probe"},
    "full": {"model": "mnist_convnet", "regime": "full", "head_epochs": 1},
    "partial": {"model": "mnist_convnet", "regime": "partial", "unfreeze": 1, "head_epochs": 1},
    "features": {"model": "mnist_convnet", "regime": "features", "views": 1},
    "autoencoder": {"model": "conv_ae", "latent": 8, "noise": "gaussian:0.2"},
    "variational": {"model": "conv_vae", "latent": 4},
    "machine": {"model": "rbm", "latent": 16, "epochs": 2},
}


@pytest.mark.parametrize("name", CASES)
def test_the_training_does_not_feel_it(pictures: Path, source: Path, tmp_path: Path, name: str) -> None:
    """The same seed, the same bits; and rows of everything, whatever learns."""
    more = COMMON | CASES[name]
    if "regime" in more:
        more["weights"] = source
    for folder, watch in (("plain", False), ("watched", True)):
        package.train(pictures, out=tmp_path / folder, watch=watch, **more)
    assert weights(tmp_path / "plain") == weights(tmp_path / "watched")
    assert not (tmp_path / "plain" / "watch.jsonl").exists()
    assert "Training seen from inside" not in (tmp_path / "plain" / "report.html").read_text()
    found = read(tmp_path / "watched")
    assert [row["epoch"] for row in found.rows] == [float(n) for n in range(more["epochs"] + 1)]
    assert all(layer["steps"] == 0 for layer in found.rows[0]["layers"])
    learning = [[layer["layer"] for layer in row["layers"] if layer["steps"]] for row in found.rows[1:]]
    assert all(learning)
    if name in ("full", "partial"):
        assert len(learning[0]) == 1  # the head learns first
        assert len(learning[1]) > 1
    if name == "probe":
        assert [len(names) for names in learning] == [1, 1, 1]
    assert found.rows[-1]["stages"]
    assert found.surface is not None
    assert len(found.surface["losses"]) == len(found.surface["places"]) == 11
    assert found.diagnosis().main.text
    assert "Training seen from inside" in (tmp_path / "watched" / "report.html").read_text()


def test_the_middle_of_the_surface_is_the_validation_loss(pictures: Path, tmp_path: Path) -> None:
    """Of weights that were kept, on pictures so few that the probe holds them all."""
    made = package.train(pictures, "mnist_convnet", out=tmp_path / "run", watch=True, precision="fp32", **COMMON)
    losses = [json.loads(line)["val_loss"] for line in (made.folder / "metrics.jsonl").read_text().splitlines()]
    surface = read(made.folder).surface
    assert surface is not None
    assert surface["pictures"] == len(made.predictions("val").files)
    assert surface["losses"][5][5] in [pytest.approx(loss, rel=1e-5) for loss in losses]
    assert len({value for row in surface["losses"] for value in row}) > 100


def test_a_stopped_run_has_the_rows_of_one_that_was_not(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped within an epoch: what was counted since the last row goes on too. Rows are 16 pictures apart here."""
    monkeypatch.setattr("neocog.app.watching.APART", 16)
    more = COMMON | {"accumulate": 2, "watch": True, "model": "mnist_convnet", "batch_size": 4}
    package.train(pictures, out=tmp_path / "whole", **more)
    expected = files(tmp_path / "whole")
    assert len(read(tmp_path / "whole").rows) > 4
    for stop_at in (3, 8, 11):
        events, trainers, count = Events(), [], 0
        events.on("training", lambda trainer, trainers=trainers: trainers.append(trainer))

        def stop(**_: object) -> None:
            nonlocal count
            count += 1
            if count == stop_at:  # noqa: B023
                trainers[0].stop(2)  # noqa: B023

        events.on("step_ended", stop)
        folder = tmp_path / str(stop_at)
        with pytest.raises(Interrupted):
            package.train(pictures, out=folder, events=events, **more)
        resume(folder)
        assert files(folder) == expected


def files(run: Path) -> dict[str, Any]:
    return {"weights": weights(run)} | {name: (run / name).read_text() for name in ("watch.jsonl", "surface.json")}


# what a person sees


def test_the_command_ends_with_the_main_finding(neocog: Command, pictures: Path) -> None:
    small = ("--model", "mnist_fcn", "--epochs", 2, "--batch-size", 8, "--watch")
    made = neocog("train", pictures, *small, "--out", "run")
    assert made.code == 0, made.err
    lines = [line.split(maxsplit=1) for line in made.out.splitlines()]
    first, last = [text for label, text in lines if label == "watch"]
    assert "3 layers at every step, 6 validation pictures after every epoch" in first
    assert last == read(Path("run")).diagnosis().main.text
    assert "watch = true" in Path("run/config.toml").read_text()
    again = neocog("train", pictures, *small, "--out", "other", "--json")
    found = json.loads(again.out)["watch"]
    assert found["finding"] == last
    assert found["numbers"] == read(Path("run")).diagnosis().numbers
    assert found["numbers"]["channels"] == 96
    assert neocog("val", "run", "--verify").code == 0
    path = Path("run/watch.jsonl")
    path.write_text(path.read_text().replace('"steps": 8', '"steps": 9'))
    worse = neocog("val", "run", "--verify")
    assert worse.code == 4
    assert "watch.jsonl is not what the checkpoint remembers" in worse.out + worse.err


@pytest.mark.parametrize(("more", "said"), [
    (("--head", "svm", "--weights", "imagenet"), "head svm is fitted at once: there are no steps to watch"),
    (("--shard",), "shard leaves no process a whole layer to watch"),
])  # fmt: skip
def test_what_cannot_be_watched_is_refused(neocog: Command, pictures: Path, more: tuple[str, ...], said: str) -> None:
    one_line_error(neocog("train", pictures, "--model", "resnet18", "--watch", *more), 2, said)


def test_a_time_budget_decides_how_fine_the_surface_is(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert points_within(0.01, 100.0) == 11
    assert points_within(0.01, 10.0) == 9  # 121 places would take more than a tenth
    assert points_within(0.01, 2.5) == 5
    assert points_within(0.01, 2.4) == 0
    settings = COMMON | {"data": str(pictures), "model": "mnist_fcn", "epochs": 2}
    ends = {}
    for each, points in ((0.05, 9), (0.3, 0)):
        monkeypatch.setattr("neocog.app.preparing.seconds_per_evaluation", lambda *_, each=each, **__: each)
        for watch in (False, True):
            (out := tmp_path / f"{each} {watch}").mkdir()
            session = prepare(load_config(None, settings | {"time": "60s", "watch": watch}), out, Events())
            assert isinstance(session.trainer, Trainer)
            assert session.trainer.budget is not None
            ends[watch] = session.trainer.budget.evaluation
        assert session.watching is not None
        assert session.watching.points == points
        assert ends[True] == pytest.approx(ends[False] + points**2 * each)  # the time for it is kept
        assert ("is left out" in session.watching.words()) == (points == 0)
        session.watching.write_surface(out, Events())
        assert (out / "surface.json").exists() == (points > 0)


def test_how_often_it_looks() -> None:
    assert rows_per_epoch(20, 100, 128) == 1
    assert rows_per_epoch(1, 500, 128) == 12
    assert rows_per_epoch(3, 500, 128) == 4
    assert rows_per_epoch(1, 40, 128) == 2  # else the looking would take longer than the learning
    assert rows_per_epoch(1, 3, 8) == 1
    assert rows_per_epoch(0.3, 500, 128) == 12


def test_a_long_run_keeps_a_bounded_number_of_rows(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ROWS == 400
    monkeypatch.setattr("neocog.training.watched.ROWS", 6)
    more = COMMON | {"epochs": 12, "batch_size": 32}
    made = package.train(pictures, "mnist_fcn", out=tmp_path / "run", watch=True, **more)
    epochs = [row["epoch"] for row in read(made.folder).rows]
    assert len(epochs) <= 6
    assert epochs == sorted(set(epochs))
    assert (epochs[0], epochs[-1]) == (0.0, 12.0)


def test_damaged_records_are_named(pictures: Path, tmp_path: Path) -> None:
    made = package.train(pictures, "mnist_fcn", out=tmp_path / "run", watch=True, **COMMON | {"epochs": 1})
    for name, text in (("surface.json", "{"), ("watch.jsonl", ""), ("watch.jsonl", "{")):
        copy = tmp_path / "copy"
        shutil.copytree(made.folder, copy)
        (copy / name).write_text(text)
        with pytest.raises(ModelFileError, match=name):
            read(copy)
        shutil.rmtree(copy)


@pytest.mark.parametrize(("batch", "whole"), [(8, True), (4, False)], ids=["validating", "at a step"])
def test_a_run_that_diverges_leaves_what_was_seen(pictures: Path, tmp_path: Path, batch: int, whole: bool) -> None:
    more = COMMON | {"optimizer": "sgd", "momentum": 0.99, "lr": 100.0, "batch_size": batch}
    with pytest.raises(DivergedError):
        package.train(pictures, "mnist_convnet", out=tmp_path / "run", watch=True, **more)
    found = read(tmp_path / "run")
    assert found.rows[-1]["epoch"].is_integer() == whole
    assert found.rows[-1]["steps"] > 0
    assert found.diagnosis().main.what in ("not finite", "exploding")
