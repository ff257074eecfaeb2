"""Channels that never change say nothing: what each channel gives at least and at most, over all pictures."""

from collections.abc import Iterable
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from neocog.core.errors import UsageError
from neocog.explaining.bending import Bending
from neocog.explaining.filters import Convolution
from neocog.explaining.maps import as_maps
from neocog.explaining.taps import resolve, untouched

STILL = 1e-6  # of the largest value a layer gives: rounding, and tails such as GELU's


def dead_channels(network: nn.Module, batches: Iterable[Tensor], layer: str) -> Tensor:
    """(C_out,) bool: the channels that never change, over all pictures and positions of `batches` of (B, C, H, W)
    normalised. What stays at one value tells nothing; behind a ReLU that is what is never above 0.

    Of a convolution the activation that follows it is looked at (bending.py), as a filter whose answers lie far below 0
    is dead only there; where none follows, and of any other layer or stage, what it gives itself. UsageError for an
    unknown layer, and for a single value per channel, which cannot change."""
    with untouched(network), torch.no_grad(), Ranges(network, [layer]) as ranges:
        for x in batches:
            if len(x):
                network(x.clone())
    return ranges.dead(layer)


class Ranges(Bending):
    """The least and the most that each channel of some layers gives, over all that passes while it is entered: one pass
    over the pictures serves as many layers as are named. Nothing but two numbers a channel is kept."""

    def __init__(self, network: nn.Module, layers: Iterable[str]) -> None:
        super().__init__()
        self._network = network
        self._names = [resolve(network, layer) for layer in layers]
        self._given: dict[str, Range] = {}  # by a layer itself
        self._bent: dict[str, Range] = {}  # by the activation that follows a convolution
        self._hooks: list[Any] = []

    def __enter__(self) -> Self:
        for name in self._names:
            self._hooks.append(self._network.get_submodule(name).register_forward_hook(self._recorder(name)))
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *what: Any) -> None:
        super().__exit__(*what)  # type: ignore[no-untyped-call]
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def dead(self, layer: str) -> Tensor:
        """(C_out,) bool, as `dead_channels`."""
        name = resolve(self._network, layer)
        found = self._bent.get(name) or self._given.get(name)
        if found is None or found.values < 2:
            cause = f"the layer {name} gave {found.values if found else 0} values per channel"
            raise UsageError(cause, "take more or larger pictures")
        return found.most - found.least <= STILL * torch.maximum(found.most.abs(), found.least.abs()).max()

    def bent(self, names: set[str], made: Tensor) -> None:
        for name in names:
            self._bent[name] = Range.of(made, name).joined(self._bent.get(name))

    def _recorder(self, name: str) -> Any:
        def record(module: nn.Module, args: Any, out: Any) -> None:
            if not isinstance(out, Tensor):
                raise UsageError(f"the layer {name} gives no single tensor", "name one of its parts")
            if out.is_meta or not out.numel():  # the network's cost is counted without numbers
                return
            self._given[name] = Range.of(out, name).joined(self._given.get(name))
            if isinstance(module, Convolution):
                self.begin(name, out)

        return record


class Range(NamedTuple):
    least: Tensor  # (C,)
    most: Tensor  # (C,)
    values: int  # of each channel that were looked at

    @classmethod
    def of(cls, out: Tensor, name: str) -> "Range":
        maps = as_maps(out.detach(), name)
        return cls(maps.amin((0, 2, 3)), maps.amax((0, 2, 3)), maps.numel() // maps.shape[1])

    def joined(self, other: "Range | None") -> "Range":
        if other is None:
            return self
        least, most = torch.minimum(self.least, other.least), torch.maximum(self.most, other.most)
        return Range(least, most, self.values + other.values)
