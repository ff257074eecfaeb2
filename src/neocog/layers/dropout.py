"""Dropout: silence a random share of the values while training, so that no unit can lean on another.

Paper: Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", JMLR 2014,
https://jmlr.org/papers/v15/srivastava14a.html. As everywhere today, the values that stay are scaled up
while training instead of down when predicting.

On a CPU PyTorch draws one float per value, one after the other. Here each value costs one random byte, and
eight bytes come from one draw: forward and backward together take a third to a sixth of the time
(128 x 1600 values, one thread). A byte knows 256 levels, so the share dropped is p rounded to 1/256; the
scale is taken from the rounded share, so the expectation is exact.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEVELS = 256


class Dropout(nn.Module):
    """Any shape -> the same shape. Identity in eval mode. Draws from PyTorch's global generator."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout = {p} must be at least 0 and below 1")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.p)
        # Below 1/512 a byte cannot drop anything; above 511/512 it must still keep something.
        dropped = min(max(round(self.p * LEVELS), 1), LEVELS - 1)
        keep = random_bytes(x) >= dropped
        # One factor per value, 0 or the scale: a multiplication is faster here than torch.where.
        return x * keep.to(x.dtype).mul_(LEVELS / (LEVELS - dropped))

    def extra_repr(self) -> str:
        return f"p={self.p}"


def random_bytes(like: Tensor) -> Tensor:
    """Independent uniform bytes (uint8) in the shape of `like`, and in its memory layout where that is dense."""
    n = like.numel()
    # From -2**63 on: without it the draws would never be negative, and every eighth byte below 128.
    draws = torch.empty((n + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
    flat = draws.view(torch.uint8)[:n]
    if like.dim() == 4 and like.is_contiguous(memory_format=torch.channels_last):
        return flat.as_strided(like.shape, like.stride())
    return flat.view(like.shape)
