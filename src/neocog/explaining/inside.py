"""What a network's parts give for a fixed set of pictures: how values are spread, and which units are dead.

    stage       stem, every stage, head: mean, standard deviation and histogram of the values, from an even sample of
                them; and how many of all of them are not finite
    rectifier   every ReLU, however it is spelled (rectified.py): a unit is one place of its output, a channel all
                places of one filter. Dead is what gives 0 for every picture (CS231n, "Neural Networks Part 1")

The network is in eval mode and is left as it was (taps.py).
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from neocog.core.errors import UsageError
from neocog.explaining.rectified import cut_at
from neocog.explaining.taps import stage_names, untouched

BINS = 32
SPREAD = 4.0  # standard deviations to both sides of the mean, which the bins cover; the last ones hold what lies beyond
SAMPLE = 16_384  # values of a stage and a batch


class Stage(NamedTuple):
    """`counts`: BINS numbers of sampled values, in bins of equal width from `low` to `high`. None where no value is
    finite."""

    name: str
    mean: float | None
    std: float | None
    not_finite: int
    low: float | None
    high: float | None
    counts: list[int]


class Rectifier(NamedTuple):
    """`name`: of the module that calls it, with a number from the second call on."""

    name: str
    channels: int
    dead_channels: int
    units: int
    dead_units: int


def inside(
    network: nn.Module, batches: Sequence[Tensor], *, bf16: bool = False
) -> tuple[list[Stage], list[Rectifier]]:  # fmt: skip
    """`batches`: of inputs, (B, C, H, W) normalised for an image network. `bf16`: computed so, as training may be."""
    values, rectifiers = _Values(), _Rectifiers()
    with untouched(network), torch.no_grad(), ExitStack() as hooks:
        for name in parts_of(network):
            module = network.get_submodule(name)
            hooks.callback(module.register_forward_hook(values.recorder(name)).remove)
        for name, module in network.named_modules():
            hooks.callback(module.register_forward_pre_hook(rectifiers.entering(name)).remove)
            hooks.callback(module.register_forward_hook(rectifiers.leaving).remove)
        for batch in batches:
            if not len(batch):
                raise UsageError("there are no pictures to look at", "give at least one in each batch")
            rectifiers.calls.clear()
            with torch.autocast(batch.device.type, torch.bfloat16, enabled=bf16), rectifiers:
                network(batch.clone())
    return values.stages(), rectifiers.found()


def parts_of(network: nn.Module) -> list[str]:
    """What lies between the picture and the answer, by name: the stages, and what is before and after them."""
    names = stage_names(network)
    if any(name.startswith("stages.") for name in names):
        names = ["stem", *names, "head"]
    known = dict(network.named_modules())
    return [name for name in names if name in known]


class _Values:
    """Samples of what modules give, where it is a tensor."""

    def __init__(self) -> None:
        self.samples: dict[str, list[Tensor]] = {}
        self.not_finite: Counter[str] = Counter()

    def recorder(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def record(module: nn.Module, args: Any, out: Any) -> None:
            if not isinstance(out, Tensor) or not out.is_floating_point() or not out.numel():
                return
            # A sum is finite where all is, and needs no memory; only where it is not must they be counted.
            self.not_finite[name] += 0 if bool(out.sum().isfinite()) else int((~out.isfinite()).sum())
            self.samples.setdefault(name, []).append(sample(out).float().cpu())

        return record

    def stages(self) -> list[Stage]:
        return [spread(name, torch.cat(parts), self.not_finite[name]) for name, parts in self.samples.items()]


def sample(values: Tensor) -> Tensor:
    """At most SAMPLE of them, evenly from the order in which they lie in memory. The step has no divisor in common with
    a picture's size, so that it falls on all channels and places."""
    dense = values.is_contiguous() or (values.ndim == 4 and values.is_contiguous(memory_format=torch.channels_last))
    n = values.numel()
    step = -(-n // SAMPLE)
    while step > 1 and math.gcd(step, values[0].numel()) > 1:
        step += 1
    flat = values.as_strided((n,), (1,)) if dense else values.flatten()
    return flat[::step].clone()


def spread(name: str, values: Tensor, not_finite: int) -> Stage:
    """Of (N,) values on the CPU."""
    values = values[values.isfinite()].double()
    if not len(values):
        return Stage(name, None, None, not_finite, None, None, [])
    mean, std = float(values.mean()), float(values.std(correction=0))
    low = max(float(values.min()), mean - SPREAD * std)
    high = min(float(values.max()), mean + SPREAD * std)
    if not low < high:
        low, high = low - 0.5, high + 0.5
    counts = torch.histc(values.clamp(low, high), BINS, low, high)
    return Stage(name, mean, std, not_finite, low, high, [int(count) for count in counts])


def awake(out: Tensor) -> Tensor:
    """(B, ...) not below 0 -> (...) bool: where it is more than 0 for any picture. In channels_last it is reduced as it
    lies in memory, which takes a twentieth of the time."""
    if out.ndim == 4 and out.is_contiguous(memory_format=torch.channels_last):
        return (out.permute(0, 2, 3, 1).amax(0) != 0).permute(2, 0, 1)
    return out.amax(0) != 0


class _Rectifiers(TorchFunctionMode):
    """Notes at every rectifier which units ever gave something."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[str, Tensor] = {}  # of one picture's shape, bool
        self.calls: Counter[str] = Counter()  # in this batch
        self._within: list[str] = []

    def entering(self, name: str) -> Callable[[nn.Module, Any], None]:
        return lambda module, args: self._within.append(name)

    def leaving(self, module: nn.Module, args: Any, out: Any) -> None:
        self._within.pop()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and out.ndim >= 2 and cut_at(func, args, kwargs or {}) is not None:
            module = self._within[-1] if self._within else ""
            self.calls[module] += 1
            number = self.calls[module]
            name = f"{module} ({number})" if number > 1 else module
            alive = awake(out)
            self.alive[name] = self.alive[name] | alive if name in self.alive else alive
        return out

    def found(self) -> list[Rectifier]:
        found = []
        for name, alive in self.alive.items():
            # Of tokens (N, D) a channel is a column, of maps (C, h, w) the first axis.
            channels = alive.any(0) if alive.ndim == 2 else alive.flatten(1).any(1) if alive.ndim > 2 else alive
            dead = int((~channels).sum()), int((~alive).sum())
            found.append(Rectifier(name, len(channels), dead[0], alive.numel(), dead[1]))
        return found
