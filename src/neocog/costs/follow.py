"""Receptive fields through PyTorch's operators, one after the other.

An operator without a rule (`rules.py`) loses the field, and the table says at which one; nothing is guessed. Operators
that only compute with each number need no rule of their own: PyTorch marks them as pointwise.
"""

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from neocog.costs.field import FieldLost, Path
from neocog.costs.operators import NAME, RULES, Call, Rule, Tracked, arguments, field_of
from neocog.costs.paths import Axis, unite
from neocog.costs.rules import FRESH, PIECES, pointwise
from neocog.costs.steps import ONE_PIXEL

_FAMILY = "_neocog_family"  # the attribute of a tensor that lists all that show the same memory


def start(tensor: Tensor, axes: int) -> None:
    """`tensor` is a picture: its last `axes` dimensions are those that fields are told of."""
    field = []
    for axis in range(tensor.ndim - axes, tensor.ndim):
        dims = tuple(((n, 1 if d == axis else 0),) for d, n in enumerate(tensor.shape))
        field.append((Path(dims, ONE_PIXEL, ONE_PIXEL),))
    setattr(tensor, NAME, tuple(field))


def follow(
    func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any, pixels: Sequence[int],
    misaligned: Callable[[str], None],
) -> None:  # fmt: skip
    """Gives the outputs of one operator their fields. `pixels`: the picture's length along each axis."""
    outputs, inputs = arguments(out), arguments([*args, *kwargs.values()])
    if func.is_view and inputs:
        for tensor in outputs:
            _alias(inputs[0], tensor)
    if not outputs or not any(hasattr(t, NAME) for t in inputs):
        return
    if func._opname in FRESH:
        return
    per_output = outputs if func._opname in PIECES else outputs[:1]
    calls = [Call(func, args, kwargs, out, length) for length in pixels]
    for number, tensor in enumerate(per_output):
        field = tuple(_axis(call, axis, number, misaligned) for axis, call in enumerate(calls))
        before = field_of(tensor)
        for same in outputs if func._opname not in PIECES else [tensor]:
            setattr(same, NAME, field)
        if func._schema.is_mutable and field != before:
            for other in _aliases(tensor):  # it was written in parts, which is not followed
                setattr(other, NAME, tuple(str(func._opname) for _ in pixels))


def _alias(base: Tensor, view: Tensor) -> None:
    """`view` shows the memory of `base`, and of all that `base` shows."""
    family = getattr(base, _FAMILY, None) or [weakref.ref(base)]
    family.append(weakref.ref(view))
    setattr(base, _FAMILY, family)
    setattr(view, _FAMILY, family)


def _aliases(tensor: Tensor) -> list[Tensor]:
    family = (member() for member in getattr(tensor, _FAMILY, ()))
    return [other for other in family if other is not None and other is not tensor]


def _axis(call: Call, axis: int, number: int, misaligned: Callable[[str], None]) -> Axis:
    tracked, func = Tracked(call, axis), call.func
    try:
        rule: Rule | None
        if func._opname in PIECES:
            return unite(PIECES[func._opname](call, tracked, number), misaligned)
        rule = RULES.get(func._opname) or RULES.get(func._opname.removesuffix("_"))
        if rule is None:
            if torch.Tag.pointwise not in func.tags:
                raise FieldLost
            rule = pointwise
        return unite(rule(call, tracked), misaligned)
    except FieldLost as lost:
        return str(lost) or str(func._opname)
    except OverflowError:
        return str(func._opname)
