"""What a network does next with a number of a layer's: batch norm, a bend, a pool, in the order that it takes them.

The order of the modules does not say it, so the run is watched: of every call into torch that reads the layer's tensor
the name and the result are kept. A module, a function, a method and one that works in place are then the same thing.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from neocog.explaining.pools import Index, Pooling, is_pool, named, pooling

# Names of functions in torch, without the underscores of private ones and of those that work in place.
ACTIVATIONS = {
    "relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "selu", "celu", "glu", "gelu", "silu", "mish", "hardswish",
    "hardsigmoid", "hardtanh", "hardshrink", "softshrink", "tanhshrink", "sigmoid", "expit", "logsigmoid",
    "log_sigmoid", "tanh", "softplus", "softsign", "softmax", "log_softmax", "threshold", "clamp", "clamp_min", "clip",
}  # fmt: skip
NORM_ARGUMENTS = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
BUILT_IN_NORM = ("input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps")

Key = tuple[int, int]  # a tensor, and how often it has been changed in place


@dataclass(frozen=True)
class Norm:
    """Batch norm as it stands in front of one channel: result = scale * number + shift."""

    scale: float
    shift: float
    result: float


class Step(NamedTuple):
    kind: str  # "norm", "activation", "pooling", "same" (only moved), "scaled" (by `detail`), "" (something else)
    name: str
    reads: frozenset[Key]
    makes: Key
    value: float | None  # what the number has become; None: it is cut off
    detail: Norm | Pooling | float | None
    single: bool  # whether it leaves one number of each map


class Following(TorchFunctionMode):
    """While it is entered, what happens to one number of the tensor given to `start` is recorded; `path` tells it."""

    def __init__(self) -> None:
        super().__init__()
        self._steps: list[Step] = []
        self._places: dict[Key, tuple[Tensor, Index]] = {}  # holds the tensors, or an id might be given twice

    def start(self, tensor: Tensor, index: Index) -> None:
        """Forgets what was recorded before."""
        self._steps.clear()
        self._places = {_key(tensor): (tensor, index)}
        self._first = _key(tensor)

    def path(self) -> list[Step]:
        """Each of norm, activation and pooling at most once, as far as one leads to the next."""
        key, found = self._first, list[Step]()
        while step := self._next(key, {"norm", "activation", "pooling"} - {step.kind for step in found}):
            key = step.makes
            if step.kind != "same":
                found.append(step)
        return found

    def _next(self, key: Key, wanted: set[str]) -> Step | None:
        readers = self._readers(key)
        if "activation" in wanted and (bend := self._bend(readers)):
            return bend
        for step in readers:
            # The mean of a map that is also read by others opens a side branch: squeeze and excitation.
            if step.kind in wanted and not (step.single and len(readers) > 1):
                return step
        return next((step for step in readers if step.kind == "same"), None)

    def _bend(self, readers: list[Step]) -> Step | None:
        """The activation with what belongs to it: LeCun's 1.7159 tanh(2x / 3) is three calls, x sigmoid(x) two."""
        bends = [(step, "x") for step in readers if step.kind == "activation"]
        for inner in readers:
            if inner.kind == "scaled":
                after = (step for step in self._readers(inner.makes) if step.kind == "activation")
                bends += [(step, f"{inner.detail:.6g} * x") for step in after]
        for bend, x in bends:
            name, rest = f"{bend.name}({x})", self._readers(bend.makes)
            for gate in readers:
                if gate.name in ("mul", "imul") and gate in rest:
                    return gate._replace(kind="activation", name=f"x * {name}")
            if len(rest) == 1 and rest[0].kind == "scaled":
                return rest[0]._replace(kind="activation", name=f"{rest[0].detail:.6g} * {name}")
            return bend if x == "x" else bend._replace(name=name)
        return None

    def _readers(self, key: Key) -> list[Step]:
        return [step for step in self._steps if key in step.reads]

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = list(_tensors((args, kwargs)))
        reads = frozenset(_key(tensor) for tensor in given) & self._places.keys() if self._places else frozenset()
        if not reads:
            return func(*args, **kwargs)
        source = next(tensor for tensor in given if _key(tensor) in reads)
        leads = source is given[0]
        index, before = self._places[_key(source)][1], source.detach().clone()  # it may be changed in place
        out = func(*args, **kwargs)
        made = next(_tensors(out), None)
        if made is None or _key(made) in self._places:  # a shape was asked for, or dropout gave back what it got
            return out
        name = getattr(func, "__name__", "").removesuffix("_with_indices").strip("_")
        after, kind = made.detach(), ""
        place: Index | None = None
        detail: Norm | Pooling | float | None = None
        if name == "batch_norm" and leads:
            kind, place = "norm", index
            signature = BUILT_IN_NORM if func is torch.batch_norm else NORM_ARGUMENTS
            detail = _norm(before, after, index, named(signature, args, kwargs))
        elif name in ACTIVATIONS and leads and after.shape == before.shape:
            kind, place, name = "activation", index, _rectifier(name, args, kwargs)
        elif leads and is_pool(name, before, args, kwargs):
            kind, pooled = "pooling", pooling(name, before, after, index, args, kwargs)
            if pooled is not None:
                detail, place = pooled, (*index[:2], *(pooled.position if after.dim() == 4 else ()))
        elif (moved := _moved(name, before, after, index, args, kwargs)) is not None:
            kind, place = "same", moved
        elif (factor := _factor(name, args)) is not None:
            kind, place, detail = "scaled", index, factor
        elif name in ("mul", "imul") and after.shape == before.shape:
            place = index  # perhaps a gate
        value = None if place is None else float(after[place])
        single = kind == "pooling" and after.numel() == before.shape[:2].numel()
        self._steps.append(Step(kind, name, reads, _key(made), value, detail, single))
        if place is not None:
            self._places[_key(made)] = (made, place)
        return out


def _key(tensor: Tensor) -> Key:
    return id(tensor), tensor._version


def _tensors(given: Any) -> Iterator[Tensor]:
    if isinstance(given, Tensor):
        yield given
    elif isinstance(given, Mapping):
        for value in given.values():
            yield from _tensors(value)
    elif isinstance(given, list | tuple):
        for value in given:
            yield from _tensors(value)


def _rectifier(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """A clamp at 0 is a ReLU, and nn.ReLU6 calls itself a hardtanh."""
    least, most = (*args[1:3], None, None)[:2]
    least, most = kwargs.get("min", kwargs.get("min_val", least)), kwargs.get("max", kwargs.get("max_val", most))
    if name not in ("clamp", "clamp_min", "clip", "hardtanh") or isinstance(least, Tensor) or least != 0:
        return name
    return "relu" if most is None else "relu6" if most == 6 else name


def _factor(name: str, args: tuple[Any, ...]) -> float | None:
    """The number that all of a tensor is multiplied by, None where the call does something else."""
    numbers = [arg for arg in args if isinstance(arg, int | float)]
    if len(args) != 2 or len(numbers) != 1:
        return None
    if name in ("mul", "imul", "rmul"):
        return float(numbers[0])
    return 1 / numbers[0] if name in ("div", "truediv", "itruediv") and numbers[0] else None


def _norm(before: Tensor, after: Tensor, index: Index, given: dict[str, Any]) -> Norm:
    mean, var = given.get("running_mean"), given.get("running_var")
    if mean is None or var is None or given.get("training"):  # no statistics were kept: those of this very input
        rest = [d for d in range(before.dim()) if d != 1]
        mean, var = before.double().mean(rest), before.double().var(rest, correction=0)
    weight, bias, channel = given.get("weight"), given.get("bias"), index[1]
    scale = (1.0 if weight is None else float(weight[channel])) / (float(var[channel]) + given.get("eps", 1e-5)) ** 0.5
    shift = (0.0 if bias is None else float(bias[channel])) - float(mean[channel]) * scale
    return Norm(scale, shift, float(after[index]))


def _moved(
    name: str, before: Tensor, after: Tensor, index: Index, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Index | None:
    """Where the number stands after a call that leaves it what it was: padding, a copy, dropout in eval mode, a crop
    at the end. None where it is cut off, or the call is another one."""
    if (after.dim(), after.dtype, after.device) != (before.dim(), before.dtype, before.device):
        return None
    if name == "pad":
        sides = named(("input", "pad"), args, kwargs)["pad"]
        start = [0] * (before.dim() - len(sides) // 2) + list(sides[::2])[::-1]
        place = tuple(i + offset for i, offset in zip(index, start, strict=True))
    else:
        # Maps may lose or gain rows at their end, channels may not.
        grid = 2 if before.dim() == 4 else before.dim()
        shared = tuple(slice(min(a, b)) for a, b in zip(before.shape, after.shape, strict=True))
        if before.shape[:grid] != after.shape[:grid] or not torch.equal(before[shared], after[shared]):
            return None
        place = index
    return place if all(0 <= i < n for i, n in zip(place, after.shape, strict=True)) else None
