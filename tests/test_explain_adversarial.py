"""Adversarial examples: how far they go, which way, and that the network stays as it was."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from neocog.core.errors import DivergedError, UsageError
from neocog.evaluate import probabilities_of
from neocog.explaining.adversarial import accuracy_against, answers, fgsm, pgd, smallest_epsilon
from neocog.explaining.seen import Seen
from neocog.models.capsnet import capsnet

MEAN, STD = (0.3,), (0.4,)


def tiny(channels: int = 1, classes: int = 10) -> nn.Sequential:
    """With a running statistic, a mode and luck: what an attack could leave changed."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(128, classes),
    )  # fmt: skip


def digits() -> tuple[Tensor, Tensor]:
    """(1797, 1, 8, 8) in 0..1"""
    found = load_digits()
    return torch.from_numpy(found.images[:, None] / 16).float(), torch.from_numpy(found.target)


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, Tensor, Tensor]:
    """A network of 1200 digits, and 300 others."""
    network, (pixels, labels) = tiny(), digits()
    optimizer = torch.optim.Adam(network.parameters(), 0.005)
    for part in torch.randperm(1200).repeat(8).split(50):
        loss = nn.functional.cross_entropy(network((pixels[part] - 0.3) / 0.4), labels[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    return network, pixels[1200:1500], labels[1200:1500]


def drawn(n: int = 6, channels: int = 1) -> Tensor:
    return torch.rand(n, channels, 8, 8, generator=torch.Generator().manual_seed(1))


def losses(network: nn.Module, pixels: Tensor, labels: Tensor) -> Tensor:
    with torch.no_grad():
        return nn.functional.cross_entropy(network((pixels - 0.3) / 0.4), labels, reduction="none")


def random_start() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def test_fgsm_goes_exactly_epsilon_where_nothing_cuts_it(trained: tuple[nn.Module, Tensor, Tensor]) -> None:
    network, pixels, labels = trained
    for epsilon in (0.01, 0.1):
        changed = fgsm(network, pixels, labels, epsilon, MEAN, STD)
        assert float(changed.min()) >= 0
        assert float(changed.max()) <= 1
        free = (pixels > epsilon) & (pixels < 1 - epsilon)
        assert free.sum() > 3000
        torch.testing.assert_close((changed - pixels).abs()[free], torch.full((int(free.sum()),), epsilon))
        assert float((changed - pixels).abs().max()) <= epsilon + 1e-7
        assert not torch.equal(changed[~free], pixels[~free])


def test_it_goes_where_finite_differences_say() -> None:
    network = tiny(3, 4).double().eval()
    pixels, labels = 0.2 + 0.6 * drawn(3, channels=3).double(), torch.tensor([0, 2, 3])
    mean, std = (0.2, 0.4, 0.6), (0.1, 0.3, 0.2)
    figures = [torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (mean, std)]

    def loss(x: Tensor) -> Tensor:
        with torch.no_grad():
            return nn.functional.cross_entropy(network((x - figures[0]) / figures[1]), labels, reduction="none")

    signs = (fgsm(network, pixels, labels, 0.1, mean, std) - pixels) / 0.1
    compared = 0
    for place in np.ndindex(3, 8, 8):
        bump = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
        bump[0][place] = 1e-6
        slope = (loss(pixels + bump) - loss(pixels - bump)) / 2e-6
        clear = slope.abs() > 1e-6
        torch.testing.assert_close(signs[:, *place][clear], slope[clear].sign())
        compared += int(clear.sum())
    assert compared > 400
    assert 0.2 < float((signs > 0).double().mean()) < 0.8  # there are both ways to go


def test_colour_figures_serve_grey_and_many_channels() -> None:
    network, pixels, labels = tiny().eval(), drawn(), torch.arange(6)
    by_colour = fgsm(network, pixels, labels, 0.1, (0.2, 0.3, 0.4), (0.3, 0.4, 0.5))
    assert torch.equal(by_colour, fgsm(network, pixels, labels, 0.1, (0.3,), (0.4,)))
    assert fgsm(tiny(5).eval(), drawn(channels=5), labels, 0.1, (0.3,), (0.4,)).shape == (6, 5, 8, 8)


def test_a_target_draws_nearer(trained: tuple[nn.Module, Tensor, Tensor]) -> None:
    network, pixels, labels = trained
    target = (labels + 3) % 10
    before = losses(network, pixels, target)
    for attack in (fgsm, partial(pgd, generator=random_start())):
        after = losses(network, attack(network, pixels, labels, 0.05, MEAN, STD, target=target), target)
        assert (after < before).float().mean() > 0.97
        assert after.mean() < before.mean() - 0.5
    strong = pgd(network, pixels, labels, 0.4, MEAN, STD, target=target, generator=random_start())
    assert (answers(network, strong, MEAN, STD) == target).float().mean() > 0.9


def test_pgd_stays_within_and_is_stronger(trained: tuple[nn.Module, Tensor, Tensor]) -> None:
    network, pixels, labels = trained
    made = pgd(network, pixels, labels, 0.1, MEAN, STD, generator=random_start(), steps=20)
    assert float((made - pixels).abs().max()) <= 0.1 + 1e-6
    assert float(made.min()) >= 0
    assert float(made.max()) <= 1
    single = fgsm(network, pixels, labels, 0.1, MEAN, STD)
    mean = {name: losses(network, x, labels).mean() for name, x in {"": pixels, "one": single, "many": made}.items()}
    assert mean[""] + 1 < mean["one"] < mean["many"]
    right = {
        name: (answers(network, x, MEAN, STD) == labels).sum() for name, x in {"one": single, "many": made}.items()
    }
    assert right["many"] <= right["one"]
    # Steps that are too long for the ball are cut back to it.
    wild = pgd(network, pixels, labels, 0.02, MEAN, STD, generator=random_start(), steps=3, step_size=0.5)
    assert float((wild - pixels).abs().max()) <= 0.02 + 1e-6


def test_the_start_is_the_generators(trained: tuple[nn.Module, Tensor, Tensor]) -> None:
    network, pixels, labels = trained[0], trained[1][:20], trained[2][:20]
    one, two = (pgd(network, pixels, labels, 0.1, MEAN, STD, generator=random_start(), steps=1) for _ in range(2))
    other = torch.Generator().manual_seed(6)
    three = pgd(network, pixels, labels, 0.1, MEAN, STD, generator=other, steps=1)
    assert torch.equal(one, two)
    assert not torch.equal(one, three)


def test_parts_are_the_whole(trained: tuple[nn.Module, Tensor, Tensor]) -> None:
    network, pixels, labels = trained
    sizes: list[int] = []
    hook = network.register_forward_pre_hook(lambda module, given: sizes.append(len(given[0])))
    whole = fgsm(network, pixels, labels, 0.1, MEAN, STD, at_once=1000)
    parts = fgsm(network, pixels, labels, 0.1, MEAN, STD, at_once=7)
    hook.remove()
    assert sizes[0] == 300
    assert max(sizes[1:]) == 7
    assert (whole != parts).float().mean() < 1e-3  # a sign may change where the gradient is next to nothing


def test_accuracy_falls_from_the_clean_one(trained: tuple[nn.Module, Tensor, Tensor]) -> None:
    network, pixels, labels = trained
    with torch.no_grad():
        clean = (network((pixels - 0.3) / 0.4).argmax(1) == labels).double().mean()
    batches = list(zip(pixels.split(90), labels.split(90), strict=True))
    found = accuracy_against(network, batches, [0, 0.05, 0.1, 0.2], MEAN, STD)
    assert [epsilon for epsilon, _ in found] == [0, 0.05, 0.1, 0.2]
    shares = [share for _, share in found]
    assert shares[0] == float(clean) > 0.9
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < shares[0] - 0.6
    stronger = accuracy_against(network, iter(batches), [0, 0.2], MEAN, STD, partial(pgd, generator=random_start()))
    assert stronger[0] == found[0]
    assert stronger[1][1] <= shares[-1]


def test_the_smallest_epsilon_is_at_the_edge(trained: tuple[nn.Module, Tensor, Tensor]) -> None:
    network, pixels, labels = trained[0], trained[1][:60], trained[2][:60].clone()
    labels[0] = (labels[0] + 1) % 10  # wrong from the start
    found = smallest_epsilon(network, pixels, labels, MEAN, STD)
    own = answers(network, pixels, MEAN, STD)
    assert found.epsilon[0] == found.below[0] == 0
    assert torch.equal(found.pixels[0], pixels[0])
    assert found.answers[0] == own[0]
    moved = found.epsilon > 0
    assert moved.sum() > 50
    assert (found.answers[moved] != labels[moved]).all()
    assert torch.equal(answers(network, found.pixels, MEAN, STD), found.answers)
    assert ((found.pixels - pixels).abs().amax((1, 2, 3)) <= found.epsilon.nan_to_num() + 1e-6).all()
    # Just below it does not flip, and just below is near.
    rows = moved.nonzero()[:, 0]
    shy = fgsm(network, pixels[rows], labels[rows], found.below[rows], MEAN, STD)
    assert torch.equal(answers(network, shy, MEAN, STD), labels[rows])
    assert (found.epsilon[rows] - found.below[rows] <= 0.02 * found.epsilon[rows]).all()


def test_where_nothing_flips_it_is_said(trained: tuple[nn.Module, Tensor, Tensor]) -> None:
    network, pixels, labels = trained[0], trained[1][:20], trained[2][:20]
    labels = answers(network, pixels, MEAN, STD)
    found = smallest_epsilon(network, pixels, labels, MEAN, STD, limit=1e-4)
    assert found.epsilon.isnan().all()
    assert (found.below == 1e-4).all()
    assert torch.equal(found.pixels, pixels)
    assert torch.equal(found.answers, labels)
    by_many = smallest_epsilon(network, pixels, labels, MEAN, STD, attack=partial(pgd, generator=random_start()))
    by_one = smallest_epsilon(network, pixels, labels, MEAN, STD)
    assert not by_many.epsilon.isnan().any()
    assert by_many.epsilon.mean() < by_one.epsilon.nan_to_num(0.5).mean()


@pytest.mark.parametrize("training", [True, False])
def test_the_network_stays_as_it_was(training: bool) -> None:
    network, pixels, labels = tiny().train(training), drawn(), torch.arange(6)
    network[3].train(not training)
    network[0].requires_grad_(False)
    network(pixels).sum().backward()
    modes = [module.training for module in network.modules()]
    flags = [weight.requires_grad for weight in network.parameters()]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    gradients = [None if weight.grad is None else weight.grad.clone() for weight in network.parameters()]
    assert any(gradient is not None for gradient in gradients)
    given = pixels.clone()
    torch.manual_seed(3)
    luck = torch.get_rng_state()
    fgsm(network, pixels, labels, 0.1, MEAN, STD)
    pgd(network, pixels, labels, 0.1, MEAN, STD, generator=random_start())
    smallest_epsilon(network, pixels, labels, MEAN, STD)
    accuracy_against(network, [(pixels, labels)], [0, 0.1], MEAN, STD)
    assert torch.equal(torch.get_rng_state(), luck)
    assert [module.training for module in network.modules()] == modes
    assert [weight.requires_grad for weight in network.parameters()] == flags
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    for weight, gradient in zip(network.parameters(), gradients, strict=True):
        assert (weight.grad is None) if gradient is None else torch.equal(weight.grad, gradient)
    assert torch.equal(pixels, given)
    assert not pixels.requires_grad


def test_a_capsules_length_is_a_belief() -> None:
    torch.manual_seed(0)
    network = capsnet(num_classes=4, image_size=18).eval()
    pixels = torch.rand(3, 1, 18, 18)
    with torch.no_grad():
        expected = probabilities_of(network, network(pixels))
        found = Seen(network, (0.0,), (1.0,), 8).beliefs(pixels).softmax(1)
    torch.testing.assert_close(found, expected)
    assert (expected.max(1).values > 1.2 * expected.min(1).values).all()  # not that of lengths, all about alike
    labels = expected.argmax(1)
    changed = fgsm(network, pixels, labels, 0.05, (0.0,), (1.0,))
    with torch.no_grad():
        after = probabilities_of(network, network(changed))
    rows = torch.arange(3)
    assert (after[rows, labels] < expected[rows, labels]).all()


class Odd(nn.Module):
    def __init__(self, give: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.give = give

    def forward(self, x: Tensor) -> Any:
        return self.give(x)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pixels": drawn() * 255}, "before their normalisation"),
        ({"pixels": torch.full((6, 1, 8, 8), math.nan)}, "from 0 to 1"),
        ({"pixels": drawn()[0]}, "no pictures"),
        ({"pixels": drawn()[:0], "labels": torch.arange(0)}, "no pictures"),
        ({"pixels": (255 * drawn()).to(torch.uint8)}, "no pictures"),
        ({"labels": torch.arange(5)}, "6 class numbers"),
        ({"labels": torch.arange(6) - 1}, "6 class numbers"),
        ({"labels": torch.rand(6)}, "6 class numbers"),
        ({"labels": torch.arange(6) + 5}, "no class 10"),
        ({"target": torch.arange(6) + 5}, "no class 10"),
        ({"epsilon": -0.1}, "from 0 to 1"),
        ({"epsilon": math.nan}, "from 0 to 1"),
        ({"std": (0.0,)}, "normalise no picture"),
        ({"mean": ()}, "normalise no picture"),
        ({"at_once": 0}, "at least 1"),
        ({"network": Odd(lambda x: x)}, "classifier"),
        ({"network": Odd(lambda x: (x,))}, "classifier"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], said: str) -> None:
    usual = {"network": tiny(), "pixels": drawn(), "labels": torch.arange(6), "epsilon": 0.1, "mean": MEAN, "std": STD}
    for attack in (fgsm, partial(pgd, generator=random_start())):
        with pytest.raises(UsageError, match=said) as caught:
            attack(**usual | changes)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
        assert caught.value.hint


def test_more_that_makes_no_sense() -> None:
    parts = tiny(), drawn(), torch.arange(6)
    with pytest.raises(UsageError, match="steps lead nowhere"):
        pgd(*parts, 0.1, MEAN, STD, generator=random_start(), steps=0)
    with pytest.raises(UsageError, match="cannot be taken"):
        pgd(*parts, 0.1, MEAN, STD, generator=random_start(), step_size=0)
    with pytest.raises(UsageError, match="limit"):
        smallest_epsilon(*parts, MEAN, STD, limit=0)
    with pytest.raises(UsageError, match="no pictures"):
        accuracy_against(parts[0], [], [0.1], MEAN, STD)
    with pytest.raises(UsageError, match="no pictures"):
        accuracy_against(parts[0], [(drawn()[:0], torch.arange(0))], [0.1], MEAN, STD)
    with pytest.raises(DivergedError, match="not finite"):
        fgsm(Odd(lambda x: x.flatten(1) * math.nan), drawn(), torch.arange(6), 0.1, MEAN, STD)


@pytest.mark.parametrize("kind", [torch.int32, torch.int16, torch.uint8, torch.uint16])
def test_labels_of_any_whole_numbers(kind: torch.dtype) -> None:
    network, pixels, labels = tiny().eval(), drawn(), torch.arange(6)
    wanted, given = fgsm(network, pixels, labels, 0.1, MEAN, STD, target=labels + 1), labels.to(kind)
    assert torch.equal(fgsm(network, pixels, given, 0.1, MEAN, STD, target=(labels + 1).to(kind)), wanted)
    pgd(network, pixels, given, 0.1, MEAN, STD, generator=random_start())
    smallest = smallest_epsilon(network, pixels, given, MEAN, STD).epsilon
    assert torch.equal(smallest, smallest_epsilon(network, pixels, labels, MEAN, STD).epsilon)
    shares = accuracy_against(network, [(pixels, given)], [0, 0.1], MEAN, STD)
    assert shares == accuracy_against(network, [(pixels, labels)], [0, 0.1], MEAN, STD)


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("of_pixels", [torch.float32, torch.float64])
def test_the_network_runs_in_its_own_type(kind: torch.dtype, of_pixels: torch.dtype) -> None:
    """And what comes back is in that of the pixels, and almost what float64 throughout says."""
    labels, pixels = torch.arange(6), drawn().double()
    wanted = fgsm(tiny().eval().double(), pixels, labels, 0.1, MEAN, STD) - pixels
    network, x = tiny().eval().to(kind), pixels.to(of_pixels)
    met: list[torch.dtype] = []
    network[0].register_forward_hook(lambda module, args, out: met.append(out.dtype))
    found = fgsm(network, x, labels, 0.1, MEAN, STD)
    assert set(met) == {kind}
    assert found.dtype == of_pixels
    assert float(((found - x).sign() == wanted.sign()).double().mean()) > 0.98
    assert pgd(network, x, labels, 0.1, MEAN, STD, generator=random_start()).dtype == of_pixels
    assert smallest_epsilon(network, x, labels, MEAN, STD).pixels.dtype == of_pixels


@pytest.mark.parametrize("epsilon", [torch.full((3,), 0.1), torch.full((6, 1), 0.1), torch.zeros(0)])
def test_an_epsilon_is_one_or_one_a_picture(epsilon: Tensor) -> None:
    network, pixels, labels = tiny().eval(), drawn(), torch.arange(6)
    with pytest.raises(UsageError, match="for 6 pictures"):
        fgsm(network, pixels, labels, epsilon, MEAN, STD)
    one = fgsm(network, pixels, labels, torch.tensor([0.1]), MEAN, STD)
    assert torch.equal(one, fgsm(network, pixels, labels, torch.full((6,), 0.1), MEAN, STD))


@pytest.mark.parametrize(("mean", "std"), [((0.3, 0.4), STD), (MEAN, (0.3, 0.4)), ((0.3,) * 4, (0.4,) * 4)])
def test_figures_are_those_of_the_channels(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="3 channels"):
        fgsm(tiny(3).eval(), drawn(channels=3), torch.arange(6), 0.1, mean, std)
