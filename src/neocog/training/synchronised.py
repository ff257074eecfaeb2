"""Batch norm over the batches of all processes.

Each process sees its share of a batch only, and a small share has noisy statistics. Here mean and variance are
those of the whole batch, forwards and backwards, as nn.SyncBatchNorm has them, which torch offers on GPUs alone.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def synchronise(network: nn.Module) -> None:
    """Has every batch norm of a network learn from all processes, in place; names and values stay."""
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm):
                setattr(module, name, Synchronised(child))


class Synchronised(_BatchNorm):
    """(B, C, ...) of this process -> the same, normalised per channel over the batches of all processes."""

    def __init__(self, other: _BatchNorm) -> None:
        super().__init__(other.num_features, other.eps, other.momentum, other.affine, other.track_running_stats)
        for name in ("weight", "bias"):
            setattr(self, name, getattr(other, name))
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            setattr(self, name, getattr(other, name))
        self.training = other.training

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of places."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            result: Tensor = super().forward(input)
            return result
        axes = [0, *range(2, input.ndim)]
        shape = [1, -1, *[1] * (input.ndim - 2)]
        values = input.float()
        count = torch.full((1,), values.numel() / values.shape[1], device=input.device)
        sums = _sum(torch.cat([values.sum(axes), count]))
        n = sums[-1].detach()
        mean = sums[:-1] / n
        # Around the mean: the difference of two large sums would lose the digits of a small variance.
        centred = values - mean.view(shape)
        variance = _sum(centred.square().sum(axes)) / n
        if self.track_running_stats:
            self._remember(mean.detach(), variance.detach() * n / (n - 1))
        result = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            result = result * self.weight.view(shape) + self.bias.view(shape)
        return result.to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, unbiased: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(unbiased, share)


class _Sum(torch.autograd.Function):
    """Over all processes, forwards and backwards."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Sum.forward(ctx, gradient)


def _sum(values: Tensor) -> Tensor:
    result: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return result
