"""What is measured inside a training is what a plain loop would find, and what is said of it."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import neocog as package
from neocog.explaining.diagnosis import diagnose
from neocog.explaining.inside import BINS, SAMPLE, awake, inside, sample, spread
from neocog.explaining.steps import Steps
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
            case "clip":
                return torch.clip(x, 0)
            case "clip in place":
                return x.clip_(min=0)
            case "threshold":
                return F.threshold(x, 0, 0)
            case "threshold in place":
                return F.threshold(x, 0, 0, inplace=True)
            case _:
                return x.clamp(min=0)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.fc(self.relu(self.conv(x)).flatten(1)))


@pytest.mark.parametrize(
    "how",
    ["module", "function", "method", "in place", "clamp", "clip", "clip in place", "threshold", "threshold in place"],
)
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


@pytest.mark.parametrize(("dead", "said"), [
    (0, "After epoch 2, none of the 10 channels behind ReLUs is dead"),
    (1, "After epoch 2, one of the 10 channels behind ReLUs is dead, 0 for all 9 pictures: 1 of 10 in r."),
    (3, "After epoch 2, 3 of the 10 channels behind ReLUs are dead, 0 for all 9 pictures: 3 of 10 in r."),
])  # fmt: skip
def test_what_is_said_of_dead_channels(dead: int, said: str) -> None:
    """With the epoch whose weights it is said of, and beside the main finding."""
    found = diagnose(rows_of((1.0, 1.0, 1.0), (1.0, 1.0, 1.0), dead=dead))
    [text] = [one.text for one in found.findings if one.what == "dead"]
    assert text.startswith(said)
    assert found.summary == (f"{found.main.text} {text}" if dead else found.main.text)
    grave = diagnose(rows_of((1.0, 1.0, 1.0), dead=4))
    assert grave.summary == grave.main.text  # once is enough


@pytest.mark.parametrize(("update", "said"), [
    (1e-3, "about the 0.001"), (9e-5, "hardly move"), (1.1e-4, "about"), (9e-3, "about"), (1.1e-2, "large steps"),
])  # fmt: skip
def test_what_is_said_of_updates(update: float, said: str) -> None:
    [text] = [one.text for one in diagnose(rows_of((1.0, 1.0, 1.0), update=update)).findings if one.what == "update"]
    assert said in text
