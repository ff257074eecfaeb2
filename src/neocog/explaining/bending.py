"""Which activation takes what a layer gave, directly or through what leaves every channel by itself.

Nothing is rebuilt: calls into torch are watched, so that a module, a function, a method and one that works in place are
the same thing.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from neocog.explaining.following import ACTIVATIONS

# What may stand between a layer and its activation and still leaves every channel by itself: norms, pools, dropout
# and a scale. A sum with another path is not among them: what bends it bends more than this layer.
BETWEEN = {
    "adaptive_avg_pool2d", "adaptive_max_pool2d", "alpha_dropout", "avg_pool2d", "batch_norm", "clone", "contiguous",
    "div", "dropout", "dropout2d", "feature_dropout", "group_norm", "instance_norm", "layer_norm",
    "local_response_norm", "max_pool2d", "mul", "permute", "truediv",
}  # fmt: skip


class Bending(TorchFunctionMode):
    """Follows what layers gave from call to call, each until the first activation takes it; `bends` and `bent` are then
    called with the layers' names. Tensors are not kept alive: what is gone, nothing can take."""

    def __init__(self) -> None:
        super().__init__()
        self._followed: Any = WeakTensorKeyDictionary()  # tensor -> the names of the layers that it comes from

    def begin(self, name: str, tensor: Tensor) -> None:
        """The layer gave this; what it gave before is followed no more."""
        self._forget({name})
        self._follow({name}, tensor)

    def bends(self, names: set[str], taken: Tensor, activation: str) -> None:
        """An activation is about to take `taken`, which it may change in place."""

    def bent(self, names: set[str], made: Tensor) -> None:
        """This is what it has made of it."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        taken = next((x for x in tensors if x in self._followed), None)
        if taken is None:
            return func(*args, **kwargs)
        name, layers = getattr(func, "__name__", "").strip("_"), self._followed[taken]
        if name in ACTIVATIONS:
            self.bends(layers, taken, name)
            out = func(*args, **kwargs)
            self._forget(layers)  # the first activation is the layer's
            self.bent(layers, out)
            return out
        out = func(*args, **kwargs)
        if name in BETWEEN and isinstance(out, Tensor) and not (name in ("mul", "div", "truediv") and len(tensors) > 1):
            self._follow(layers, out)
        elif out is taken:  # changed in place by something that mixes: a sum with a shortcut
            del self._followed[taken]
        return out

    def _follow(self, names: set[str], tensor: Tensor) -> None:
        self._followed[tensor] = names | self._followed.get(tensor, set())

    def _forget(self, names: set[str]) -> None:
        for tensor, known in list(self._followed.items()):
            if left := known - names:
                self._followed[tensor] = left
            else:
                del self._followed[tensor]
