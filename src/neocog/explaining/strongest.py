"""The unit of a layer that one picture excites most, and the map that it stands in."""

import torch
from torch import Tensor, nn

from neocog.core.errors import UsageError
from neocog.explaining.arithmetic import layer_of, no_channel
from neocog.explaining.pools import Index
from neocog.explaining.taps import Tapped, untouched


def channels_of(network: nn.Module, x: Tensor, layer: str) -> Tensor:
    """(C, *places): what `layer` gives for one picture when it is last called, places as `unit` counts them: (C, h, w)
    of a convolution, (C,) of a dense layer, (C, N) of one that reads N tokens."""
    name = layer_of(network, layer)
    with untouched(network), torch.no_grad(), Tapped(network, [name]) as taps:
        network(x.detach().clone())
    out = taps[name].cpu().double()
    out = out.movedim(-1 if isinstance(network.get_submodule(name), nn.Linear) else -3, 0)
    return out[:, 0] if out.dim() > 1 and out.shape[1] == 1 else out


def strongest_unit(maps: Tensor, layer: str, channel: int | None = None) -> tuple[int, Index]:
    """(channel, position) of the largest number of (C, *places), or of one channel of it: of equal ones the first.
    UsageError where there is no such channel."""
    if channel is not None and not 0 <= channel < len(maps):
        raise no_channel(layer, channel, len(maps))
    among = maps if channel is None else maps[channel : channel + 1]
    if not among.isfinite().any():
        raise UsageError(f"the layer {layer} gives no finite number for this picture", "name another layer")
    best = torch.unravel_index(among.nan_to_num(float("-inf")).argmax(), among.shape)
    own, *place = (int(i) for i in best)
    return own if channel is None else channel, tuple(place)
