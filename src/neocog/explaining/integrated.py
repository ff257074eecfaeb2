"""Integrated gradients: Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks", ICML 2017,
arXiv:1703.01365.

Along the straight way from a baseline to the picture the gradient jumps wherever a ReLU opens or closes, mostly near
its beginning, and equal steps miss the jumps. But each evaluation also tells the score, so of every interval it is
known how far its gradients are from the score's difference: the worst intervals are halved until the steps are used up.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from neocog.core.errors import UsageError
from neocog.explaining.attribution import TOGETHER, score, uphill
from neocog.explaining.taps import one_picture, untouched

HELD = 2**28  # bytes of gradients that are kept at once, 445 of pictures of 224 x 224; of more steps, each part of the
# way has as many
HALVED = 8  # intervals at a time


class Integrated(NamedTuple):
    """`map` (C, H, W); `error`: how far its sum is from what it should be, `difference`, the score of the picture less
    that of the baseline."""

    map: Tensor
    difference: float
    error: float


def integrated(
    network: nn.Module, x: Tensor, target: int, *, baseline: Tensor | None = None, steps: int = 64,
    together: int = TOGETHER,
) -> Integrated:  # fmt: skip
    """The mean gradient on the straight way from `baseline` (1, C, H, W) (default: 0, the mean picture) to the picture,
    times their difference, by trapezia. `steps`: gradients, at least 2 (UsageError)."""
    if steps < 2:
        raise UsageError(f"{steps} steps are too few for a way", "give at least 2")
    one_picture(x)
    start = torch.zeros_like(x) if baseline is None else baseline
    if start.shape != x.shape:
        raise UsageError(f"the baseline is {tuple(start.shape)}", f"give one of the picture's shape, {tuple(x.shape)}")
    way = Way(network, target, start.detach(), (x - start).detach(), together)
    parts = -(-steps // max(16, HELD // (4 * x[0].numel())))
    ends = torch.linspace(0, 1, parts + 1, dtype=torch.float64).tolist()
    with untouched(network):
        total = torch.zeros_like(x[0])
        for first, last in pairwise(ends):
            total += way.mean(first, last, -(-steps // parts))
        with torch.no_grad():
            scores = score(network, torch.cat([x.detach(), start.detach()]), target)
    found = total * way.along[0]
    difference = float(scores[0] - scores[1])
    return Integrated(found, difference, float(found.sum()) - difference)


class Way(NamedTuple):
    """From `start` (1, C, H, W) by `along` (1, C, H, W)."""

    network: nn.Module
    target: int
    start: Tensor
    along: Tensor
    together: int

    def mean(self, first: float, last: float, steps: int) -> Tensor:
        """(C, H, W): the integral of the gradient over `first` to `last`, of 0..1."""
        places = torch.linspace(first, last, max(2, steps // 4), dtype=torch.float64)
        scores, slopes = self.at(places)
        while len(places) < steps:
            rising = torch.einsum("bchw,chw->b", slopes, self.along[0]).double().cpu()
            wrong = scores.diff() - places.diff() * (rising[1:] + rising[:-1]) / 2
            worst = wrong.abs().argsort(descending=True, stable=True)[: min(HALVED, steps - len(places))]
            middles = (places[worst] + places[worst + 1]) / 2
            more, further = self.at(middles)
            places, order = torch.cat([places, middles]).sort()
            scores, slopes = torch.cat([scores, more])[order], torch.cat([slopes, further])[order.to(slopes.device)]
        width = places.diff()
        weights = torch.zeros_like(places)
        weights[:-1] += width / 2
        weights[1:] += width / 2
        return torch.einsum("b,bchw->chw", weights.to(slopes), slopes)

    def at(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """(n,) of 0..1 -> scores (n,) float64 on the CPU and gradients (n, C, H, W)"""
        scores: list[Tensor] = []
        slopes: list[Tensor] = []
        for some in torch.split(places, self.together):
            pictures = self.start + some.to(self.along)[:, None, None, None] * self.along
            found = score(self.network, pictures.requires_grad_(), self.target)
            slopes.append(uphill(found, pictures))
            scores.append(found.detach().double().cpu())
        return torch.cat(scores), torch.cat(slopes)
