"""Parameters and multiply-accumulates alone, for whoever needs no table; and any module as shapes without memory."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

from neocog.core.contracts import Network
from neocog.core.errors import UsageError, one_line
from neocog.costs import formulas
from neocog.costs.watch import Watch


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
    with MacCounter() as counter, torch.no_grad():
        twin(torch.empty(1, *input_shape, device="meta", dtype=dtype))
    if isinstance(twin, Network):
        twin.auxiliary = None
    return Count(sum(p.numel() for p in twin.parameters()), counter.macs)


class MacCounter(Watch):
    """Counts the multiply-accumulates of all that runs inside it, forward and backward, on any device.

    >>> with MacCounter() as counter:
    ...     _ = torch.zeros(2, 3) @ torch.zeros(3, 4)
    >>> counter.macs, counter.unknown
    (24, set())
    """

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0
        self.unknown: set[str] = set()  # operators without a formula: with any, `macs` is partial

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        macs = formulas.macs(func, args, kwargs, out)
        if macs is None:
            self.unknown.add(formulas.name_of(func))
        self.macs += macs or 0
        return out


def on_meta(module: nn.Module) -> nn.Module:
    """A copy with the same structure whose parameters and buffers are shapes without memory."""
    return copied(module, lambda tensor: torch.empty_like(tensor, device="meta"))


def copied(module: nn.Module, replace: Callable[[Tensor], Tensor]) -> nn.Module:
    """A copy of the module in which `replace` has made every parameter and buffer. UsageError for modules that cannot
    be seen into."""
    module = getattr(module, "_orig_mod", module)  # what torch.compile wraps
    for name, part in module.named_modules():
        where = f"{type(module).__name__}{f' has at {name} what' if name else ''}"
        if isinstance(part, torch.jit.ScriptModule) or hasattr(part, "_orig_mod"):
            raise UsageError(f"{where} is compiled and cannot be seen into", "give the module it was compiled from")
        if isinstance(part, LazyModuleMixin) and part.has_uninitialized_params():  # type: ignore[misc]
            raise UsageError(f"{where} does not know its sizes yet", "run it once on an input")
    # deepcopy takes what its memo already holds: with every tensor replaced beforehand, none is copied.
    memo: dict[int, Any] = {}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(replace(parameter), requires_grad=parameter.requires_grad)
    for buffer in module.buffers():
        memo[id(buffer)] = replace(buffer)
    for part in module.modules():  # weights that are computed from others, features that are kept
        kept = (value for value in vars(part).values() if isinstance(value, Tensor) and id(value) not in memo)
        memo.update({id(value): replace(value.detach()) for value in kept})
    try:
        return copy.deepcopy(module, memo)
    except (TypeError, RuntimeError) as error:
        raise UsageError(
            f"{type(module).__name__} cannot be copied ({one_line(str(error))[:120]})",
            "keep what cannot be copied out of the module",
        ) from error
