"""Where a number ends: the one of the network's output that it alone has a part in.

A NaN in its place spreads to everything that reads it, through whatever the network does, so the run is asked instead
of the layers. Behind the last dense layer it reaches one score, behind an autoencoder's last convolution one pixel.
"""

from typing import Any

import torch
from torch import Tensor, nn

from neocog.core.errors import UsageError
from neocog.explaining.arithmetic import Unit, index_of
from neocog.explaining.pools import Index
from neocog.explaining.taps import untouched


def end_of(network: nn.Module, x: Tensor, found: Unit) -> tuple[Index, Tensor] | None:
    """`found`: of `network` for `x`, (1, C, H, W). (index, output), without the batch: `output` is what the network
    gives for `x`. None where the number reaches several of it, or none."""
    call = "linear" if found.window is None else "conv2d"

    def poison(module: nn.Module, args: Any, out: Tensor) -> Tensor:
        try:
            index = index_of(found.layer, call, out.shape, found.channel, found.position)
        except UsageError:
            return out  # a call with other places, before the one that is told of
        out = out.clone()
        out[index] = torch.nan
        return out

    with torch.no_grad(), untouched(network):
        output = network(x)
        hook = network.get_submodule(found.layer).register_forward_hook(poison)
        try:
            poisoned = network(x)
        finally:
            hook.remove()
    if not isinstance(output, Tensor) or output.shape[0] != 1 or output.isnan().any():
        return None
    reached = poisoned[0].isnan().nonzero()
    return (tuple(reached[0].tolist()), output[0]) if len(reached) == 1 else None
