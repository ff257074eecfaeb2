"""The receptive field found by trial: which pixels change one unit, seen from its gradient.

A judge of the other way (`follow.py`), which reasons about operators: this one runs the network. All weights are made
positive, so that no two paths cancel out; max pooling, which lets one pixel of its window through, becomes average
pooling; and every layer's output is scaled back to at most 1, so that nothing saturates or dies away.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from neocog.core.errors import UsageError
from neocog.costs.count import copied
from neocog.costs.failing import does_not_run
from neocog.costs.table import Shape

UNITS = 4  # neighbours that are asked, because after upsampling they do not all see as much


def support(module: nn.Module, input_shape: Shape, layer: str | None = None) -> tuple[Shape, bool]:
    """(extent per axis of what the units in the middle of `layer`'s output see, whether it ends at a border).

    Of the units, the one that sees most counts. `layer`: a module's name (default: the last one whose output still
    is a map of several units). Where the field ends at the picture's border, a larger picture would show more of it.
    """
    if any(p.is_meta for p in module.parameters()):
        raise UsageError(f"{type(module).__name__} has no numbers to run on", "build it on the CPU")
    twin = copied(module, torch.clone).double().eval()
    _make_positive(twin)
    maps: dict[str, Tensor] = {}
    for name, part in twin.named_modules():
        part.register_forward_hook(_keeper(name, maps))
    x = torch.rand(1, *input_shape, dtype=torch.float64).add_(0.5).requires_grad_()
    try:
        with _Averaging(), torch.enable_grad():
            twin(x)
    except Exception as error:
        raise does_not_run(error, type(module).__name__, "", [x]) from error
    if layer is None:
        several = [name for name, out in maps.items() if out.ndim == x.ndim and max(out.shape[2:]) > 1]
        layer = several[-1] if several else None
    if layer not in maps:
        raise UsageError(f"{type(module).__name__} has no map of units at {layer!r}", "give the name of a layer")
    output = maps[layer].sum(dim=(0, 1))
    extents, bordered = [0] * output.ndim, False
    for shift in range(min(UNITS, min(output.shape))):
        unit = tuple(min(n // 2 + shift, n - 1) for n in output.shape)
        (gradient,) = torch.autograd.grad(output[unit], x, retain_graph=True)
        places = gradient[0].abs().sum(0).nonzero()
        if len(places) == 0:  # a unit that sees only padding
            continue
        low, high = places.amin(0).tolist(), places.amax(0).tolist()
        extents = [max(e, b - a + 1) for e, a, b in zip(extents, low, high, strict=True)]
        bordered |= any(a == 0 or b == n - 1 for a, b, n in zip(low, high, x.shape[2:], strict=True))
    if not any(extents):
        raise UsageError(
            f"{type(module).__name__}: no gradient of {layer or 'the last layer'} reaches the picture",
            "use method='paths'",
        )
    return tuple(extents), bordered


@torch.no_grad()
def _make_positive(module: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.uniform_(0.5, 1.5, generator=generator)  # not all alike: a norm would find nothing to scale
        parameter.div_(max(parameter[0].numel(), 1) if parameter.ndim > 1 else 1)
    for name, buffer in module.named_buffers():
        if buffer.is_floating_point():
            buffer.fill_(0 if name.endswith("mean") else 1)


def _keeper(name: str, maps: dict[str, Tensor]) -> Any:
    def keep(module: nn.Module, args: Any, out: Any) -> Any:
        if not (isinstance(out, Tensor) and out.is_floating_point()):
            return None
        out = out / out.detach().abs().max().clamp(min=1e-300)
        maps.pop(name, None)  # the last call counts, and comes last
        maps[name] = out
        return out

    return keep


class _Averaging(TorchFunctionMode):
    """Average pooling in the place of max pooling."""

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in ("max_pool1d", "max_pool2d", "max_pool3d") and not kwargs.get("return_indices"):
            return _average(int(name[8]), *args, **kwargs)
        if name in ("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"):
            return getattr(F, name.replace("max", "avg"))(*args[:2])
        return func(*args, **kwargs)


def _average(
    n: int, x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, **_: Any,
) -> Tensor:  # fmt: skip
    spread = dilation if isinstance(dilation, int) else max(dilation)
    if spread == 1:
        averaged: Tensor = getattr(F, f"avg_pool{n}d")(x, kernel_size, stride or kernel_size, padding, ceil_mode)
        return averaged
    if ceil_mode:
        raise UsageError("a dilated max pool with ceil_mode is not followed by gradients", "use method='paths'")
    kernel = (kernel_size,) * n if isinstance(kernel_size, int) else tuple(kernel_size)
    ones = torch.ones(x.shape[1], 1, *kernel, dtype=x.dtype)
    convolve = getattr(F, f"conv{n}d")
    summed: Tensor = convolve(x, ones, None, stride or kernel_size, padding, dilation, x.shape[1])
    return summed
