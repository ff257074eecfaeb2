"""How many multiply-accumulates an operator performs, and which operators perform none.

A MAC is one product added to a sum, as convolutions and matrix products do; it is two FLOPs. Forward and backward
have the same formulas here: a convolution's backward computes up to two more convolutions of the same cost, one for
the input's gradient and one for the weights'. PyTorch's own table (torch.utils.flop_counter) serves what is not
listed. An operator that is in no list has no formula: it is named, and the total is called partial.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import flop_registry

Shapes = Sequence[int]


def macs(func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int | None:
    """Multiply-accumulates of one call; None where no formula is known."""
    if func.namespace in ("prim", "profiler"):  # questions and notes
        return 0
    if func.namespace == "aten":
        if formula := _FORMULAS.get(func._opname):
            return formula(args, kwargs, out)
        name = func._opname.removesuffix("_")
        if func.is_view or name in NONE or name.startswith(_UPDATES) or not _MARKS.isdisjoint(func.tags):
            return 0
    if theirs := flop_registry.get(func._overloadpacket):
        flops: int = theirs(*args, **kwargs, out_val=out)
        return flops // 2
    return None


def name_of(func: Any) -> str:
    """ "aten::mm", "torchvision::nms"."""
    return f"{func.namespace}::{func._opname}"


def other_ops(func: Any, args: Sequence[Any], out: Any) -> int:
    """Arithmetic that is no multiply-accumulate: one per number an elementwise operator writes, or a sum or norm
    reads, and the window times the outputs of a pool. Copies, views and indexing are none."""
    name = func._opname.removesuffix("_")
    outputs = [t for t in pytree.tree_leaves(out) if isinstance(t, Tensor)]
    if name in POOLS and outputs:
        return outputs[0].numel() * prod(per_axis(args[1], outputs[0].ndim - 2))
    if name in _READS:
        return args[0].numel() if isinstance(args[0], Tensor) else 0
    if (_POINTWISE in func.tags or name in _UNMARKED) and name not in _COPIES and outputs:
        return outputs[0].numel()
    return 0


_POINTWISE = torch.Tag.pointwise
_MARKS = {_POINTWISE, torch.Tag.inplace_view}


def _mm(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    """(..., n, m) times (..., m, p), or a vector in either place: every number of the result sums m products."""
    return int(out.numel() * args[0].shape[-1])


def _added_mm(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    return int(out.numel() * args[1].shape[-1])


def _convolution(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    """Each of the weights meets each position of the output, of a transposed one each position of the input."""
    x, weight, transposed = args[0], args[1], args[6]
    return _windows(x, weight, out, transposed)


def _windows(x: Tensor, weight: Tensor, out: Tensor, transposed: bool) -> int:
    grid = x if transposed else out
    return int(grid.shape[0] * prod(grid.shape[2:]) * weight.numel())


def _convolution_backward(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    grad, x, weight, transposed, wanted = args[0], args[1], args[2], args[7], args[10]
    return _windows(x, weight, grad, transposed) * (int(wanted[0]) + int(wanted[1]))


def _slow_convolution(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    return _windows(args[0], args[1], out, transposed=False)


def _attention(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    """Scores of every query with every key, then sums of the values: (..., N, D), (..., M, D), (..., M, E)."""
    query, key, value = args[:3]
    return int(prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1]))


def _attention_backward(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    """The scores once more, then two products for each of the two: five where forward has two (Dao 2022)."""
    _, query, key, value = args[:4]
    return int(prod(query.shape[:-1]) * key.shape[-2] * (3 * query.shape[-1] + 2 * value.shape[-1]))


def _rnn_layer(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    """One layer of an LSTM or GRU on the CPU: (T, B, features), both weight matrices at every step."""
    return int(args[0].shape[0] * args[0].shape[1] * (args[1].numel() + args[2].numel()))


def _rnn_layer_backward(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    """As of a dense layer: once more for the inputs' gradients, once more for the weights'."""
    return 2 * _rnn_layer(args, kwargs, out)


def _trilinear(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    """nn.Bilinear: x W y per output; x (B, 1, n, 1), weights (1, K, n, m), y (B, 1, 1, m): two products a weight."""
    return 2 * int(args[0].shape[0]) * int(args[1].numel())


Formula = Callable[[Sequence[Any], dict[str, Any], Any], int]
_FORMULAS: dict[str, Formula] = {
    "mm": _mm, "bmm": _mm, "mv": _mm, "dot": lambda a, k, out: int(a[0].numel()),
    "vdot": lambda a, k, out: int(a[0].numel()), "linear": _mm, "addmm": _added_mm, "baddbmm": _added_mm,
    "addmv": _added_mm, "addbmm": lambda a, k, out: int(out.numel() * a[1].shape[0] * a[1].shape[-1]),
    "addr": lambda a, k, out: int(out.numel()), "_addmm_activation": _added_mm, "_int_mm": _mm,
    "addmm_": _added_mm, "baddbmm_": _added_mm,
    "convolution": _convolution, "_convolution": _convolution, "convolution_overrideable": _convolution,
    "convolution_backward": _convolution_backward, "convolution_backward_overrideable": _convolution_backward,
    "_slow_conv2d_forward": _slow_convolution, "mkldnn_convolution": _slow_convolution,
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_flash_attention": _attention, "_scaled_dot_product_efficient_attention": _attention,
    "_scaled_dot_product_cudnn_attention": _attention,
    "_scaled_dot_product_flash_attention_for_cpu_backward": _attention_backward,
    "_scaled_dot_product_flash_attention_backward": _attention_backward,
    "_scaled_dot_product_efficient_attention_backward": _attention_backward,
    "_scaled_dot_product_cudnn_attention_backward": _attention_backward,
    "_trilinear": _trilinear, "mkldnn_rnn_layer": _rnn_layer,
    "mkldnn_rnn_layer_backward": _rnn_layer_backward,
}  # fmt: skip

POOLS = {
    "max_pool2d_with_indices", "max_pool3d_with_indices", "avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool1d",
    "max_pool2d", "max_pool3d",
}  # fmt: skip
_READS = {
    "sum", "mean", "amax", "amin", "max", "min", "argmax", "argmin", "var", "std", "var_mean", "std_mean", "prod",
    "logsumexp", "linalg_vector_norm", "norm", "any", "all", "cumsum", "cumprod", "_softmax", "_log_softmax",
    "_safe_softmax", "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
    "cudnn_batch_norm", "native_layer_norm", "native_group_norm", "_fused_rms_norm", "_adaptive_avg_pool2d",
    "_adaptive_avg_pool3d", "adaptive_max_pool2d", "adaptive_max_pool3d",
}  # fmt: skip
# Pointwise, though PyTorch does not mark them so.
_UNMARKED = {"hardswish", "hardsigmoid", "hardtanh", "prelu", "_prelu_kernel", "addcmul", "addcdiv", "lerp", "where"}
_COPIES = {"clone", "_to_copy", "copy", "fill", "zero", "where", "masked_fill", "lift_fresh", "detach", "alias"}

# Operators without multiply-accumulates that are neither views nor marked as pointwise. Interpolation and norms
# belong here by the convention of the field: their products are few and are not counted by anyone.
NONE = POOLS | _READS | _COPIES | _UNMARKED | {
    # making and moving
    "empty", "empty_like", "empty_strided", "empty_permuted", "zeros", "ones", "full", "arange", "linspace", "eye",
    "scalar_tensor", "zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full", "new_empty",
    "new_empty_strided", "rand", "randn", "randint", "randperm", "rand_like", "randn_like", "uniform", "normal",
    "bernoulli", "random", "cat", "stack", "repeat", "tril", "triu", "roll", "flip", "contiguous", "set", "resize",
    "constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "replication_pad1d",
    "replication_pad2d", "replication_pad3d", "reflection_pad2d_backward", "replication_pad2d_backward",
    "_unsafe_view", "_reshape_copy", "as_strided", "im2col", "col2im", "pixel_shuffle", "pixel_unshuffle",
    "native_channel_shuffle", "slice_backward", "select_backward", "expand_copy", "slice_scatter", "select_scatter",
    "unsafe_split", "unsafe_split_with_sizes", "split_with_sizes_copy", "meshgrid", "_local_scalar_dense", "item",
    "unfold_backward",
    # picking
    "embedding", "embedding_dense_backward", "index", "index_select", "index_put", "index_add", "index_fill",
    "gather", "scatter", "scatter_add", "masked_select", "masked_scatter", "take", "sort", "topk", "nonzero",
    "argsort", "one_hot", "bucketize", "searchsorted", "_unsafe_index", "_unsafe_index_put", "unique_dim", "_unique2",
    # norms, pools, dropout and losses, forward and backward
    "_weight_norm_interface", "_weight_norm_interface_backward",
    "native_dropout", "native_dropout_backward", "_fused_dropout", "native_batch_norm_backward",
    "_batch_norm_with_update", "_batch_norm_no_update", "batch_norm_backward", "cudnn_batch_norm_backward",
    "native_layer_norm_backward", "native_group_norm_backward", "_fused_rms_norm_backward", "_softmax_backward_data",
    "_log_softmax_backward_data", "max_pool2d_with_indices_backward", "max_pool3d_with_indices_backward",
    "avg_pool2d_backward", "avg_pool3d_backward", "_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward",
    "adaptive_max_pool2d_backward", "adaptive_max_pool3d_backward", "nll_loss_forward", "nll_loss_backward",
    "nll_loss2d_forward", "nll_loss2d_backward", "max_unpool2d", "median", "kthvalue", "equal", "count_nonzero",
    # activations whose backward PyTorch does not mark as pointwise
    "hardtanh_backward", "hardswish_backward", "hardsigmoid_backward", "elu_backward", "leaky_relu_backward",
    "threshold_backward", "gelu_backward", "silu_backward", "sigmoid_backward", "tanh_backward", "softplus_backward",
    "prelu_kernel_backward", "_prelu_kernel_backward", "glu", "glu_backward", "log_sigmoid_forward",
    "log_sigmoid_backward", "mish_backward",
    # interpolation
    "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "_upsample_nearest_exact2d", "upsample_linear1d",
    "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d", "_upsample_bilinear2d_aa",
    "_upsample_bicubic2d_aa", "upsample_nearest2d_backward", "upsample_bilinear2d_backward",
    "upsample_bicubic2d_backward", "grid_sampler_2d", "grid_sampler_2d_backward",
}  # fmt: skip


_UPDATES = ("_foreach_", "_fused_sgd", "_fused_adam", "_fused_adagrad")  # of weights, by an optimizer


def per_axis(value: Any, n: int) -> tuple[int, ...]:
    """An operator's kernel, stride or padding, of which one number may stand for all `n` axes."""
    values = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    return values * n if len(values) == 1 else values
