"""Parameters and multiply-accumulates of any module, without data and without allocating anything.

The module is copied with its tensors replaced by shapes (PyTorch's meta device) and run once; PyTorch's
FLOP counter watches the operators. It counts two operations per multiply-accumulate and sees convolutions
and matrix products; what remains (norms, activations, pools, additions) is below 1 % in the networks here.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from neocog.core.contracts import Network


@dataclass(frozen=True)
class Count:
    """`params`: numbers that are learned, shared ones once, without auxiliary heads (which only training
    uses). `macs`: multiply-accumulates for one picture."""

    params: int
    macs: int


def count(module: nn.Module, input_shape: tuple[int, ...]) -> Count:
    """The cost of `module` in eval mode on one input of `input_shape` (without the batch): (3, 224, 224).

    The module itself is untouched. Whatever PyTorch raises for an input that does not fit is passed on.
    """
    twin = on_meta(module).eval()
    dtype = next((p.dtype for p in twin.parameters() if p.is_floating_point()), torch.get_default_dtype())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        twin(torch.empty(1, *input_shape, device="meta", dtype=dtype))
    if isinstance(twin, Network):
        twin.auxiliary = None
    return Count(sum(p.numel() for p in twin.parameters()), counter.get_total_flops() // 2)


def on_meta(module: nn.Module) -> nn.Module:
    """A copy with the same structure whose parameters and buffers are shapes without memory."""
    # deepcopy takes what its memo already holds: with every tensor replaced beforehand, none is copied.
    memo: dict[int, Any] = {}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(_shape_of(parameter), requires_grad=parameter.requires_grad)
    for buffer in module.buffers():
        memo[id(buffer)] = _shape_of(buffer)
    return copy.deepcopy(module, memo)


def _shape_of(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, device="meta")
