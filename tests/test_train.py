"""The loop: what is frozen stays frozen, what is resumed is the same, and what diverges stops."""

import json
import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neocog.core.contracts import Network
from neocog.core.errors import DivergedError, Interrupted, ModelFileError
from neocog.core.events import Events
from neocog.core.seeding import permutation
from neocog.tasks.classification import Classification, balanced_weights
from neocog.training.average import WeightAverage
from neocog.training.contracts import Recipe
from neocog.training.loop import Trainer
from neocog.training.optimizer import make_optimizer, parameter_groups
from neocog.training.schedule import Schedule
from neocog.transfer.regimes import FineTune, Probe, Scratch


class Tiny(Network):
    """Convolution, batch norm and dropout in a few hundred weights: every kind of state a run must keep."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.stages = nn.Sequential()
        self.stages.add_module("one", nn.Sequential(nn.Conv2d(4, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU()))
        self.head = nn.Sequential()
        self.head.add_module("pool", nn.AdaptiveAvgPool2d(1))
        self.head.add_module("flatten", nn.Flatten())
        self.head.add_module("dropout", nn.Dropout(0.2))
        self.head.add_module("fc", nn.Linear(8, 3))
        self.num_classes, self.in_channels, self.stage_channels, self.stage_strides = 3, 1, (8,), (2,)


@dataclass
class Rows:
    images: Tensor
    targets: Tensor
    indices: Tensor


class Shuffled:
    """50 pictures in batches of 8: the last batch is short on purpose."""

    def __init__(self, n: int = 50, batch_size: int = 8) -> None:
        draw = torch.Generator().manual_seed(0)
        self.targets = torch.randint(0, 3, (n,), generator=draw)
        self.images = torch.randn(n, 1, 9, 9, generator=draw) + self.targets.view(-1, 1, 1, 1)
        self.batch_size = batch_size

    def __len__(self) -> int:
        return math.ceil(len(self.targets) / self.batch_size)

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Rows]:
        order = torch.from_numpy(permutation(0, epoch, len(self.targets)))
        for i in order.split(self.batch_size)[skip:]:
            yield Rows(self.images[i], self.targets[i], i)


def recipe(**more: object) -> Recipe:
    epochs = 4
    made = Recipe(epochs, "adamw", 0.01, Schedule("cosine", epochs, 0.5), seed=3)
    return replace(made, **more)  # type: ignore[arg-type]


def trainer(folder: Path, *, regime: object = None, loader: object = None, events: Events | None = None,
            network: Network | None = None, **more: object) -> Trainer:  # fmt: skip
    torch.manual_seed(0)
    data = Shuffled()

    def validate(net: nn.Module) -> dict[str, float]:
        was = net.training
        net.eval()
        with torch.no_grad():
            out = net(data.images)
        net.train(was)
        loss = nn.functional.cross_entropy(out, data.targets).item()
        return {"loss": loss, "accuracy": (out.argmax(1) == data.targets).float().mean().item()}

    return Trainer(
        network or Tiny(), Classification(0.1), loader or data, regime or Scratch(), recipe(**more),  # type: ignore[arg-type]
        folder=folder, validate=validate, events=events,
    )  # fmt: skip


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def copy_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in state.items()}


def test_it_learns_and_keeps_the_best(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    best = made.fit()
    history = made.progress.history
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert made.progress.best_score[0] == max(row["val_accuracy"] for row in history) > 0.5
    made.network.load_state_dict(best)
    assert made.validate(made.network)["accuracy"] == made.progress.best_score[0]  # type: ignore[index]
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == history


@pytest.mark.parametrize("more", [
    {}, {"optimizer": "sgd", "ema": 0.9}, {"optimizer": "rmsprop", "accumulate": 3}, {"schedule": "plateau"},
])  # fmt: skip
@pytest.mark.parametrize("stop_at", [1, 6, 7, 12, 20, 27])
def test_a_stopped_run_resumes_to_the_same_bits(tmp_path: Path, more: dict[str, object], stop_at: int) -> None:
    if "schedule" in more:
        more = {"schedule": Schedule("plateau", 4, 0.0, step_epochs=1)}
    whole = trainer(tmp_path / "whole", **more)
    stopped = trainer(tmp_path / "stopped", **more)
    for made in (whole, stopped):
        made.folder.mkdir()
    expected = whole.fit()

    steps = 0

    def stop(**_: object) -> None:
        nonlocal steps
        steps += 1
        if steps == stop_at:
            stopped.stop(2)

    stopped.events.on("step_ended", stop)
    with pytest.raises(Interrupted, match=r"neocog resume") as caught:
        stopped.fit()
    assert caught.value.exit_code == 130
    torch.manual_seed(999)  # nothing may hang on the generator that happens to be there
    again = trainer(tmp_path / "stopped", **more)
    again.restore()
    assert again.progress.steps > 0
    assert same(again.fit(), expected)
    assert same(again.network.state_dict(), whole.network.state_dict())
    for row, other in zip(again.progress.history, whole.progress.history, strict=True):
        for key in ("train_loss", "train_accuracy", "val_loss", "lr"):
            assert row[key] == other[key]


def test_frozen_is_frozen(tmp_path: Path) -> None:
    made = trainer(tmp_path, regime=Probe())
    before = copy_of(made.network.state_dict())
    made.fit()
    after = made.network.state_dict()
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed == {"head.fc.weight", "head.fc.bias"}


@pytest.mark.parametrize("batch_statistics", [False, True])
def test_full_trains_the_head_first_then_everything(tmp_path: Path, batch_statistics: bool) -> None:
    events = Events()
    made = trainer(tmp_path, regime=FineTune(2, 0.1, batch_statistics), events=events)
    start = copy_of(made.network.state_dict())
    snapshots = []
    events.on("epoch_ended", lambda **_: snapshots.append(copy_of(made.network.state_dict())))
    made.fit()
    backbone = [name for name in start if not name.startswith("head.")]
    assert all(torch.equal(start[name], snapshots[1][name]) for name in backbone)
    assert not torch.equal(start["head.fc.weight"], snapshots[0]["head.fc.weight"])
    moved = {name for name in backbone if not torch.equal(start[name], snapshots[3][name])}
    statistics = {name for name in backbone if "running_" in name or "num_batches" in name}
    assert moved == (set(backbone) if batch_statistics else set(backbone) - statistics)
    assert FineTune(2, 0.1).rate("0", 2.5) == pytest.approx(0.05)
    assert FineTune(2, 0.1).rate("0", 9.0) == pytest.approx(0.1)
    assert [FineTune(2, 0.1).rate("head", epoch) for epoch in (0.5, 2.0, 2.1)] == [1.0, 1.0, 0.1]


def test_accumulating_equals_a_larger_batch(tmp_path: Path) -> None:
    def weights(batch_size: int, accumulate: int) -> dict[str, Tensor]:
        torch.manual_seed(0)
        network = Tiny()
        network.stem[1] = network.stages[0][1] = nn.Identity()  # batch norm does see the batch
        network.head.dropout = nn.Identity()
        made = trainer(tmp_path, network=network, loader=Shuffled(48, batch_size), accumulate=accumulate,
                       optimizer="sgd", schedule=Schedule("constant", 4))  # fmt: skip
        made.fit()
        return copy_of(network.state_dict())

    one, many = weights(24, 1), weights(8, 3)
    assert max((one[name] - many[name]).abs().max().item() for name in one) < 1e-5


def test_divergence_stops_within_one_step_and_names_the_batch(tmp_path: Path) -> None:
    loader = Shuffled()
    loader.images[17] = float("nan")
    made = trainer(tmp_path, loader=loader)
    with pytest.raises(DivergedError, match="smaller --lr") as caught:
        made.fit()
    assert caught.value.exit_code == 5
    assert 17 in json.loads((tmp_path / "diverged.json").read_text())["rows"]


def test_patience_ends_a_run_that_no_longer_improves(tmp_path: Path) -> None:
    made = trainer(tmp_path, patience=2)
    made.validate = lambda _: {"loss": 1.0, "accuracy": 0.5}
    made.fit()
    assert len(made.progress.history) == 3  # one that was better than nothing, two that were not


def test_weight_average_follows_the_rule() -> None:
    network = nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(0.0)
    average = WeightAverage(network, 0.5)
    network.weight.data.fill_(1.0)
    expected = 0.0
    for t in range(1, 30):
        average.update(network)
        decay = min(0.5, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay)
        assert average.values["weight"].item() == pytest.approx(expected, rel=1e-5)


def test_no_decay_on_biases_and_norms() -> None:
    network = Tiny()
    groups = parameter_groups(Scratch().parts(network), 0.1)
    for group in groups:
        for parameter in group["params"]:  # type: ignore[attr-defined]
            assert (group["weight_decay"] == 0.1) == (parameter.ndim >= 2)
    counted = sum(p.numel() for group in groups for p in group["params"])  # type: ignore[attr-defined]
    assert counted == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop"])
def test_every_optimizer_lowers_a_loss(name: str) -> None:
    weight = nn.Parameter(torch.tensor([[3.0, -2.0]]))
    optimizer = make_optimizer(name, [{"params": [weight]}], lr=0.05, momentum=0.9)
    for _ in range(60):
        optimizer.zero_grad()
        weight.square().sum().backward()
        optimizer.step()
    assert weight.square().sum().item() < 1.0


def test_schedules_at_known_points() -> None:
    cosine = Schedule("cosine", 10, warmup=2)
    assert [cosine.factor(e) for e in (0, 1, 2, 6, 10)] == pytest.approx([0, 0.5, 1, 0.5, 0])
    assert Schedule("constant", 10).factor(7.3) == 1
    step = Schedule("step", 30, step_epochs=10, gamma=0.1)
    assert [step.factor(e) for e in (0, 9.99, 10, 25)] == pytest.approx([1, 1, 0.1, 0.01])
    assert Schedule("plateau", 30, gamma=0.5).factor(3, drops=2) == 0.25
    cycle = Schedule("one_cycle", 10)
    assert [cycle.factor(e) for e in (0, 3, 10)] == pytest.approx([1 / 25, 1, 0])
    assert Schedule("cosine", 1, warmup=5).factor(0.5) == 1  # warm-up never eats more than half of a run


def test_auxiliary_answers_add_their_share_of_the_loss() -> None:
    class Deep(Tiny):
        auxiliary_weight = 0.3

        def __init__(self) -> None:
            super().__init__()
            head = nn.Sequential(OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=nn.Linear(8, 3)))
            self.auxiliary = nn.ModuleDict({"one": head})

    network, task = Deep(), Classification()
    x, targets = torch.randn(4, 1, 9, 9), torch.tensor([0, 1, 2, 0])
    batch = Rows(x, targets, torch.arange(4))
    network.head.dropout.p = 0.0
    answer = network(x)
    step = task.step(network, batch)
    main, extra = (F.cross_entropy(scores, targets) for scores in (answer.scores, answer.auxiliary[0]))
    assert step.loss.item() == pytest.approx((main + 0.3 * extra).item(), rel=1e-6)
    assert torch.equal(step.outputs, answer.scores)
    network.eval()
    assert task.step(network, batch).loss.item() == pytest.approx(F.cross_entropy(network(x), targets).item())


def test_a_network_hears_how_much_of_the_training_is_over(tmp_path: Path) -> None:
    heard = []
    network = Tiny()
    network.schedule = heard.append  # type: ignore[method-assign]
    trainer(tmp_path, network=network).fit()
    assert heard == [0.0, 0.25, 0.5, 0.75]


def test_loss_by_hand() -> None:
    """Label smoothing, class weights and class shares against the definitions, written out."""
    scores = torch.tensor([[2.0, 0.0, -1.0], [0.5, 1.5, 0.0]], dtype=torch.float64)
    targets = torch.tensor([0, 2])
    log = (scores.exp() / scores.exp().sum(1, keepdim=True)).log()
    smooth = 0.9 * torch.nn.functional.one_hot(targets, 3) + 0.1 / 3
    expected = -(smooth * log).sum(1).mean()
    assert Classification(0.1).loss(scores, targets).item() == pytest.approx(expected.item(), rel=1e-6)
    shares = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.0, 1.0]])
    expected = -(shares * log).sum(1).mean()
    assert Classification().loss(scores, shares).item() == pytest.approx(expected.item(), rel=1e-6)
    weights = balanced_weights(torch.tensor([1.0, 1.0, 2.0]))
    assert weights.tolist() == pytest.approx([4 / 3, 4 / 3, 2 / 3])
    expected = -(weights[0] * log[0, 0] + weights[2] * log[1, 2]) / (weights[0] + weights[2])
    assert Classification(0.0, weights).loss(scores, targets).item() == pytest.approx(expected.item(), rel=1e-6)


def test_another_network_s_checkpoint_is_refused(tmp_path: Path) -> None:
    trainer(tmp_path).fit()
    other = Tiny()
    other.reset_head(7)
    with pytest.raises(ModelFileError, match="does not fit"):
        trainer(tmp_path, network=other).restore()
