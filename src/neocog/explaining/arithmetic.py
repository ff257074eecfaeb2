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

from neocog.core.errors import UsageError, did_you_mean
from neocog.costs.table import Window
from neocog.explaining.following import Following, Norm, Step
from neocog.explaining.met import Call, Met, Places
from neocog.explaining.pools import Index, Pooling
from neocog.explaining.taps import one_picture, resolve, untouched

LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
LISTED = 12  # layers in a message


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
    window: Window | None  # its padding with what the layer adds by itself; None of a dense layer
    flattened: tuple[int, int, int] | None  # (C, H, W) of the map that a dense layer is given as one line
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


def layer_of(network: nn.Module, layer: str) -> str:
    """The full name of a layer whose units can be taken apart. UsageError, which lists those, for another."""
    known = convolutions(network)
    some = ", ".join(known[:LISTED]) + (f" and {len(known) - LISTED} more" if len(known) > LISTED else "")
    first = f"those that can be taken apart: {some}" if known else "this network has none that can be taken apart"
    try:
        name = resolve(network, layer)
    except UsageError:
        near = did_you_mean(layer, known)
        raise UsageError(f"there is no layer {layer!r}", f"{near} {first}" if near else first) from None
    if name in known:
        return name
    inside = ", ".join([part for part in known if part.startswith(f"{name}.")][:LISTED])
    cause = f"the layer {name} is a {type(network.get_submodule(name)).__name__}, neither convolution nor dense"
    raise UsageError(cause, f"those in it: {inside}" if inside else first)


def unit(network: nn.Module, x: Tensor, layer: str, channel: int, position: Sequence[int] | None = None) -> Unit:
    """The unit at `position` of `channel` in what `layer` gives when it is last called. `x`: (1, C, H, W) normalised
    float. `position`: (row, column); of a dense layer nothing, or (token,) where it reads several; one more in front
    where the layer sees one picture as several (windows). UsageError for another layer, or one that was not reached,
    and for a channel or a position that there is not."""
    name, place = layer_of(network, layer), tuple(position or ())
    one_picture(x)
    met, output, path = _watched(network, x, name, channel, place)
    steps = {step.kind: step for step in path}
    norm, bend, pooled = (steps.get(kind) for kind in ("norm", "activation", "pooling"))
    products = met.patch * met.kernel
    return Unit(
        layer=name,
        kind=type(network.get_submodule(name)).__name__,
        channel=channel,
        position=place,
        **met._asdict(),
        products=products,
        sum=float(products.sum()) + met.bias,
        output=output,
        then=tuple(step.name for step in path),
        norm=norm.detail if norm and isinstance(norm.detail, Norm) else None,
        activation=bend.name if bend else None,
        activated=bend.value if bend else None,
        pooling=pooled.detail if pooled and isinstance(pooled.detail, Pooling) else None,
    )


def _watched(network: nn.Module, x: Tensor, name: str, channel: int, place: Index) -> tuple[Met, float, list[Step]]:
    """What the unit meets, what the layer gives for it, and what becomes of that number, in one run."""
    module, call, after = network.get_submodule(name), Call(), Following()
    seen: list[tuple[Met, float] | UsageError] = []  # of the last call

    def end(module: nn.Module, args: Any, out: Tensor) -> None:
        call.end()
        try:
            index = index_of(name, call.name, out.shape, channel, place)
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
    return *seen[0], after.path()


def index_of(layer: str, call: str, shape: Sequence[int], channel: int, position: Index) -> Index:
    """Of the unit in the layer's output."""
    if not call:
        raise UsageError(f"the layer {layer} computes in a way of its own", "name another one")
    at = len(shape) - (1 if call == "linear" else 3)  # the axis of the channels
    if not 0 <= channel < shape[at]:
        raise no_channel(layer, channel, shape[at])
    places = [*shape[:at], *shape[at + 1 :]]
    one = places[:1] == [1]
    full = (0, *position) if one and len(position) < len(places) else position
    if len(full) != len(places) or not all(0 <= i < n for i, n in zip(full, places, strict=True)):
        ranges = ", ".join(f"0 to {n - 1}" for n in (places[1:] if one else places))
        raise UsageError(
            f"the layer {layer} has no position ({', '.join(map(str, position))})",
            f"its positions are ({ranges})" if ranges else "name none",
        )
    return (*full[:at], channel, *full[at:])


def no_channel(layer: str, channel: int, count: int) -> UsageError:
    return UsageError(f"the layer {layer} has no channel {channel}", f"its channels are 0 to {count - 1}")
