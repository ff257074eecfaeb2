"""What each channel says about one picture: the maps of every stage, and a layer before and after its activation.

Nothing is rebuilt: the network runs once as it is, and what passes is recorded. An activation is recognised by the call
into torch, so that a module, a function, a method and one that works in place are the same thing.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from neocog.core.errors import UsageError
from neocog.explaining.following import ACTIVATIONS
from neocog.explaining.taps import Tapped, resolve, stage_names, untouched

# What may stand between a layer and its activation and still leaves every channel by itself: norms, pools, dropout
# and a scale. A sum with another path is not among them: what bends it bends more than this layer.
BETWEEN = {
    "adaptive_avg_pool2d", "adaptive_max_pool2d", "alpha_dropout", "avg_pool2d", "batch_norm", "clone", "contiguous",
    "div", "dropout", "dropout2d", "feature_dropout", "group_norm", "instance_norm", "layer_norm",
    "local_response_norm", "max_pool2d", "mul", "permute", "truediv",
}  # fmt: skip


@dataclass(frozen=True)
class Maps:
    """Of one picture and one layer."""

    layer: str
    maps: Tensor  # (C, h, w)
    means: Tensor  # (C,) over all positions
    order: Tensor  # (C,) int64, the channel of the largest mean first


@dataclass(frozen=True)
class Bend:
    """A layer's last call and the first activation that took what it gave, directly or through norms, pools, dropout
    and scales. Where there is none `before` is the output, `after` and `activation` are None."""

    layer: str
    output: Tensor  # (B, C, h, w), what the layer gave
    before: Tensor  # (B, C, h', w'), what the activation took: the output itself where nothing stands between
    after: Tensor | None  # (B, C, h', w'), what it gave
    activation: str | None  # its name in torch


def activations(network: nn.Module, x: Tensor, layers: Iterable[str] | None = None) -> list[Maps]:
    """What the `layers` (all stages) give for one picture, (1, C, H, W) normalised, each as maps: see `as_maps`.
    UsageError for several pictures, an unknown layer, or one that gives no maps."""
    if len(x) != 1:
        raise UsageError(f"maps are those of one picture, not of {len(x)}", "hand over one")
    names = [resolve(network, name) for name in (stage_names(network) if layers is None else layers)]
    with untouched(network), Tapped(network, names) as taps:
        network(x)
        found = [(name, as_maps(taps[name].detach(), name)[0]) for name in names]
    return [_described(name, maps) for name, maps in found]


def _described(layer: str, maps: Tensor) -> Maps:
    means = maps.mean((1, 2))
    return Maps(layer, maps, means, means.argsort(descending=True, stable=True))


def as_maps(out: Tensor, layer: str) -> Tensor:
    """(B, C, h, w) itself; tokens (B, N, D) -> (B, D, g, g); a vector (B, D) -> (B, D, 1, 1). UsageError otherwise."""
    if out.dim() == 3:
        return to_grid(out)
    if out.dim() == 2:
        return out[:, :, None, None]
    if out.dim() != 4:
        raise UsageError(f"the layer {layer} gives {tuple(out.shape)}, which are no maps", "name another")
    return out


def to_grid(tokens: Tensor) -> Tensor:
    """(B, N, D) -> (B, D, g, g), row by row. A class token, known by N = g * g + 1, comes first and is left out: it has
    no place. UsageError where the tokens make no square."""
    n = tokens.shape[1]
    side = math.isqrt(n)
    if side * side != n:
        side = math.isqrt(n - 1)
        if side * side != n - 1:
            raise UsageError(f"{n} tokens make no square", "name a layer that gives maps")
        tokens = tokens[:, 1:]
    return tokens.transpose(1, 2).reshape(len(tokens), -1, side, side)


def before_and_after(network: nn.Module, x: Tensor, layer: str) -> Bend:
    """(B, C, H, W) normalised -> what `layer` gave, and the activation that follows it. Where an activation is spelled
    in several operations (x * sigmoid(x)) it is its first one that is known by name. UsageError for an unknown layer,
    one that is not reached or gives no single tensor."""
    name = resolve(network, layer)
    following = _Following(name)
    with untouched(network), torch.no_grad():
        hook = network.get_submodule(name).register_forward_hook(following.start)
        try:
            with following:
                network(x)
        finally:
            hook.remove()
    if following.bend is None:
        raise UsageError(f"the layer {name} was not reached", "name one that every picture passes")
    return following.bend


class _Following(TorchFunctionMode):
    """Follows what a layer gave from call to call, until the first activation takes it."""

    def __init__(self, layer: str) -> None:
        super().__init__()
        self.layer = layer
        self.bend: Bend | None = None
        self._followed: list[Tensor] = []  # kept alive, so that no other tensor gets the identity of one

    def start(self, module: nn.Module, args: Any, out: Any) -> None:
        if not isinstance(out, Tensor):
            raise UsageError(f"the layer {self.layer} gives no single tensor", "name one of its parts")
        output = out.clone()
        self.bend, self._followed = Bend(self.layer, output, output, None, None), [out]

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        taken = next((x for x in tensors if any(x is known for known in self._followed)), None)
        if taken is None:
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "").strip("_")
        if name in ACTIVATIONS and self.bend is not None:
            before = taken.clone()  # the call may change it in place
            out = func(*args, **kwargs)
            self.bend = Bend(self.layer, self.bend.output, before, out.clone(), name)
            self._followed = []
            return out
        out = func(*args, **kwargs)
        if name in BETWEEN and isinstance(out, Tensor) and not (name in ("mul", "div", "truediv") and len(tensors) > 1):
            self._followed.append(out)
        elif out is taken:  # changed in place by something that mixes: a sum with a shortcut
            self._followed = [known for known in self._followed if known is not out]
        return out
