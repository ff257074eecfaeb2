"""What a rule about receptive fields is told: one operator at work, and which of its tensors see the picture."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from neocog.costs.field import FieldLost, Path
from neocog.costs.paths import Axis, Field

Paths = Iterable[Path]
Rule = Callable[["Call", "Tracked"], Paths]

RULES: dict[str, Rule] = {}  # by the operator's name
NAME = "_neocog_field"  # the attribute of a tensor that holds its Field


def tensors_of(tree: Any) -> list[Tensor]:
    """All tensors of nested lists and dicts, and of objects such as data classes."""
    found = [t for t in pytree.tree_leaves(tree) if isinstance(t, Tensor)]
    return found or [t for t in pytree.tree_leaves(getattr(tree, "__dict__", {})) if isinstance(t, Tensor)]


def arguments(values: Any) -> list[Tensor]:
    """The tensors of an operator's arguments or results, which are nested once at most, in lists."""
    if isinstance(values, Tensor):
        return [values]
    found: list[Tensor] = []
    for value in values if isinstance(values, (list, tuple)) else ():
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += [item for item in value if isinstance(item, Tensor)]
    return found


def field_of(tensor: Tensor) -> Field | None:
    field: Field | None = getattr(tensor, NAME, None)
    return field


class Call:
    """One operator at work. `args` by position as its schema has them, keywords and defaults included."""

    def __init__(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any, pixels: int) -> None:
        self.func, self.out, self.pixels = func, out, pixels
        schema = func._schema.arguments
        self.args = [
            args[i] if i < len(args) else kwargs.get(argument.name, argument.default_value)
            for i, argument in enumerate(schema)
        ]
        self.named = {argument.name: value for argument, value in zip(schema, self.args, strict=True)}
        self.shape = next((tuple(t.shape) for t in arguments(out)), ())


class Tracked:
    """The paths to the operator's tensors along the axis in question."""

    def __init__(self, call: Call, axis: int) -> None:
        self.call, self.axis = call, axis

    def paths(self, tensor: Any) -> tuple[Path, ...]:
        field = field_of(tensor) if isinstance(tensor, Tensor) else None
        if field is None:
            return ()
        axis: Axis = field[self.axis]
        if isinstance(axis, str):
            raise FieldLost(axis)
        return axis

    @property
    def all(self) -> list[Path]:
        return [path for tensor in arguments(self.call.args) for path in self.paths(tensor)]

    @property
    def first(self) -> tuple[Path, ...]:
        """Those of the first argument; the others must not see the picture."""
        if any(self.paths(tensor) for tensor in arguments(self.call.args[1:])):
            raise FieldLost
        return self.paths(self.call.args[0])


def rule(*names: str) -> Callable[[Rule], Rule]:
    def add(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return add
