"""The search for a learning rate: it finds the edge where theory has it, and nobody can tell that it has been there."""

import json
import math
import os
import random
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributed import TCPStore

from neocog.core.contracts import Network, Step
from neocog.core.errors import Interrupted, UsageError
from neocog.core.events import Events
from neocog.core.seeding import permutation
from neocog.report import charts
from neocog.report.rates import curve
from neocog.tasks.classification import Classification
from neocog.training.contracts import Recipe
from neocog.training.loop import Trainer
from neocog.training.rates import MEMORY, Found, find_rate, smooth, suggest
from neocog.training.schedule import Schedule
from neocog.training.world import World
from neocog.transfer.regimes import Probe, Scratch

# ---- a network, pictures and trainers -------------------------------------------------------------------------------


class Tiny(Network):
    """Convolution, batch norm, dropout: every kind of state that a step moves."""

    def __init__(self, norm: bool = True, dropout: float = 0.2) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4) if norm else nn.Identity(), nn.ReLU()
        )
        self.stages = nn.Sequential()
        self.stages.add_module("one", nn.Sequential(nn.Conv2d(4, 8, 3, 2), nn.ReLU()))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout))
        self.head.add_module("fc", nn.Linear(8, 3))
        self.num_classes, self.in_channels, self.stage_channels, self.stage_strides = 3, 1, (8,), (2,)
        self.told: list[float] = []

    def schedule(self, progress: float) -> None:
        self.told = [*self.told, progress]


@dataclass
class Rows:
    images: Tensor
    targets: Tensor
    indices: Tensor


class Pictures:
    """50 pictures in batches of 8, the last one short. Each batch also takes noise from every global generator, as no
    loader of ours does. `fails`: raised in place of a batch, by the number of batches before it."""

    def __init__(self, n: int = 50, batch_size: int = 8, learnable: bool = True, rank: int = 0, size: int = 1) -> None:
        draw = torch.Generator().manual_seed(0)
        self.targets = torch.randint(0, 3, (n,), generator=draw)
        self.images = torch.randn(n, 1, 9, 9, generator=draw) + learnable * 0.7 * self.targets.view(-1, 1, 1, 1)
        self.batch_size, self.share = batch_size, slice(rank, None, size)
        self.noise, self.given, self.closed = 0.0, 0, 0
        self.fails: dict[int, BaseException] = {}

    def __len__(self) -> int:
        return math.ceil(len(self.targets) / self.batch_size)

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Rows]:
        try:
            for i in torch.from_numpy(permutation(0, epoch, len(self.targets))).split(self.batch_size)[skip:]:
                if self.given in self.fails:
                    raise self.fails[self.given]
                self.given += 1
                noise = self.noise * (random.random() + np.random.random() + torch.rand(()).item())
                rows = i[self.share]
                yield Rows(self.images[rows] + noise, self.targets[rows], rows)
        finally:
            self.closed += 1


def trainer(
    folder: Path, *, network: nn.Module | None = None, loader: Any = None, regime: Any = None, task: Any = None,
    events: Events | None = None, world: World | None = None, **more: Any,
) -> Trainer:  # fmt: skip
    torch.manual_seed(0)
    data = Pictures() if loader is None else loader
    recipe = replace(Recipe(3, "adamw", 0.01, Schedule("cosine", 3, 0.5), seed=3), **more)

    def validate(net: nn.Module) -> dict[str, float]:
        modes = [module.training for module in net.modules()]
        net.eval()
        with torch.no_grad():
            out = net(data.images)
        for module, mode in zip(net.modules(), modes, strict=True):
            module.training = mode
        loss = nn.functional.cross_entropy(out, data.targets).item()
        return {"loss": loss, "accuracy": (out.argmax(1) == data.targets).float().mean().item()}

    return Trainer(
        network or Tiny(), task or Classification(0.1), data, regime or Scratch(), recipe,
        folder=folder, validate=validate, events=events, world=world,
    )  # fmt: skip


def learn(made: Trainer, batches: int) -> None:
    """The beginning of a run, left where it stands: gradients may be waiting to be added to."""
    made.regime.enter(made.network, 0)
    for batch in made.loader.epoch(0):
        made._step(batch, save=False)
        if made.progress.done == batches:
            break


def plain(value: Any) -> Any:
    """Anything as nested tuples of Python values, bit for bit, so that == compares all of it."""
    match value:
        case Tensor():
            return str(value.dtype), tuple(value.shape), value.detach().contiguous().view(-1).numpy().tobytes()
        case np.ndarray():
            return str(value.dtype), value.shape, value.tobytes()
        case dict():
            return tuple((str(key), plain(one)) for key, one in value.items())
        case list() | tuple():
            return tuple(plain(one) for one in value)
    return value


def everything(made: Trainer) -> dict[str, Any]:
    """All that a search could have touched."""
    network = made.network
    facts = {
        "weights and buffers": network.state_dict(),
        "which tensors they are": [id(one) for one in (*network.parameters(), *network.buffers())],
        "gradients": [one.grad for one in network.parameters()],
        "requires_grad": [one.requires_grad for one in network.parameters()],
        "modes": [module.training for module in network.modules()],
        "attributes": getattr(network, "told", None),
        "hooks": [len(module._forward_hooks) + len(module._backward_hooks) for module in network.modules()],
        "optimizer": made.optimizer.state_dict(),
        "what the optimizer moves": [id(p) for group in made.optimizer.param_groups for p in group["params"]],
        "average": made.average.state_dict() if made.average is not None else None,
        "progress": asdict(made.progress),
        "trainer": {name: id(value) for name, value in vars(made).items()},
        "together": (made._together[0], id(made._together[1])),
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state(),
        "python": random.getstate(),
        "modes of torch": (torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), torch.get_default_dtype()),
        "files": sorted(str(path) for path in made.folder.rglob("*")),
    }
    return {name: plain(value) for name, value in facts.items()}


def next_batch(made: Trainer) -> Any:
    """What the loader would give, and the generators afterwards."""
    batch = next(iter(made.loader.epoch(1, 2)))
    return plain([batch.images, batch.targets, torch.get_rng_state(), np.random.get_state(), random.getstate()])


# ---- nobody can tell ------------------------------------------------------------------------------------------------

SETTINGS: dict[str, dict[str, Any]] = {
    "batch norm and dropout": {},
    "momentum and an average": {"optimizer": "sgd", "ema": 0.9},
    "a frozen backbone": {"regime": Probe(), "ema": 0.9},
    "gradients that wait": {"accumulate": 3, "clip_norm": 1.0, "l1": 1e-4},
    "bf16": {"optimizer": "rmsprop", "bf16": True},
}


def started(folder: Path, name: str, **more: Any) -> Trainer:
    loader = Pictures()
    made = trainer(folder, loader=loader, **SETTINGS[name], **more)
    learn(made, 5)
    made.network.head.eval()  # a mode that no regime would have chosen
    loader.noise, loader.given = 0.1, 0
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    return made


@pytest.mark.parametrize("name", SETTINGS)
def test_everything_is_as_it_was(tmp_path: Path, name: str) -> None:
    batch = next_batch(started(tmp_path, name))
    made = started(tmp_path, name)
    assert (name == "gradients that wait") == any(p.grad is not None for p in made.network.parameters())
    before = everything(made)
    found = find_rate(made, steps=30, highest=10)
    assert min(found.losses) < found.losses[0] - 0.05  # it did learn
    after = everything(made)
    for fact in before:
        assert after[fact] == before[fact], fact
    assert next_batch(made) == batch


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError("no room"), ValueError("a broken file")])
def test_everything_is_as_it_was_when_an_error_passes_through(tmp_path: Path, error: BaseException) -> None:
    made = started(tmp_path, "gradients that wait", ema=0.9)
    made.loader.fails[10] = error  # type: ignore[attr-defined]
    before = everything(made)
    with pytest.raises(type(error)) as caught:
        find_rate(made, steps=30)
    assert caught.value is error
    assert made.loader.given == 10  # type: ignore[attr-defined]
    after = everything(made)
    for fact in before:
        assert after[fact] == before[fact], fact


def test_a_signal_ends_the_search(tmp_path: Path) -> None:
    events = Events()
    made = trainer(tmp_path, events=events)
    events.on("progress", lambda done, **_: made.stop(15) if done == 4 else None)
    before = everything(made)
    with pytest.raises(Interrupted, match="nothing has been changed") as caught:
        find_rate(made)
    assert caught.value.exit_code == 143
    after = everything(made)
    assert {fact for fact in before if after[fact] != before[fact]} == {"trainer"}  # the signal itself
    assert made.loader.given == 5  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("batches", [0, 4])
def test_the_run_after_a_search_is_the_run_without_one(tmp_path: Path, name: str, batches: int) -> None:
    def outcome(search: bool) -> Any:
        made = trainer(tmp_path / f"{search}", loader=Pictures(), **SETTINGS[name])
        made.folder.mkdir()
        learn(made, batches) if batches else None
        if search:
            find_rate(made, steps=25)
        best = made.fit()
        rows = [{key: row[key] for key in ("train_loss", "val_loss", "lr")} for row in made.progress.history]
        return plain([best, made.network.state_dict(), made.optimizer.state_dict(), rows])

    assert outcome(True) == outcome(False)


def test_the_loader_gives_one_epoch_after_the_other_and_is_closed(tmp_path: Path) -> None:
    """Before the search returns: threads that load ahead must not go on."""
    made = trainer(tmp_path, loader=(data := Pictures()), optimizer="sgd")
    opened: list[int] = []
    plain_epoch = data.epoch

    def epoch(number: int, skip: int = 0) -> Iterator[Rows]:
        opened.append(number)
        return plain_epoch(number, skip)

    data.epoch = epoch  # type: ignore[method-assign]
    find_rate(made, steps=30, epoch=1)
    assert opened == [1, 2, 3, 4, 5]  # seven batches each
    assert data.closed == 5


# ---- the edge is where theory has it --------------------------------------------------------------------------------


class Lines(nn.Module):
    """Linear regression: the loss is a quadratic, whose greatest curvature L decides which rates converge."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, n))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T


class Squares:
    def step(self, network: nn.Module, batch: Any, generator: object = None) -> Step:
        outputs = network(batch.images)
        return Step((outputs[:, 0] - batch.targets).square().mean() / 2, outputs)

    def weight(self, batch: Any) -> float:
        return float(len(batch.targets))

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs[:, 0] - targets).abs() < 0.5


class Points:
    """60 points with 5 coordinates of different spread, in `batches` equal batches."""

    def __init__(self, batches: int) -> None:
        draw = np.random.default_rng(4)
        self.x = draw.normal(size=(60, 5)) * [3.0, 2.0, 1.0, 1.0, 0.5]
        self.y = self.x @ [1.0, -2.0, 3.0, 0.5, -1.0] + draw.normal(size=60)
        self.batches = batches

    def __len__(self) -> int:
        return self.batches

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Rows]:
        for rows in np.split(np.arange(60), self.batches)[skip:]:
            yield Rows(torch.tensor(self.x[rows], dtype=torch.float32),
                       torch.tensor(self.y[rows], dtype=torch.float32), torch.from_numpy(rows))  # fmt: skip

    def descent(self, rates: list[float]) -> list[float]:
        """The losses of gradient descent, in NumPy."""
        weight, losses = np.zeros(5), []
        for rate in rates:
            errors = self.x @ weight - self.y
            losses.append(float(np.mean(errors**2) / 2))
            weight = weight - rate * self.x.T @ errors / 60
        return losses

    def curvature(self) -> float:
        return float(np.linalg.eigvalsh(self.x.T @ self.x / 60).max())


class Whole:
    """One part, all of it, at a share of the rate."""

    def __init__(self, share: float = 1.0) -> None:
        self.share = share

    def parts(self, network: nn.Module) -> list[tuple[str, list[nn.Parameter]]]:
        return [("all", list(network.parameters()))]

    def enter(self, network: nn.Module, epoch: int) -> None:
        network.train()

    def rate(self, part: str, epoch: float) -> float:
        return self.share


def regression(folder: Path, points: Points, *, share: float = 1.0, **more: Any) -> Trainer:
    settings = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0} | more
    return trainer(folder, network=Lines(5), loader=points, regime=Whole(share), task=Squares(), **settings)


@pytest.mark.parametrize(("batches", "share"), [(1, 1.0), (4, 1.0), (1, 0.1)])
def test_gradient_descent_explodes_where_theory_says(tmp_path: Path, batches: int, share: float) -> None:
    """It converges below 2 / L, where the loss falls at every single step, and above it flies apart."""
    points = Points(batches)
    found = find_rate(regression(tmp_path, points, share=share, accumulate=batches), lowest=1e-6, highest=100)
    critical = 2 / points.curvature() / share
    edge = int(np.searchsorted(found.rates, critical))
    assert 50 < edge < len(found.rates)  # it went beyond
    expected = points.descent([share * rate for rate in found.rates[: edge + 1]])
    np.testing.assert_allclose(found.losses[: edge + 1], expected, rtol=1e-4)
    assert (np.diff(found.losses[: edge + 1]) <= 1e-6).all()
    assert found.losses[-1] > 2 * min(found.losses)
    assert "4 times its lowest" in found.ended
    assert found.suggestion is not None
    assert critical / 100 < found.suggestion < critical


@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_with_momentum_the_edge_moves(tmp_path: Path, momentum: float) -> None:
    """Nesterov's momentum m converges on a quadratic below 2 (1 + m) / (L (1 + 2 m)), where the roots of its step leave
    the unit circle. In the long run each gradient counts 1 / (1 - m) times, so that lower rates suffice."""
    points = Points(1)
    found = find_rate(regression(tmp_path, points, momentum=momentum), lowest=1e-6)
    critical = 2 * (1 + momentum) / (points.curvature() * (1 + 2 * momentum))
    assert found.rates[-1] > critical
    assert found.losses[-1] > 2 * min(found.losses)
    assert found.suggestion is not None
    assert (1 - momentum) * critical / 100 < found.suggestion < critical


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_what_it_suggests_trains(tmp_path: Path, optimizer: str) -> None:
    def loss(lr: float) -> float:
        made = trainer(tmp_path, loader=Pictures(200, 16), optimizer=optimizer, lr=lr)
        made.fit()
        return float(made.progress.history[-1]["val_loss"])

    found = find_rate(trainer(tmp_path, loader=Pictures(200, 16), optimizer=optimizer))
    assert found.suggestion is not None
    assert 1e-4 < found.suggestion < 0.3
    assert loss(found.suggestion) < loss(found.suggestion / 1000) - 0.1


# ---- how it goes and how it ends ------------------------------------------------------------------------------------


def test_the_same_again(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    one = find_rate(made, steps=40)
    torch.manual_seed(99)
    assert find_rate(made, steps=40) == one
    assert find_rate(trainer(tmp_path), steps=40) == one
    assert find_rate(trainer(tmp_path, seed=4), steps=40).losses != one.losses  # dropout


def test_gradients_that_wait_have_no_part_in_it(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    one = find_rate(made, steps=20)
    for parameter in made.network.parameters():
        parameter.grad = torch.full_like(parameter, 10.0)
    assert find_rate(made, steps=20) == one


def test_rates_rise_by_the_same_factor(tmp_path: Path) -> None:
    found = find_rate(trainer(tmp_path), lowest=1e-5, highest=1e-2, steps=30)
    assert found.rates == pytest.approx(np.geomspace(1e-5, 1e-2, 30))
    assert found.ended == "the highest rate (0.01) was reached"
    assert len(found.rates) == len(found.losses) == len(found.smoothed)
    assert find_rate(trainer(tmp_path), steps=20).rates[-1] <= 1
    assert find_rate(trainer(tmp_path, optimizer="sgd"), lowest=1e-7, steps=20).rates[-1] > 1


def test_what_is_no_longer_finite_ends_it_quietly(tmp_path: Path) -> None:
    made = regression(tmp_path, Points(1))
    found = find_rate(made, lowest=1e15, highest=1e30)
    assert found.ended.startswith("the loss became inf (after a rate of")
    assert all(map(math.isfinite, [*found.losses, *found.smoothed]))
    assert found.suggestion is None
    assert "too early" in found.why
    points = Points(1)
    points.x *= 1e3  # gradients are that much larger than the errors, and their squares overflow first
    found = find_rate(regression(tmp_path, points, clip_norm=1e30), lowest=1e10, highest=1e30)
    assert "the gradient's norm became inf" in found.ended
    assert list(tmp_path.iterdir()) == []
    points = Points(1)
    points.y[:] = math.nan
    found = find_rate(regression(tmp_path, points))
    assert found.ended == "the loss became nan (at the first step)"
    assert (found.rates, found.losses, found.smoothed, found.suggestion) == ([], [], [], None)


def test_where_nothing_falls_nothing_is_suggested(tmp_path: Path) -> None:
    network = Tiny(dropout=0.0)
    nn.init.zeros_(network.head.fc.weight)  # type: ignore[arg-type, union-attr]
    nn.init.zeros_(network.head.fc.bias)  # type: ignore[arg-type, union-attr]
    made = trainer(tmp_path, network=network, loader=Pictures(2000, 8, learnable=False), optimizer="sgd")
    found = find_rate(made)  # guessing, from pictures that say nothing: ln 3 is the best there is
    assert found.losses[0] == pytest.approx(math.log(3), rel=1e-5)
    assert found.suggestion is None
    assert "never fell" in found.why


def test_one_batch_is_enough(tmp_path: Path) -> None:
    found = find_rate(trainer(tmp_path, loader=Pictures(8, 8)))
    assert found.suggestion is not None
    assert 1e-4 < found.suggestion < 0.3


class Phases(Whole):
    """The weight learns from epoch 2 on, at a rate that rises over the epoch; the bias before."""

    def __init__(self) -> None:
        super().__init__()
        self.entered: list[int] = []
        self.asked: set[float] = set()

    def enter(self, network: nn.Module, epoch: int) -> None:
        self.entered.append(epoch)
        network.weight.requires_grad_(epoch >= 2)  # type: ignore[operator, union-attr]
        network.bias.requires_grad_(epoch < 2)  # type: ignore[operator, union-attr]

    def rate(self, part: str, epoch: float) -> float:
        self.asked.add(epoch)
        return min(max(epoch - 2, 0.0), 1.0) if epoch > 2 else 1.0


def test_each_phase_can_be_asked_for(tmp_path: Path) -> None:
    class Seen(Squares):
        def step(self, network: nn.Module, batch: Any, generator: object = None) -> Step:
            moved.append(network.weight[0, 0].item() != start)  # type: ignore[operator, index]
            return super().step(network, batch)

    for epoch in (0, 2):
        moved: list[bool] = []
        regime, network = Phases(), nn.Linear(5, 1)
        start = network.weight[0, 0].item()
        made = trainer(tmp_path, network=network, loader=Points(3), regime=regime, task=Seen(), optimizer="sgd")
        find_rate(made, steps=20, epoch=epoch)
        assert any(moved) == (epoch == 2)
        assert set(regime.entered) == {epoch}
        assert regime.asked == {epoch + 1.0}


def test_a_network_hears_how_much_of_the_training_would_be_over(tmp_path: Path) -> None:
    heard: list[float] = []

    class Listening(Tiny):
        def schedule(self, progress: float) -> None:
            heard.append(progress)

    made = trainer(tmp_path, network=Listening())
    find_rate(made, steps=20, epoch=2)
    find_rate(made, steps=20)
    assert heard == [2 / 3, 0.0]


def test_it_says_how_far_it_is(tmp_path: Path) -> None:
    events, said = Events(), []
    events.on("progress", lambda **facts: said.append(facts))
    found = find_rate(trainer(tmp_path, events=events), steps=20)
    assert [one["done"] for one in said] == list(range(1, len(found.losses) + 1))
    assert said[0]["total"] == 20


@pytest.mark.parametrize(
    "limits",
    [{"lowest": 0}, {"lowest": 2.0, "highest": 1.0}, {"highest": math.inf}, {"highest": math.nan}, {"steps": 19}],
)
def test_limits_without_sense_are_refused(tmp_path: Path, limits: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="looked for"):
        find_rate(trainer(tmp_path), **limits)


def test_what_cannot_be_copied_or_learned_from_is_refused(tmp_path: Path) -> None:
    made = trainer(tmp_path, shard=True)
    made.world = World(0, 2)
    with pytest.raises(UsageError, match="--shard"):
        find_rate(made)
    with pytest.raises(UsageError, match="without pictures"):
        find_rate(trainer(tmp_path, loader=Pictures(0)))


# ---- the rule -------------------------------------------------------------------------------------------------------


def test_smoothing_by_hand() -> None:
    losses = [3.0, 1.0, 2.0, 50.0]
    limited = [3.0, 1.0, 2.0, 4.0]  # twice the mean of the first two
    expected = [
        sum(MEMORY ** abs(i - j) * limited[j] for j in range(4)) / sum(MEMORY ** abs(i - j) for j in range(4))
        for i in range(4)
    ]
    assert smooth(losses, 2) == pytest.approx(expected)
    assert smooth([], 2) == []
    assert smooth([2.0] * 7, 2) == pytest.approx([2.0] * 7)


def test_smoothing_does_not_move_what_it_smooths() -> None:
    losses = [1.0] * 40 + [0.0] * 41
    assert sum(smooth(losses, 10)[39:41]) == pytest.approx(1.0, abs=1e-3)  # the fall stays where it is


def fallen(at: float, explodes: float, noise: float = 0.0) -> tuple[list[float], list[float]]:
    """A loss that has fallen from 2 to 1 by half at `at` and explodes at `explodes`."""
    rates = np.geomspace(1e-7, 10, 100)
    losses = 2 - 1 / (1 + (at / rates) ** 2) + (rates / explodes) ** 4
    return rates.tolist(), (losses + noise * np.random.default_rng(0).normal(size=100)).tolist()


def test_the_suggestion_is_the_middle_of_the_fall_or_a_tenth_of_the_bottom() -> None:
    rates, losses = fallen(1e-4, 3)
    suggestion, why = suggest(rates, losses, smooth(losses, 10), 10)
    assert suggestion == pytest.approx(1e-4, rel=0.2)
    assert "half of the fall" in why
    assert float(f"{suggestion:.1e}") == suggestion  # two digits
    noisy = fallen(1e-4, 3, noise=0.1)[1]
    assert suggest(rates, noisy, smooth(noisy, 10), 10)[0] == pytest.approx(1e-4, rel=0.5)
    rates, losses = fallen(0.1, 1)  # explodes soon after it has fallen
    curve_ = smooth(losses, 10)
    bottom = rates[int(np.argmin(curve_))]
    assert bottom < 1
    assert suggest(rates, losses, curve_, 10)[0] == pytest.approx(bottom / 10, rel=0.05)


def test_noise_alone_suggests_nothing() -> None:
    rates = np.geomspace(1e-7, 1, 100).tolist()
    for seed in range(200):
        losses = (2 + np.random.default_rng(seed).normal(size=100)).tolist()
        suggestion, why = suggest(rates, losses, smooth(losses, 10), 10)
        assert suggestion is None, seed
        assert "never fell" in why


# ---- several processes ----------------------------------------------------------------------------------------------

KINDS: dict[str, dict[str, Any]] = {
    "explodes": {"optimizer": "sgd", "accumulate": 2, "clip_norm": 5.0},
    "not finite": {"optimizer": "sgd", "lowest": 1e20, "highest": 1e30},
}


def searched(kind: str, folder: Path, world: World) -> Found:
    settings = dict(KINDS[kind])
    limits = {name: settings.pop(name) for name in ("lowest", "highest") if name in settings}
    torch.manual_seed(0)
    loader = Pictures(50, 10, rank=world.rank, size=world.size)
    made = trainer(folder, network=Tiny(norm=False, dropout=0.0), loader=loader, world=world, **settings)
    before = everything(made)
    found = find_rate(made, steps=40, **limits)
    assert everything(made) == before
    return found


def one_of_two(rank: int, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    world = World.join(rank, 2, 2, "127.0.0.1", port, "gloo")
    found = [asdict(searched(kind, folder / "run", world)) for kind in KINDS]
    (folder / f"{rank}.json").write_text(json.dumps(found, allow_nan=False))
    world.meet()  # nobody leaves while the other still computes
    world.leave()
    os._exit(0)  # gloo's threads now and then abort an interpreter that takes itself apart


def test_two_processes_find_what_one_finds(tmp_path: Path) -> None:
    """Each has half of every batch; they stop at the same step."""
    store = TCPStore("127.0.0.1", 0, 2, is_master=True, wait_for_workers=False)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, __file__]
    jobs = [
        subprocess.Popen([*command, str(rank), str(store.port), str(tmp_path)], env=environment) for rank in range(2)
    ]
    try:
        assert [job.wait(120) for job in jobs] == [0, 0]
    finally:
        for job in jobs:
            job.kill()
            job.wait()
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first == second
    for kind, two in zip(KINDS, first, strict=True):
        one = searched(kind, tmp_path, World())
        assert len(two["losses"]) == len(one.losses) < 40
        assert two["ended"].split(" (")[0] == one.ended.split(" (")[0]
        np.testing.assert_allclose(two["losses"][:-3], one.losses[:-3], rtol=1e-3)
        assert (two["suggestion"] is None) == (one.suggestion is None)
    assert first[0]["suggestion"] is not None


# ---- the chart ------------------------------------------------------------------------------------------------------


def numbers(path: str) -> list[tuple[str, float, float]]:
    return [(pair[0][0], float(pair[0][1:]), float(pair[1])) for pair in zip(*[iter(path.split())] * 2, strict=True)]


def test_the_chart_shows_what_was_found() -> None:
    rates, losses = fallen(1e-3, 0.5, noise=0.05)
    smoothed = smooth(losses, 10)
    drawn = ET.fromstring(curve(rates, losses, smoothed, 1e-3))
    left, right = charts.LEFT, charts.WIDTH - charts.RIGHT
    marks = {one.get("class"): one for one in drawn.iter("path")}
    raw, line = (numbers(marks[name].get("d") or "") for name in ("line raw", "line one"))
    xs = [x for _, x, _ in line]
    assert [xs[0], xs[-1]] == [left, right]
    np.testing.assert_allclose(np.diff(xs), (right - left) / 99, atol=0.11)  # logarithmic
    assert len(line) == 100
    assert len(raw) < 100  # it leaves the plane
    assert raw[-1][2] == charts.TOP
    for _, x, y in raw + line:
        assert left <= x <= right
        assert charts.TOP <= y <= charts.HEIGHT - charts.BOTTOM
    (mark,) = (one for one in drawn.iter("line") if one.get("class") == "mark" and one.get("x1") == one.get("x2"))
    assert float(mark.get("x1") or 0) == pytest.approx(left + (right - left) * 4 / 8, abs=0.1)
    texts = [one.text for one in drawn.iter("text")]
    assert {"1e-7", "1e-3", "1e1", "learning rate", "0.001 suggested"} <= set(texts)
    assert "Suggested: 0.001" in (drawn.findtext("desc") or "")


def test_a_chart_without_a_suggestion_or_without_points() -> None:
    rates, losses = fallen(1e-3, 0.5)
    drawn = curve(rates, losses, smooth(losses, 10), None)
    assert "No rate is suggested" in drawn
    assert 'class="mark"' not in drawn
    assert not curve([], [], [], None)
    assert not curve([1e-7], [1.0], [1.0], None)
    short = curve([0.2, 0.3], [1.0, 0.5], [0.9, 0.6], 0.15)  # less than a decade; the mark lies before it
    x = next(one.get("x1") for one in ET.fromstring(short).iter("line") if one.get("class") == "mark")
    assert float(x or 0) == charts.LEFT
    assert "0.3</text>" in short


def test_a_loss_that_comes_back_enters_the_chart_again() -> None:
    rates = np.geomspace(1e-4, 1e-1, 31).tolist()
    losses = [1.0] * 10 + [9.0] + [1.0] * 20
    drawn = ET.fromstring(curve(rates, losses, [1.0] * 31, None))
    (path,) = (one.get("d") or "" for one in drawn.iter("path") if one.get("class") == "line raw")
    assert [pen for pen, _, y in numbers(path) if y == charts.TOP] == ["L", "M"]


if __name__ == "__main__":
    one_of_two(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
