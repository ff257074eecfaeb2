"""A layer alone, or with what follows it, for questions about the arithmetic of one of its units."""

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

CLOSE = {"rel": 1e-6, "abs": 1e-6}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def filled(layer: nn.Module) -> nn.Sequential:
    """The layer alone in a network, in double, with weights that tell every two apart."""
    network = nn.Sequential(layer).double().eval().requires_grad_(False)
    with torch.no_grad():
        for place, weight in enumerate(network.parameters()):
            weight.copy_(normal(*weight.shape, seed=place + 5))
    return network


def places(out: Tensor, some: int = 6) -> list[tuple[int, int, int]]:
    """Corners, where padding is met, and random places of random channels."""
    _, c, h, w = out.shape
    draw = random.Random(0)
    corners = [(draw.randrange(c), i, j) for i in {0, h - 1} for j in {0, w - 1}]
    return corners + [(draw.randrange(c), draw.randrange(h), draw.randrange(w)) for _ in range(some)]


class Written(nn.Module):
    """conv, then whatever `rest` does with its maps; the last tensor is kept."""

    def __init__(self, rest: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.relu, self.prelu, self.rest = nn.ReLU(), nn.PReLU(3), rest
        nn.init.uniform_(self.norm.running_mean, -0.5, 0.5)
        nn.init.uniform_(self.norm.running_var, 0.5, 2)
        nn.init.uniform_(self.norm.weight, 0.5, 2)
        nn.init.uniform_(self.norm.bias, -1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(self, self.conv(x))


def written(rest: Callable[[Any, Tensor], Tensor]) -> Written:
    torch.manual_seed(0)
    return Written(rest).double().eval().requires_grad_(False)


X = normal(1, 2, 7, 8, seed=3)
