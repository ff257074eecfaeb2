"""How far a network's weights are moved, layer by layer, and by how large a gradient.

    gradient   the norm of the loss's gradient with respect to a layer's weights: mean and largest over the steps
    update     |what a step changed in w| / |w|, its mean over the steps. About 1e-3 is a rule of thumb: CS231n,
               "Neural Networks Part 3", ratio of weights:updates

A layer is a module with weights of its own: parameters of two or more dimensions, biases left out. Scales and shifts of
norms are none: they start at 1 and 0, where a ratio says nothing. All is added up on the weights' device, in a few
calls for all layers together, and read once a row: no step waits for a number. A norm below 1e-19, whose square no
float32 can hold, counts as 0.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

LARGEST = 4  # row of what is no sum: mean gradient, steps, ratio and steps with one stand before it


def weights_of(network: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """(layer, one of its weights), in the order in which the network was put together."""
    for name, parameter in network.named_parameters():
        layer, _, own = name.rpartition(".")
        if parameter.ndim >= 2 and "bias" not in own:
            yield layer or own, parameter


class Steps:
    """`before` and `after` each step of an optimizer, then `row`. Needs memory for one more copy of the weights."""

    def __init__(self, network: nn.Module) -> None:
        found = list(weights_of(network))
        self.layers = list(dict.fromkeys(layer for layer, _ in found))
        self._weights = [weight for _, weight in found]
        self._owners = [self.layers.index(layer) for layer, _ in found]
        device = self._weights[0].device if found else torch.device("cpu")
        self.sums = torch.zeros(5, len(self.layers), device=device)
        self._moving: list[int] = []  # numbers of the weights that learn now
        self._old: list[Tensor] = []
        self._places = torch.zeros(0, dtype=torch.int64)  # of the layers that they belong to
        self._learns = self._norms = torch.zeros(0)

    @torch.no_grad()
    def before(self) -> None:
        """Where the gradients are there and the weights have not moved."""
        moving = [number for number, weight in enumerate(self._weights) if weight.grad is not None]
        if moving != self._moving:
            self._moving = moving
            self._old = [torch.empty_like(self._weights[i]) for i in moving]
            self._places = torch.tensor([self._owners[i] for i in moving], dtype=torch.int64, device=self.sums.device)
            self._learns = torch.zeros_like(self.sums[0]).index_fill_(0, self._places, 1.0)
        if not moving:
            return
        weights: list[Tensor] = [self._weights[i] for i in moving]
        torch._foreach_copy_(self._old, weights)
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        self._norms = torch.stack(torch._foreach_norm([*weights, *gradients])).float().view(2, -1)

    @torch.no_grad()
    def after(self) -> None:
        """Where the weights have moved."""
        if not self._moving:
            return
        torch._foreach_sub_(self._old, [self._weights[i] for i in self._moving])
        moved = torch.stack(torch._foreach_norm(self._old)).float()
        squares = torch.vstack([self._norms, moved]).square_()
        size, gradient, moved = torch.zeros_like(self.sums[:3]).index_add_(1, self._places, squares).sqrt_()
        known = size > 0  # weights that start at 0 have no ratio at their first step
        self.sums[:LARGEST] += torch.stack([gradient, self._learns, torch.where(known, moved / size, 0.0), known])
        torch.maximum(self.sums[LARGEST], gradient, out=self.sums[LARGEST])

    def row(self) -> list[dict[str, Any]]:
        """Of every layer, over the steps since the last row; None where it did not learn. Then all begins anew."""
        rows = []
        for layer, sums in zip(self.layers, self.sums.T.tolist(), strict=True):
            gradient, steps, update, updates, largest = sums
            rows.append({
                "layer": layer,
                "steps": int(steps),
                "gradient_norm_mean": gradient / steps if steps else None,
                "gradient_norm_largest": largest if steps else None,
                "update_ratio_mean": update / updates if updates else None,
            })  # fmt: skip
        self.sums.zero_()
        return rows

    def tensors(self) -> dict[str, Tensor]:
        return {"sums": self.sums}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        self.sums.copy_(tensors["sums"])
