"""The arithmetic of one unit of the user's own network: the patch that it reads, its kernel, the products, their sum,
and what the network makes of that number next.

    sum    = (patch * kernel).sum() + bias
    result = pool(activation(scale * sum + shift))        in the order, and as far, as the network takes these steps

The picture is that of Wang et al., "CNN Explainer", IEEE TVCG 2021, arXiv:2004.15004. Nothing is computed a second time
by other rules: the run is watched, and the call into torch that the layer makes says what its kernel meets. So a layer
that pads by itself (layers/same_pad.py) or takes its weights from somewhere else is seen as it is.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neocog.core.errors import UsageError
from neocog.explaining.following import Following, Norm
from neocog.explaining.met import Call, Met, Places
from neocog.explaining.pools import Index, Pooling
from neocog.explaining.taps import resolve, untouched

LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


@dataclass(frozen=True, eq=False)
class Unit:
    """One number of a layer. Numbers are float64; a dense layer has kh = kw = 1 and no rows and columns."""

    layer: str  # its full name
    kind: str  # "Conv2d", "ConvTranspose2d", "Linear" or the name of a class made from one
    channel: int
    position: Index  # (row, column) of the output; of a dense layer (): or (token,)
    patch: Tensor  # (c, kh, kw), c the input channels of the group: what the kernel meets, 0 where nothing
    inside: Tensor  # (kh, kw) bool: False in the padding (whose numbers may be mirrored ones) and in a stride's holes
    rows: Places  # of the input, one for each row of the kernel: < 0 or >= H in the padding, and
    columns: Places  # None where a transposed convolution puts its stride between the numbers
    first_channel: int  # of the input, where the group begins
    kernel: Tensor  # (c, kh, kw)
    products: Tensor  # patch * kernel
    bias: float  # 0 where there is none
    sum: float  # of the products and the bias
    output: float  # what the layer gave
    then: tuple[str, ...]  # names of the next three in the order of the run: ("batch_norm", "relu", "max_pool2d")
    norm: Norm | None
    activation: str | None
    activated: float | None
    pooling: Pooling | None  # None with a pool in `then`: no window reads the number


def convolutions(network: nn.Module) -> list[str]:
    """The names of the layers whose units can be taken apart, dense ones among them."""
    return [name for name, module in network.named_modules() if name and isinstance(module, LAYERS)]


def unit(network: nn.Module, x: Tensor, layer: str, channel: int, position: Sequence[int] | None = None) -> Unit:
    """The unit at `position` of `channel` in what `layer` gives when it is last called. `x`: (1, C, H, W) normalised
    float. `position`: (row, column); of a dense layer nothing, or (token,) where it reads several; one more in front
    where the layer sees one picture as several (windows). UsageError for another layer, or one that was not reached,
    and for a channel or a position that there is not."""
    name = resolve(network, layer)
    module = network.get_submodule(name)
    if not isinstance(module, LAYERS):
        known = convolutions(network)
        some = ", ".join(([part for part in known if part.startswith(f"{name}.")] or known)[:4])
        raise UsageError(
            f"the layer {name} is a {type(module).__name__}, neither convolution nor dense",
            f"the first of those: {some}" if some else "this network has none",
        )
    if x.dim() < 2 or len(x) != 1:
        raise UsageError(f"the input is {tuple(x.shape)}", "give one picture: (1, C, H, W)")
    call, after = Call(), Following()
    place = tuple(position or ())
    seen: list[tuple[Met, float] | UsageError] = []  # of the last call

    def end(module: nn.Module, args: Any, out: Tensor) -> None:
        call.end()
        try:
            index = _index(name, call.name, out.shape, channel, place)
        except UsageError as error:
            seen[:] = [error]  # a later call may fit
            return
        seen[:] = [(call.met(index), float(out.detach()[index]))]
        after.start(out, index)

    with ExitStack() as stack:
        # What is made in inference mode does not count its changes in place, which `Following` reads.
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(untouched(network))
        stack.callback(module.register_forward_pre_hook(call.begin).remove)
        stack.callback(module.register_forward_hook(end).remove)
        stack.enter_context(after)
        stack.enter_context(call)
        network(x.detach().clone())
    if not seen:
        raise UsageError(f"the layer {name} was not reached", "name one that every picture passes")
    if isinstance(seen[0], UsageError):
        raise seen[0]
    met, output = seen[0]
    path = after.path()
    details = [step.detail for step in path]
    bend = next((step for step in path if step.kind == "activation"), None)
    products = met.patch * met.kernel
    return Unit(
        layer=name,
        kind=type(module).__name__,
        channel=channel,
        position=place,
        patch=met.patch,
        inside=met.inside,
        rows=met.rows,
        columns=met.columns,
        first_channel=met.first_channel,
        kernel=met.kernel,
        products=products,
        bias=met.bias,
        sum=float(products.sum()) + met.bias,
        output=output,
        then=tuple(step.name for step in path),
        norm=next((detail for detail in details if isinstance(detail, Norm)), None),
        activation=bend.name if bend else None,
        activated=bend.value if bend else None,
        pooling=next((detail for detail in details if isinstance(detail, Pooling)), None),
    )


def _index(layer: str, call: str, shape: Sequence[int], channel: int, position: Index) -> Index:
    """Of the unit in the layer's output."""
    if not call:
        raise UsageError(f"the layer {layer} computes in a way of its own", "name another one")
    at = len(shape) - (1 if call == "linear" else 3)  # the axis of the channels
    if not 0 <= channel < shape[at]:
        raise UsageError(f"the layer {layer} has no channel {channel}", f"its channels are 0 to {shape[at] - 1}")
    places = [*shape[:at], *shape[at + 1 :]]
    one = places[:1] == [1]
    full = (0, *position) if one and len(position) < len(places) else position
    if len(full) != len(places) or not all(0 <= i < n for i, n in zip(full, places, strict=True)):
        ranges = ", ".join(f"0 to {n - 1}" for n in (places[1:] if one else places))
        raise UsageError(
            f"the layer {layer} has no position {position}", f"its positions are ({ranges})" if ranges else "name none"
        )
    return (*full[:at], channel, *full[at:])
