"""What the kernel of a convolution meets at one place of its output: the call into torch says it.

convolution   row i, tap a      reads row  i * stride - padding + a * dilation
transposed    row i, tap a      reads row (i + padding - a * dilation) / stride, where that is whole
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from neocog.costs.table import Window
from neocog.explaining.pools import Index, named, pair, taken_from

ARGUMENTS = {
    "conv2d": ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    "conv_transpose2d": ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation"),
    "linear": ("input", "weight", "bias"),
}

FLATTENING = {"flatten", "reshape", "view"}
TURNING = {"permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis"}

Places = tuple[int | None, ...]


class Met(NamedTuple):
    """As in `Unit`."""

    patch: Tensor
    inside: Tensor
    rows: Places
    columns: Places
    first_channel: int
    kernel: Tensor
    bias: float
    window: Window | None
    flattened: tuple[int, int, int] | None = None


class Call(TorchFunctionMode):
    """While it is entered, the last map that became one line of numbers is kept; between `begin` and `end` of a layer
    its convolution, and what it pads."""

    def __init__(self) -> None:
        super().__init__()
        self.name = ""  # of the function: a key of ARGUMENTS, or "" where there was none
        self._inside = False
        self._flat: tuple[Tensor, tuple[int, int, int]] | None = None
        self._turned: list[Tensor] = []  # maps whose channels stand elsewhere

    def begin(self, module: nn.Module, args: Any) -> None:
        self._inside, self.name = True, ""
        # By the padded tensor's id: it (an id might be given twice), the size before, and what is above and left.
        self._padded: dict[int, tuple[Tensor, Sequence[int], int, int]] = {}

    def end(self) -> None:
        self._inside = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name in FLATTENING or name in TURNING:
            self._laid_out(name, args[0], out)
        if self._inside and name in ARGUMENTS:
            self.name, self._given = name, named(ARGUMENTS[name], args, kwargs or {})
        elif self._inside and name == "pad":
            given = named(("input", "pad"), args, kwargs or {})
            left, _, top, _ = (*given["pad"], 0, 0)[:4]
            size, above, before = self._origin(given["input"])
            self._padded[id(out)] = out, size, above + top, before + left
        return out

    def _laid_out(self, name: str, before: Tensor, after: Tensor) -> None:
        if after.dim() == 4 and name in TURNING:
            self._turned.append(after)
        turned = any(before is one for one in self._turned)
        if before.dim() == 4 and after.dim() == 2 and len(before) == len(after) and before.shape[2:].numel() > 1:
            self._flat = None if turned else (after, (before.shape[1], before.shape[2], before.shape[3]))

    def _map_of(self, x: Tensor) -> tuple[int, int, int] | None:
        """The map whose numbers, in their order, `x` (B, N) holds. Dropout may have copied them."""
        if self._flat is None or self._flat[0].shape != x.shape or not torch.equal(self._flat[0], x):
            return None
        return self._flat[1]

    def met(self, index: Index) -> Met:
        """`index`: of the unit in the layer's output."""
        x, weight, bias = (self._given["input"].detach(), self._given["weight"].detach(), self._given.get("bias"))
        if self.name == "linear":
            channel = index[-1]
            added = 0.0 if bias is None else float(bias[channel])
            patch, kernel = _copied(x[index[:-1]][:, None, None]), _copied(weight[channel, :, None, None])
            return Met(patch, torch.tensor([[True]]), (), (), 0, kernel, added, None, self._map_of(x))
        channel, groups, transposed = index[-3], self._given.get("groups", 1), self.name == "conv_transpose2d"
        if transposed:  # weight: (C_in, C_out / groups, kh, kw)
            c, each = len(weight) // groups, weight.shape[1]
            first = channel // each * c
            kernel = weight[first : first + c, channel % each]
        else:  # weight: (C_out, C_in / groups, kh, kw)
            c, each = weight.shape[1], len(weight) // groups
            first = channel // each * c
            kernel = weight[channel]
        window = self._window((kernel.shape[1], kernel.shape[2]))
        rows, columns = (_places(window, axis, index[axis - 2]) for axis in (0, 1))
        maps = x if x.dim() == 3 else x[index[0]]
        patch, inside = taken_from(_copied(maps[first : first + c]), rows, columns, 0.0)
        size, above, before = self._origin(self._given["input"])
        rows = tuple(None if i is None else i - above for i in rows)
        columns = tuple(None if i is None else i - before for i in columns)
        inside = inside & taken_from(torch.zeros(*size), rows, columns, 0.0)[1]
        added = 0.0 if bias is None else float(bias[channel])
        ahead = (above, before) if not transposed else (-above * window.stride[0], -before * window.stride[1])
        window = replace(window, padding=(window.padding[0] + ahead[0], window.padding[1] + ahead[1]))
        return Met(patch, inside, rows, columns, first, _copied(kernel), added, window)

    def _origin(self, x: Tensor) -> tuple[Sequence[int], int, int]:
        """The (H, W) that the layer was given, and how many rows and columns it has put in front of them."""
        return self._padded[id(x)][1:] if id(x) in self._padded else (x.shape[-2:], 0, 0)

    def _window(self, kernel: tuple[int, int]) -> Window:
        """As the call slides it, without what the layer has padded before."""
        stride, dilation = (pair(self._given.get(word, 1)) for word in ("stride", "dilation"))
        padding = self._given.get("padding", 0)
        if isinstance(padding, str):  # of "same" the odd one stands at the end
            spare = [(n - 1) * gap // 2 if padding == "same" else 0 for n, gap in zip(kernel, dilation, strict=True)]
            padding = tuple(spare)
        groups, transposed = self._given.get("groups", 1), self.name == "conv_transpose2d"
        return Window(kernel, stride, pair(padding), dilation, groups, transposed)


def _places(window: Window, axis: int, place: int) -> Places:
    """The row (axis 0) or column (1) of the input that each one of the kernel meets."""
    kernel, stride, padding, dilation = (
        of[axis] for of in (window.kernel, window.stride, window.padding, window.dilation)
    )
    taps = range(0, kernel * dilation, dilation)
    if not window.transposed:
        return tuple(place * stride - padding + tap for tap in taps)
    spread = (place + padding - tap for tap in taps)
    return tuple(i // stride if i % stride == 0 else None for i in spread)


def _copied(x: Tensor) -> Tensor:
    """float64, and the caller's own: the network may go on to change `x` in place."""
    return x.cpu().double().clone()
