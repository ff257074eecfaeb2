"""The loss around a network's weights, on a plane through them.

Two directions are drawn at random and each of their filters is given the norm of the weights' own filter; biases and
what belongs to norms stay where they are. So steps mean the same in every layer and in every network, however its
weights are scaled: Li, Xu, Taylor, Studer and Goldstein, "Visualizing the Loss Landscape of Neural Nets", NeurIPS 2018,
arXiv:1712.09913, section 4. At distance 1 each filter has been changed by as much as there is of it.

A filter is what makes one output: a row of a dense layer's weights, one of a convolution's, of a transposed one's that
of its second axis. Batch norm uses the statistics that it has.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from neocog.core.errors import UsageError
from neocog.explaining.steps import weights_of
from neocog.explaining.taps import untouched

POINTS = 11
REACH = 1.0

Direction = Mapping[str, Tensor]  # by the parameter's name; what is not in it stays


class Surface(NamedTuple):
    """`losses[i][j]`: at the weights plus `places[j]` times the first direction and `places[i]` times the second; in
    the middle, at 0, the weights themselves."""

    places: list[float]
    losses: list[list[float]]


def surface(
    network: nn.Module, loss: Callable[[nn.Module], float], *, seed: int = 0,
    directions: tuple[Direction, Direction] | None = None, points: int = POINTS, reach: float = REACH,
    told: Callable[[int, int], None] | None = None,
) -> Surface:  # fmt: skip
    """`loss` of the network, in eval mode, at `points` x `points` places up to `reach` to each side. `directions`: as
    `filter_normalised` gives them, by default those of `seed`. Afterwards weights, modes, buffers and random generators
    are as they were, bit for bit. `told`: of each place that is done, and how many there are."""
    if points < 3 or points % 2 == 0:
        raise UsageError(f"{points} points have none in their middle", "give an odd number, at least 3")
    generator = torch.Generator().manual_seed(seed)
    first, second = directions or (filter_normalised(network, generator), filter_normalised(network, generator))
    moved = [(p, p.detach().clone(), first.get(name), second.get(name)) for name, p in network.named_parameters()]
    moved = [one for one in moved if one[2] is not None or one[3] is not None]
    places = [reach * (2 * i - (points - 1)) / (points - 1) for i in range(points)]
    losses: list[list[float]] = []
    with untouched(network), torch.no_grad():
        try:
            for b in places:
                losses.append([])
                for a in places:
                    for weight, own, along, across in moved:
                        weight.copy_(own)  # each place from the weights themselves, so that no rounding adds up
                        for share, direction in ((a, along), (b, across)):
                            if share and direction is not None:
                                weight.add_(direction, alpha=share)
                    losses[-1].append(loss(network))
                    if told is not None:
                        told((len(losses) - 1) * points + len(losses[-1]), points * points)
        finally:
            for weight, own, _, _ in moved:
                weight.copy_(own)
    return Surface(places, losses)


def filter_normalised(network: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
    """A direction, for every weight that is one of `weights_of`. `generator`: of the CPU, so that the direction is the
    same on every device and in every memory layout."""
    counted = {id(weight) for _, weight in weights_of(network)}
    transposed = {id(m.weight) for m in network.modules() if isinstance(m, _ConvTransposeNd)}
    found = {}
    for name, weight in network.named_parameters():
        if id(weight) not in counted:
            continue
        drawn = torch.randn(weight.shape, generator=generator)
        axis = 1 if id(weight) in transposed else 0
        rest = [i for i in range(weight.ndim) if i != axis]
        own = weight.detach().to("cpu", torch.float32)
        sizes = own.square().sum(rest, keepdim=True).sqrt()
        scale = sizes / drawn.square().sum(rest, keepdim=True).sqrt().clamp_min(1e-12)
        found[name] = torch.empty_like(weight).copy_(drawn * scale)
    return found
