"""Results of common operators on the meta device, without PyTorch's own Python code for them.

PyTorch's kernels answer the same, but on the meta device some of its answers load its compiler: a second and 90 MB
before the first table. What is not listed, or unusual (types that mix, sizes that do not fit), is left to PyTorch.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


def quick(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """The operator's result on meta tensors, or None."""
    rule = _RULES.get(func)
    return None if rule is None or any(kwargs.values()) else rule(*args)


def _like(x: Tensor) -> Tensor:
    """With the strides of `x` where it fills its memory, as PyTorch's elementwise operators keep them."""
    dense = 0 not in x.stride() and sum((n - 1) * s for n, s in zip(x.shape, x.stride(), strict=True)) + 1 == x.numel()
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta") if dense else x.new_empty(x.shape)


def _same(x: Tensor, *_: Any) -> Tensor | None:
    return _like(x) if x.is_floating_point() else None


def _fresh(x: Tensor, *_: Any) -> Tensor | None:
    return x.new_empty(x.shape) if x.is_floating_point() else None


def _itself(x: Tensor, *_: Any) -> Tensor:
    return x


def _both(x: Tensor, y: Any, *_: Any) -> Tensor | None:
    if not isinstance(y, Tensor):
        return _same(x)
    if x.dtype != y.dtype or not x.is_floating_point():
        return None
    rank = max(x.ndim, y.ndim)
    one, other = (1,) * (rank - x.ndim) + tuple(x.shape), (1,) * (rank - y.ndim) + tuple(y.shape)
    if any(a != b and 1 not in (a, b) for a, b in zip(one, other, strict=True)):
        return None
    shape = tuple(b if a == 1 else a for a, b in zip(one, other, strict=True))
    if shape in (tuple(x.shape), tuple(y.shape)):
        return _like(x if shape == tuple(x.shape) else y)
    return x.new_empty(shape)


def _product(one: Tensor, other: Tensor) -> Tensor | None:
    if one.dtype != other.dtype or one.shape[-1] != other.shape[-2] or one.shape[:-2] != other.shape[:-2]:
        return None
    return one.new_empty((*one.shape[:-1], other.shape[-1]))


def _added_product(added: Tensor, one: Tensor, other: Tensor) -> Tensor | None:
    product = _product(one, other)
    return product if product is not None and added.shape[-1] == product.shape[-1] else None


def _convolution(
    x: Tensor, weight: Tensor, bias: Any, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
    transposed: bool, output_padding: Sequence[int], groups: int,
) -> Tensor | None:  # fmt: skip
    n = weight.ndim - 2
    fits = x.ndim == n + 2 and x.shape[1] == weight.shape[1] * groups and x.dtype == weight.dtype
    if transposed or not fits or any(len(values) != n for values in (stride, padding, dilation)):
        return None
    sizes = [
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, k, s, p, d in zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    ]
    if min(sizes) < 1:
        return None
    return _formed(x, (x.shape[0], weight.shape[0], *sizes), x.dtype)


def _formed(x: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Channels last where `x` is."""
    last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    form = torch.channels_last if last else torch.contiguous_format
    return torch.empty(tuple(shape), dtype=dtype, device="meta", memory_format=form)


def _max_pool(
    x: Tensor, kernel_size: Sequence[int], stride: Sequence[int] = (), padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,), ceil_mode: bool = False,
) -> Any:  # fmt: skip
    shape = _pooled(x, kernel_size, stride, padding, dilation, ceil_mode)
    return None if shape is None else (_formed(x, shape, x.dtype), _formed(x, shape, torch.int64))


def _avg_pool(
    x: Tensor, kernel_size: Sequence[int], stride: Sequence[int] = (), padding: Sequence[int] = (0,),
    ceil_mode: bool = False, *_: Any,
) -> Tensor | None:  # fmt: skip
    shape = _pooled(x, kernel_size, stride, padding, (1,), ceil_mode)
    return None if shape is None else _formed(x, shape, x.dtype)


def _adaptive_pool(x: Tensor, size: Sequence[int]) -> Tensor | None:
    return _formed(x, (*x.shape[:2], *size), x.dtype) if x.ndim == 4 else None


def _pooled(
    x: Tensor, kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
    ceil_mode: bool,
) -> Sequence[int] | None:  # fmt: skip
    if x.ndim != 4 or min(x.shape) < 1:
        return None
    windows = [[*values] * (2 // len(values)) for values in (kernel_size, stride or kernel_size, padding, dilation)]
    sizes = []
    for size, k, s, p, d in zip(x.shape[2:], *windows, strict=True):
        room = size + 2 * p - d * (k - 1) - 1
        out = (-(-room // s) if ceil_mode else room // s) + 1
        if ceil_mode and (out - 1) * s >= size + p:  # the last window must begin inside
            out -= 1
        if out < 1 or 2 * p > k:
            return None
        sizes.append(out)
    return (*x.shape[:2], *sizes)


def _batch_norm(x: Tensor, weight: Any, bias: Any, mean: Any, var: Any, training: bool, *_: Any) -> Any:
    if mean is not None and mean.shape[0] != x.shape[1]:
        return None
    kept = x.shape[1] if training else 0
    return _like(x), x.new_empty(kept), x.new_empty(kept)


def _layer_norm(x: Tensor, normalized_shape: Sequence[int], *_: Any) -> Any:
    k = len(normalized_shape)
    if tuple(x.shape[-k:]) != tuple(normalized_shape):
        return None
    kept = (*x.shape[:-k], *(1,) * k)
    return x.new_empty(x.shape), x.new_empty(kept), x.new_empty(kept)


def _cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor | None:
    first = tensors[0]
    dim %= first.ndim
    rests = {(t.dtype, t.ndim, tuple(n for d, n in enumerate(t.shape) if d != dim)) for t in tensors}
    if len(rests) > 1:
        return None
    return first.new_empty((*first.shape[:dim], sum(t.shape[dim] for t in tensors), *first.shape[dim + 1 :]))


def _stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor | None:
    first = tensors[0]
    dim %= first.ndim + 1
    if len({(t.dtype, tuple(t.shape)) for t in tensors}) > 1:
        return None
    return first.new_empty((*first.shape[:dim], len(tensors), *first.shape[dim:]))


def _mean(x: Tensor, dims: Sequence[int] | None, keepdim: bool = False) -> Tensor | None:
    if not dims or not x.is_floating_point():
        return None
    gone = {d % x.ndim for d in dims}
    return x.new_empty([1 if d in gone else n for d, n in enumerate(x.shape) if keepdim or d not in gone])


def _norm(x: Tensor, order: Any = 2, dims: Sequence[int] | None = None, keepdim: bool = False) -> Tensor | None:
    return _mean(x, dims, keepdim)


def _resampled(x: Tensor, size: Sequence[int] | None, *_: Any) -> Tensor | None:
    return None if size is None else x.new_empty((*x.shape[:2], *size))


_RULES: dict[Any, Callable[..., Any]] = {
    **dict.fromkeys(
        (
            aten.relu.default, aten.gelu.default, aten.silu.default, aten.tanh.default, aten.sigmoid.default,
            aten.hardsigmoid.default, aten.hardswish.default, aten.hardtanh.default, aten.mul.Scalar,
            aten.add.Scalar, aten.pow.Tensor_Scalar, aten.ones_like.default, aten.zeros_like.default,
        ),
        _same,
    ),
    **dict.fromkeys(
        (aten.relu_.default, aten.silu_.default, aten.hardtanh_.default, aten.hardswish_.default,
         aten.hardsigmoid_.default),
        _itself,
    ),
    aten._softmax.default: _fresh, aten._safe_softmax.default: _fresh,
    **dict.fromkeys((aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor), _both),
    aten.mm.default: _product, aten.bmm.default: _product, aten.addmm.default: _added_product,
    aten.convolution.default: _convolution, aten.native_batch_norm.default: _batch_norm,
    aten.native_layer_norm.default: _layer_norm, aten.max_pool2d_with_indices.default: _max_pool,
    aten.avg_pool2d.default: _avg_pool, aten._adaptive_avg_pool2d.default: _adaptive_pool,
    aten.cat.default: _cat, aten.stack.default: _stack, aten.mean.dim: _mean,
    aten.linalg_vector_norm.default: _norm, aten.upsample_bilinear2d.default: _resampled,
}  # fmt: skip
