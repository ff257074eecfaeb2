"""What each channel says about one picture: the maps of every stage, and a layer before and after its activation.

Nothing is rebuilt: the network runs once as it is, and what passes is recorded. An activation is recognised by the call
into torch, so that a module, a function, a method and one that works in place are the same thing.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from neocog.core.errors import UsageError
from neocog.explaining.bending import Bending
from neocog.explaining.taps import Tapped, one_picture, resolve, stage_names, untouched


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
    one_picture(x)
    names = [resolve(network, name) for name in (stage_names(network) if layers is None else layers)]
    with untouched(network), Tapped(network, names) as taps:
        network(x.detach().clone())
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
    side, first = grid(tokens.shape[1])
    return tokens[:, first:].transpose(1, 2).reshape(len(tokens), -1, side, side)


def grid(tokens: int) -> tuple[int, int]:
    """The side of the square that so many tokens make, and which of them is its first. UsageError for none."""
    for first in (0, 1):
        side = math.isqrt(tokens - first)
        if side and side * side == tokens - first:
            return side, first
    raise UsageError(f"{tokens} tokens make no square", "name a layer that gives maps")


def before_and_after(network: nn.Module, x: Tensor, layer: str) -> Bend:
    """(B, C, H, W) normalised -> what `layer` gave, and the activation that follows it. Where an activation is spelled
    in several operations (x * sigmoid(x)) it is its first one that is known by name. UsageError for an unknown layer,
    one that is not reached or gives no single tensor."""
    name = resolve(network, layer)
    following = _Bent(name)
    with untouched(network), torch.no_grad():
        hook = network.get_submodule(name).register_forward_hook(following.start)
        try:
            with following:
                network(x.clone())
        finally:
            hook.remove()
    if following.bend is None:
        raise UsageError(f"the layer {name} was not reached", "name one that every picture passes")
    return following.bend


class _Bent(Bending):
    """Of one layer."""

    def __init__(self, layer: str) -> None:
        super().__init__()
        self.layer = layer
        self.bend: Bend | None = None

    def start(self, module: nn.Module, args: Any, out: Any) -> None:
        if not isinstance(out, Tensor):
            raise UsageError(f"the layer {self.layer} gives no single tensor", "name one of its parts")
        output = out.clone()
        self.bend = Bend(self.layer, output, output, None, None)
        self.begin(self.layer, out)

    def bends(self, names: set[str], taken: Tensor, activation: str) -> None:
        assert self.bend is not None
        self.bend = replace(self.bend, before=taken.clone(), activation=activation)

    def bent(self, names: set[str], made: Tensor) -> None:
        assert self.bend is not None
        self.bend = replace(self.bend, after=made.clone())
