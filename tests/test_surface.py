"""The loss around the weights: the weights in its middle, a parabola where it is one, and nothing left behind."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import neocog
from neocog.core.errors import UsageError
from neocog.explaining.surface import filter_normalised, surface
from untouched import fingerprint


def linear() -> tuple[nn.Linear, Tensor, Tensor]:
    torch.manual_seed(0)
    return nn.Linear(5, 3).double(), torch.randn(20, 5).double(), torch.randn(20, 3).double()


def test_a_linear_model_gives_the_parabola_of_its_closed_form() -> None:
    """mean |xW' + b - t|^2 at W + a D + c E is a quadratic form of (a, c), whose coefficients need no surface."""
    model, x, t = linear()
    d, e = torch.randn(3, 5).double(), torch.randn(3, 5).double()
    found = surface(
        model, lambda m: float(F.mse_loss(m(x), t)), directions=({"weight": d}, {"weight": e}), points=5, reach=2.0
    )
    assert found.places == [-2.0, -1.0, 0.0, 1.0, 2.0]
    r = (model(x) - t).detach()
    along, across = x @ d.T, x @ e.T
    for i, c in enumerate(found.places):
        for j, a in enumerate(found.places):
            square = (r * r).mean() + a * a * (along * along).mean() + c * c * (across * across).mean()
            mixed = 2 * a * (r * along).mean() + 2 * c * (r * across).mean() + 2 * a * c * (along * across).mean()
            assert found.losses[i][j] == pytest.approx(float(square + mixed), rel=1e-9)
    assert found.losses[0][4] != pytest.approx(found.losses[4][0])  # which axis is which


def network() -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(1)
    made = neocog.create_model("resnet20", num_classes=4)
    with torch.no_grad():
        for _ in range(3):
            made(torch.randn(16, 3, 16, 16))  # statistics of batch norm that are not those of the start
    return made, torch.randn(6, 3, 16, 16), torch.tensor([0, 1, 2, 3, 0, 1])


def test_the_middle_is_the_loss_and_nothing_changes() -> None:
    made, x, labels = network()
    made.train()
    made.stem.requires_grad_(False)
    made(x).sum().backward()
    before = fingerprint(made)

    def loss(m: nn.Module) -> float:
        assert not m.training
        torch.rand(1)  # a loss may draw
        return float(F.cross_entropy(m(x), labels))

    found = surface(made, loss, points=3, seed=5)
    assert fingerprint(made) == before
    with torch.no_grad():
        assert found.losses[1][1] == float(F.cross_entropy(made.eval()(x), labels))
    made.train()
    assert len({value for row in found.losses for value in row}) == 9
    again = surface(made, loss, points=3, seed=5)
    other = surface(made, loss, points=3, seed=6)
    assert again == found
    assert other.losses[0][0] != found.losses[0][0]


def test_the_weights_are_put_back_when_the_loss_fails() -> None:
    made, x, _ = network()
    before = fingerprint(made)
    calls = 0

    def loss(m: nn.Module) -> float:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return float(m(x).sum())

    with pytest.raises(KeyboardInterrupt):
        surface(made, loss, points=3)
    assert fingerprint(made) == before


def norms(tensor: Tensor, axis: int) -> Tensor:
    return tensor.detach().movedim(axis, 0).flatten(1).norm(dim=1)


def test_every_filter_of_a_direction_has_the_norm_of_the_weights_filter() -> None:
    torch.manual_seed(2)
    made = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ConvTranspose2d(6, 4, 3), nn.Flatten(), nn.Linear(4 * 64, 5)
    )
    with torch.no_grad():
        made[0].weight.mul_(torch.linspace(0, 3, 6)[:, None, None, None])  # one filter of zeros among them
    found = filter_normalised(made, torch.Generator().manual_seed(0))
    assert set(found) == {"0.weight", "2.weight", "4.weight"}  # no bias, nothing of the norm
    for name, axis in (("0.weight", 0), ("2.weight", 1), ("4.weight", 0)):
        own = made.get_parameter(name)
        assert torch.allclose(norms(found[name], axis), norms(own, axis), rtol=1e-5, atol=0)
        assert not torch.allclose(norms(found[name], 1 - axis), norms(own, 1 - axis), rtol=1e-3)
        assert not torch.allclose(found[name], own)


def test_a_scaled_network_has_the_same_surface() -> None:
    """What filter-wise directions are for: the scale of weights that batch norm takes out again makes no difference."""
    made, x, labels = network()

    def loss(m: nn.Module) -> float:
        return float(F.cross_entropy(m(x), labels))

    made.eval()
    plain = surface(made, loss, points=3)
    convolution, norm = made.get_submodule("stem.conv"), made.get_submodule("stem.norm")
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    with torch.no_grad():
        convolution.weight.mul_(8)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.mul_(8)
        norm.running_var.copy_(64 * (norm.running_var + norm.eps) - norm.eps)
    scaled = surface(made, loss, points=3)
    for row, other in zip(plain.losses, scaled.losses, strict=True):
        assert row == pytest.approx(other, rel=1e-4)


@pytest.mark.parametrize("points", [1, 2, 10])
def test_there_must_be_a_middle(points: int) -> None:
    with pytest.raises(UsageError, match="odd number"):
        surface(linear()[0], lambda m: 0.0, points=points)


def test_losses_that_are_no_number_stay_what_they_are() -> None:
    found = surface(linear()[0], lambda m: math.nan, points=3)
    assert all(math.isnan(value) for row in found.losses for value in row)
