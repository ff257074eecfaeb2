"""What a forward pass may do to a network and to its caller's picture, and what is then as it was all the same."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from draw import draw, pictures
from looking import CLASS, WAYS, Way
from neocog.core.errors import UsageError
from neocog.explaining.adversarial import accuracy_against, smallest_epsilon
from neocog.explaining.arithmetic import Unit
from neocog.explaining.filters import kernels
from neocog.explaining.inside import inside
from neocog.explaining.patches import read
from neocog.explaining.surface import surface

ALL: dict[str, Way] = WAYS | {
    "read": lambda n, x: read(n, x, "conv", 0, (2, 3)),
    "inside": lambda n, x: inside(n, [x]),
    "smallest epsilon": lambda n, x: smallest_epsilon(n, x.sigmoid(), torch.tensor([CLASS]), (0.5,), (0.25,)),
    "accuracy": lambda n, x: accuracy_against(n, [(x.sigmoid(), torch.tensor([CLASS]))], [0, 0.1], (0.5,), (0.25,)),
    "surface": lambda n, x: surface(n, lambda network: float(network(x.clone()).square().sum()), points=3),
}


def numbers(found: Any) -> Iterator[Tensor]:
    """All that can be found in what a way of looking gives."""
    if isinstance(found, Tensor | int | float):
        yield torch.as_tensor(found)
    elif isinstance(found, list | tuple | Unit):
        for one in vars(found).values() if isinstance(found, Unit) else found:
            yield from numbers(one)


class Counting(nn.Module):
    """Binds a buffer anew, adds one, drops one, and changes one in place."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.conv = nn.Linear(4, 5), nn.Conv2d(3, 4, 3)
        for name in ("seen", "passed", "once"):
            self.register_buffer(name, torch.zeros(1), persistent=name != "once")
        draw(self, (3, 12, 12))

    def forward(self, x: Tensor) -> Tensor:
        self.seen = self.seen + len(x)
        self.passed += len(x)
        self.register_buffer("late", torch.ones(2), persistent=False)
        if hasattr(self, "once"):
            del self.once
        out: Tensor = self.fc(F.relu(self.conv(x)).mean((2, 3)))
        return out


@pytest.mark.parametrize("way", ALL)
def test_buffers_are_the_same_tensors_with_the_same_numbers(way: str) -> None:
    network = Counting()
    before, state = dict(network.named_buffers()), set(network.state_dict())
    ALL[way](network, pictures(1, (3, 12, 12)))
    after = dict(network.named_buffers())
    assert after.keys() == before.keys()
    assert all(after[name] is buffer for name, buffer in before.items())
    assert network.state_dict().keys() == state
    assert all(not buffer.any() for buffer in after.values())


def test_weights_that_are_computed_are_looked_at_and_left() -> None:
    network = nn.Sequential(spectral_norm(nn.Conv2d(3, 4, 3))).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = kernels(network, "0")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not found.pictures.requires_grad
    assert torch.equal(found.norms, network.eval()[0].weight.detach().flatten(1).norm(dim=1))


@pytest.mark.parametrize("way", ALL)
def test_inference_mode_is_no_hindrance(way: str) -> None:
    network = Counting()
    wanted = ALL[way](network, pictures(1, (3, 12, 12)))
    with torch.inference_mode():
        x = pictures(1, (3, 12, 12)).clone()
        assert x.is_inference()
        found = ALL[way](network, x)
        assert torch.is_inference_mode_enabled()
    pairs = list(zip(numbers(wanted), numbers(found), strict=True))
    assert pairs
    assert all(torch.equal(*pair) for pair in pairs)


@pytest.mark.parametrize("way", WAYS)
def test_a_network_without_numbers_is_refused(way: str) -> None:
    with pytest.raises(UsageError, match="Sequential has no numbers"):
        WAYS[way](nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to("meta"), pictures(1, (3, 12, 12)))


class First(nn.Module):
    """Its first operation takes a tenth off, in place or not."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.fc, self.conv = nn.Linear(4, 5), nn.Conv2d(3, 4, 3)
        self.in_place = in_place
        draw(self, (3, 12, 12))

    def forward(self, x: Tensor) -> Tensor:
        x = x.sub_(0.1) if self.in_place else x - 0.1
        out: Tensor = self.fc(F.relu(self.conv(x)).mean((2, 3)))
        return out


@pytest.mark.parametrize("way", ALL)
def test_the_picture_stays_what_it_was(way: str) -> None:
    look, x = ALL[way], pictures(1, (3, 12, 12))
    before = x.clone()
    found = look(First(in_place=True), x)
    assert torch.equal(x, before)
    pairs = list(zip(numbers(found), numbers(look(First(in_place=False), x)), strict=True))
    assert pairs
    assert all(torch.equal(*pair) for pair in pairs)
