"""Adversarial training of classifiers: what a step is, that it leaves nothing behind, and what it is good for."""

import copy
import json
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

import neocog as package
from command import Command, one_line_error
from drawn import colours
from neocog.app.building import make_augment, make_task
from neocog.app.settings import only_regime
from neocog.app.train import resume
from neocog.core.config import TrainConfig, load_config
from neocog.core.contracts import Network, WithAuxiliary
from neocog.core.errors import Interrupted, UsageError
from neocog.core.events import Events
from neocog.core.spec import Preprocessing
from neocog.explaining.adversarial import accuracy_against, fgsm, pgd
from neocog.models.capsnet import capsnet
from neocog.tasks.classification import Classification
from neocog.transfer.regimes import FineTune, Probe

EPSILON, STRONG = 0.1, 0.15
SCALED = Preprocessing(mean=(0.3,), std=(0.4,))
SMALL = ("--image-size", 16, "--batch-size", 8, "--device", "cpu", "--epochs", 2, "--augment", "none")
NETWORK = ("--model", "mnist_convnet")


class Tiny(Network):
    """Batch norm, dropout, and an auxiliary head where asked for."""

    auxiliary_weight = 0.3

    def __init__(self, auxiliary: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.stages = nn.Sequential(
            OrderedDict(one=nn.Sequential(nn.Conv2d(8, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU()))
        )
        self.head = nn.Sequential(OrderedDict(flatten=nn.Flatten(), dropout=nn.Dropout(0.1), fc=nn.Linear(144, 10)))
        self.num_classes, self.in_channels, self.stage_channels, self.stage_strides = 10, 1, (16,), (2,)
        if auxiliary:
            head = nn.Sequential(OrderedDict(flatten=nn.Flatten(), fc=nn.Linear(144, 10)))
            self.auxiliary = nn.ModuleDict({"one": head})


@dataclass
class Rows:
    images: Tensor
    targets: Tensor
    indices: Tensor


def batch(n: int = 12, channels: int = 1, size: int = 8, classes: int = 10) -> Rows:
    """Pictures normalised by SCALED, some of their pixels black or white."""
    draw = torch.Generator().manual_seed(4)
    pixels = (1.4 * torch.rand(n, channels, size, size, generator=draw) - 0.2).clamp(0, 1)
    return Rows((pixels - 0.3) / 0.4, torch.randint(0, classes, (n,), generator=draw), torch.arange(n))


def task(**more: Any) -> Classification:
    return Classification(adversarial=EPSILON, preprocessing=SCALED, **more)


def test_the_twins_are_those_of_fgsm() -> None:
    network, rows = Tiny().train(), batch()
    network(rows.images)  # batch norm has seen something
    found = task().worsened(network, rows.images, rows.targets) * 0.4 + 0.3
    wanted = fgsm(network, (rows.images * 0.4 + 0.3).clamp(0, 1), rows.targets, EPSILON, (0.3,), (0.4,))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    assert float((found - rows.images * 0.4 - 0.3).abs().max()) == pytest.approx(EPSILON, abs=1e-6)
    assert float(found.min()) > -1e-6
    assert float(found.max()) < 1 + 1e-6


@pytest.mark.parametrize("auxiliary", [False, True])
@pytest.mark.parametrize("kind", ["plain", "smooth", "weighted", "shares"])
def test_the_loss_is_the_mean_of_both(auxiliary: bool, kind: str) -> None:
    network, rows = Tiny(auxiliary).train(), batch()
    network.head.dropout.p = 0.0
    more: dict[str, Any] = {"smooth": {"label_smoothing": 0.1}, "weighted": {"class_weights": torch.arange(1.0, 11)}}
    made, plain = task(**more.get(kind, {})), Classification(**more.get(kind, {}))
    if kind == "shares":
        one_hot = F.one_hot(rows.targets, 10).float()
        rows.targets = torch.lerp(one_hot, one_hot.flip(0), 0.3)
    twins = made.worsened(network, rows.images, rows.targets)
    both = copy.deepcopy(network)(torch.cat([rows.images, twins]))
    assert isinstance(both, WithAuxiliary) is auxiliary
    scores, extra = (both.scores, both.auxiliary) if isinstance(both, WithAuxiliary) else (both, ())
    halves = [
        plain.loss(scores[part], rows.targets) + sum(0.3 * plain.loss(one[part], rows.targets) for one in extra)
        for part in (slice(12), slice(12, None))
    ]
    step = made.step(network, rows)
    torch.testing.assert_close(step.loss, (halves[0] + halves[1]) / 2)
    torch.testing.assert_close(step.parts["clean"], halves[0] / 2)
    assert halves[1] > halves[0] + 0.1
    torch.testing.assert_close(step.outputs, scores[:12])
    assert made.correct(step.outputs, rows.targets).shape == (12,)
    step.loss.backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in network.parameters())


@pytest.mark.parametrize("regime", ["probe", "partial"])
def test_the_attack_leaves_nothing_behind(regime: str) -> None:
    network, rows = Tiny(), batch()
    made = Probe() if regime == "probe" else FineTune(head_epochs=0, unfreeze=1, batch_statistics=True)
    made.enter(network, 3)
    modes = [module.training for module in network.modules()]
    assert True in modes
    assert False in modes
    state = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(1)
    luck = torch.get_rng_state()
    moved = task().worsened(network, rows.images, rows.targets)
    assert (moved != rows.images).float().mean() > 0.7  # but for black pixels that should be darker
    assert not moved.requires_grad
    assert torch.equal(torch.get_rng_state(), luck)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert all(weight.grad is None for weight in network.parameters())
    task().step(network, rows).loss.backward()
    for weight in network.parameters():
        assert (weight.grad is not None) is weight.requires_grad
    assert {weight.requires_grad for weight in network.parameters()} == {True, False}


def test_an_attack_that_fails_restores_the_modes() -> None:
    network, rows = Tiny().train(), batch()
    rows.targets = rows.targets[:5]
    with pytest.raises(ValueError, match="batch"):
        task().worsened(network, rows.images, rows.targets)
    assert all(module.training for module in network.modules())


def test_a_capsule_network_is_attacked_where_its_loss_is_flat() -> None:
    torch.manual_seed(0)
    network, rows = capsnet(num_classes=4, image_size=18), batch(4, size=18, classes=4)
    made = task(loss="margin")
    lengths = torch.tensor([[0.95, 0.05, 0.05, 0.05]])
    assert made.loss(lengths, torch.tensor([0])) == 0
    moved = made.worsened(network, rows.images, rows.targets)
    with torch.no_grad():
        assert made.loss(network(moved), rows.targets) > made.loss(network(rows.images), rows.targets)

    class Certain(nn.Module):  # so sure that the margin loss asks for nothing more
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([0.95 + 0.001 * x.mean((1, 2, 3))[:, None], x.new_full((len(x), 3), 0.05)], 1)

    rows.targets = torch.zeros(4, dtype=torch.int64)
    pixels = 0.4 * rows.images + 0.3
    darker = 0.4 * made.worsened(Certain(), rows.images, rows.targets) + 0.3
    torch.testing.assert_close(darker, (pixels - EPSILON).clamp(0, 1))


def test_what_was_trained_against_is_resisted() -> None:
    found = load_digits()
    pixels, labels = torch.from_numpy(found.images[:, None] / 16).float(), torch.from_numpy(found.target)
    right: dict[str, dict[str, float]] = {}
    for name, made in (
        ("plain", Classification()),
        ("adversarial", Classification(adversarial=STRONG, preprocessing=SCALED)),
    ):
        network = Tiny()
        optimizer = torch.optim.Adam(network.parameters(), 0.005)
        for epoch in range(8):
            torch.manual_seed(epoch)
            for part in torch.randperm(1400).split(50):
                step = made.step(network.train(), Rows((pixels[part] - 0.3) / 0.4, labels[part], part))
                optimizer.zero_grad()
                step.loss.backward()
                optimizer.step()
        unseen = [(pixels[1400:], labels[1400:])]
        judge = partial(accuracy_against, network, unseen, mean=(0.3,), std=(0.4,))
        (_, clean), (_, once) = judge(epsilons=[0, STRONG])
        ((_, often),) = judge(epsilons=[STRONG], attack=partial(pgd, generator=torch.Generator().manual_seed(0)))
        right[name] = {"clean": clean, "fgsm": once, "pgd": often}
    assert right["plain"]["clean"] > 0.9
    assert right["adversarial"]["clean"] > 0.9
    for attack in ("fgsm", "pgd"):
        assert right["adversarial"][attack] > right["plain"][attack] + 0.25, right


# --- the command line ---


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colours(tmp_path_factory.mktemp("adversarial") / "data", 20)


def test_settings_reach_the_task() -> None:
    config = load_config(
        None, {"data": "x", "noise": "adversarial:0.05", "task": "classification", "label_smoothing": 0.1}
    )
    made = make_task(config, None, SCALED, torch.device("cpu"))  # type: ignore[arg-type]
    assert isinstance(made, Classification)
    assert (made.adversarial, made.preprocessing, made.label_smoothing) == (0.05, SCALED, 0.1)
    assert TrainConfig(data="x", noise="gaussian:0.1").adversarial == 0
    assert TrainConfig(data="x").adversarial == 0
    pretrained = TrainConfig(data="x", noise="adversarial:0.1", weights="imagenet")
    assert only_regime(pretrained) == "full"  # features sees no pixels, and is not to be chosen
    assert only_regime(TrainConfig(data="x", weights="imagenet")) == "auto"
    filled = {"crop": "none", "crop_pad": 0, "crop_scale": 1.0, "flip": False, "rotation": 0.0, "colour": 0.0,
              "erasing": 0.0, "mixup": 0.0, "cutmix": 0.0}  # fmt: skip
    assert make_augment(config.model_copy(update=filled)).noise == 0  # it is not drawn at random as well


@pytest.mark.parametrize("more", [(), ("--mixup", 0.4, "--label-smoothing", 0.1, "--class-weights", "balanced")])
def test_it_trains(neocog: Command, pictures: Path, tmp_path: Path, more: tuple[object, ...]) -> None:
    run = tmp_path / "run"
    result = neocog("train", pictures, *SMALL, *NETWORK, *more, "--noise", "adversarial:0.05", "--out", run)
    assert result.code == 0, result.err
    assert package.Run.open(run).config.noise == "adversarial:0.05"
    for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()):
        assert row["train_loss"] == pytest.approx(row["train_clean"] + row["train_adversarial"])
        assert row["train_adversarial"] != row["train_clean"]
    assert "Loss: adversarial" in (run / "report.html").read_text()


def test_it_trains_what_was_trained_before(neocog: Command, pictures: Path, tmp_path: Path) -> None:
    network = ("--model", "resnet20")
    assert neocog("train", pictures, *SMALL, *network, "--epochs", 1, "--out", tmp_path / "first").code == 0
    result = neocog("train", pictures, *SMALL, *network, "--weights", tmp_path / "first", "--regime", "partial",
                    "--noise", "adversarial:0.05", "--head-epochs", 1, "--out", tmp_path / "second")  # fmt: skip
    assert result.code == 0, result.err
    one, two = (package.Run.open(tmp_path / name).network().state_dict() for name in ("first", "second"))
    changed = {name for name in one if not torch.equal(one[name], two[name])}
    assert "head.fc.weight" in changed
    assert not any(name.startswith("stem") for name in changed)  # batch norm's statistics neither
    assert any(name.startswith("stages") for name in changed)


def test_a_stopped_run_goes_on_to_the_same_bits(pictures: Path, tmp_path: Path) -> None:
    common: dict[str, Any] = {"image_size": 16, "batch_size": 8, "device": "cpu", "epochs": 3, "model": "mnist_convnet",
                              "noise": "adversarial:0.05", "mixup": 0.3}  # fmt: skip
    package.train(pictures, out=tmp_path / "whole", **common)
    events, trainers = Events(), []
    events.on("training", lambda trainer: trainers.append(trainer))
    events.on("step_ended", lambda epoch, batch, **_: trainers[0].stop(15) if (epoch, batch) == (1, 3) else None)
    with pytest.raises(Interrupted):
        package.train(pictures, out=tmp_path / "parts", events=events, **common)
    resume(tmp_path / "parts")
    package.train(pictures, out=tmp_path / "other", **common | {"noise": "none"})
    one, two, other = (package.Run.open(tmp_path / name).network().state_dict() for name in ("whole", "parts", "other"))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--noise", "adversarial:2"), "from 0 to 1"),
        (("--noise", "adversarial:much"), "no number"),
        (("--noise", "adversarial:0.1", "--regime", "features", "--weights", "imagenet"), "regime probe"),
        (("--noise", "adversarial:0.1", "--head", "svm", "--weights", "imagenet"), "regime probe"),
        (("--noise", "adversarial:0.1", "--views", "2", "--weights", "imagenet"), "regime probe"),
        (("--noise", "mask:0.1"), "adversarial:N go with classification"),
    ],
)
def test_what_does_not_go_together(neocog: Command, pictures: Path, words: tuple[object, ...], said: str) -> None:
    one_line_error(neocog("train", pictures, *SMALL, *NETWORK, *words), 2, said)


def test_a_number_for_noise_beside_another_mistake_is_no_riddle() -> None:
    with pytest.raises(UsageError, match="epochs") as caught:
        load_config(None, {"data": "x", "noise": 0.1, "epochs": -1, "task": "classification"})
    assert "noise" not in str(caught.value)
