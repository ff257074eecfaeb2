"""Patches that excite channels, what comes back from one unit, and whether maps say anything."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor, nn

import neocog
from neocog.core.errors import UsageError
from neocog.explaining import attribution as a
from neocog.explaining import checks
from neocog.explaining.patches import read, strongest, strongest_of
from neocog.explaining.rectified import Rectified
from test_explain_attribution import he, picture, small
from untouched import fingerprint


def pictures(count: int, side: int = 20, channels: int = 3) -> Tensor:
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(3))


def test_the_strongest_are_those_of_a_sort() -> None:
    network, x = he(small()), pictures(23)
    before = fingerprint(network)
    batches = [(torch.arange(start, min(start + 5, 23)), x[start : start + 5]) for start in range(0, 23, 5)]
    found = strongest(network, batches, "4", most=9)
    assert fingerprint(network) == before
    with torch.no_grad():
        maps = network[:5](x).numpy()
    assert len(found) == maps.shape[1] == 8
    for channel, patches in enumerate(found):
        peaks = maps[:, channel].reshape(23, -1).max(1)
        order = np.argsort(-peaks, kind="stable")[:9]
        assert [patch.picture for patch in patches] == order.tolist()
        assert np.allclose([patch.value for patch in patches], peaks[order], rtol=1e-5)
        for patch in patches:
            assert maps[patch.picture, channel][patch.position] == pytest.approx(patch.value, rel=1e-5)
    few = strongest(network, batches[:1], "4", most=9)
    assert all(len(patches) == 5 for patches in few)
    with pytest.raises(UsageError, match="no pictures"):
        strongest(network, [], "4")
    with pytest.raises(UsageError, match="no grid"):
        strongest(network, batches, "7")


def test_one_pass_serves_several_layers() -> None:
    network, x = he(small()), pictures(7)
    batches = [(torch.arange(4), x[:4]), (torch.arange(4, 7), x[4:])]
    found = strongest_of(network, iter(batches), ["1", "4"], most=3)
    assert found == {layer: strongest(network, batches, layer, most=3) for layer in ("1", "4")}
    assert found["1"] != found["4"]


@pytest.mark.parametrize("name", ["mnist_convnet", "squeezenet1_1", "resnet18"])
def test_the_box_is_what_the_unit_sees(name: str) -> None:
    """Numbers outside of it change nothing; somewhere on each of its edges, a number does."""
    side = 28 if name == "mnist_convnet" else 96
    network = he(neocog.create_model(name, in_channels=3, num_classes=4))
    layer = "stages." + next(iter(dict(network.stages.named_children())))  # type: ignore[union-attr, arg-type]
    x = pictures(1, side)
    patch = strongest(network, [(torch.tensor([0]), x)], layer, most=1)[0][0]
    top, left, bottom, right = patch.box
    assert 0 <= top < bottom <= side
    assert (bottom - top) * (right - left) < side * side

    def unit(x: Tensor) -> Tensor:
        with torch.no_grad():
            return network.features(x)[0][0, 0][patch.position]  # type: ignore[operator, no-any-return]

    outside = torch.ones(side, side, dtype=torch.bool)
    outside[top:bottom, left:right] = False
    assert unit(torch.where(outside, 5 * pictures(1, side).flip(3), x)) == pytest.approx(float(unit(x)), rel=1e-5)
    grown = x.double().requires_grad_()
    (slope,) = torch.autograd.grad(network.double().features(grown)[0].sum((0, 1))[patch.position], grown)  # type: ignore[operator]
    seen = slope[0].abs().sum(0).nonzero()
    assert seen.amin(0).tolist()[0] >= top
    assert seen.amax(0).tolist()[1] < right


def test_one_unit_read_back() -> None:
    """Without a ReLU, it is the gradient times the unit's value; with them, negative ways are cut."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3))
    he(network)
    x = picture(16)
    found = read(network, x, "2", 3, (1, 2))
    leaf = x.clone().requires_grad_()
    unit = network(leaf)[0, 3, 1, 2]
    (slope,) = torch.autograd.grad(unit, leaf)
    assert torch.allclose(found, slope[0] * unit.detach(), atol=1e-6)
    bent = nn.Sequential(network[0], nn.ReLU(), network[1], network[2])
    cut = read(bent, x, "3", 3, (1, 2))
    (back,) = torch.autograd.grad(network[2](y := network[:2](leaf).detach().requires_grad_())[0, 3, 1, 2], y)
    assert back.min() < 0
    assert not torch.allclose(cut, found)
    with Rectified("guided"):
        (back,) = torch.autograd.grad(bent(leaf)[0, 3, 1, 2], leaf)
    assert torch.allclose(read(bent, x, "3", 3, (1, 2), "guided"), back[0] * bent(x)[0, 3, 1, 2].detach(), atol=1e-5)
    with pytest.raises(UsageError, match="0 to 4"):
        read(network, x, "2", 5, (0, 0))


def test_ranks_are_those_of_scipy() -> None:
    draw = np.random.default_rng(0)
    x, y = draw.integers(0, 9, 60), draw.integers(0, 9, 60)
    found = checks.rank_correlation(torch.from_numpy(x).float(), torch.from_numpy(y).float())
    assert found == pytest.approx(spearmanr(x, y).statistic)


def test_what_matters_goes_first() -> None:
    """A class that is the number of white pixels in a corner: the corner's map loses it at once, the others' late."""

    class Corner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            there = x[:, 0, :4, :4].mean((1, 2)) * 8
            return torch.stack([there, 4 - there], 1)

    x = torch.full((1, 1, 16, 16), 1.0)
    heat = torch.zeros(16, 16)
    heat[:4, :4] = 1
    good, bad = checks.deletion(Corner(), x, 0, heat), checks.deletion(Corner(), x, 0, -heat)
    assert good[0] == bad[0] > 0.95
    assert good[-1] == bad[-1] < 0.05
    assert good[2] < 0.05 < bad[29]
    assert checks.area(good) < 0.1 < 0.9 < checks.area(bad)
    back = checks.insertion(Corner(), x * torch.linspace(0, 1, 16), 0, heat, steps=16)
    assert len(back) == 17
    assert checks.area([0.0, 0.5, 1.0]) == pytest.approx(0.5)


def test_a_map_of_edges_survives_and_a_gradient_does_not() -> None:
    network = he(neocog.create_model("mnist_convnet", in_channels=3, num_classes=4))
    before = fingerprint(network)
    x = picture(28)
    twin = checks.randomised(network)
    assert fingerprint(network) == before
    edges = x[0].diff(dim=2).abs().sum(0)
    assert checks.rank_correlation(edges, edges) == pytest.approx(1)
    slopes = [a.gradient(either, x, 1).sum(0) for either in (network, twin)]
    assert abs(checks.rank_correlation(*slopes)) < 0.3
    pairs = zip(twin.parameters(), network.parameters(), strict=True)
    for new, old in pairs:
        assert torch.equal(new.flatten().sort().values, old.flatten().sort().values)
        assert not torch.equal(new, old)


def test_blurring_keeps_the_mean_and_takes_the_edges() -> None:
    x = (torch.arange(40) % 2).float().view(1, 1, 1, 40).repeat(1, 1, 40, 1)
    found = checks.blurred(x)
    assert found.shape == x.shape
    assert float(found.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(found[..., 5:-5].std()) < 0.02 < float(x.std())
    assert torch.allclose(checks.blurred(torch.ones(1, 2, 9, 30)), torch.ones(1, 2, 9, 30), atol=1e-6)
    assert F.mse_loss(checks.blurred(x, 1 / 80), x) < F.mse_loss(found, x)
