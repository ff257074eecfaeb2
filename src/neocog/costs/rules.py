"""What each of PyTorch's operators does to the paths from the picture to its output.

Every rule gives the paths of the output along one axis. `Path` knows what sliding, mixing and reshaping do; a rule
only says which of them an operator is, along which dimensions.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from torch import Tensor

from neocog.costs.field import STRAIGHT, FieldLost, Path, Reach
from neocog.costs.formulas import per_axis
from neocog.costs.operators import Call, Paths, Tracked, rule

# Each number alone

FRESH = {"zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like", "new_zeros", "new_ones",
          "new_full", "new_empty"}  # fmt: skip


@rule("clone", "_to_copy", "copy", "detach", "alias", "lift_fresh", "contiguous", "where", "masked_fill", "bernoulli",
      "native_dropout", "dropout", "lerp", "addcmul", "addcdiv", "prelu", "_prelu_kernel", "fill", "zero", "hardswish",
      "hardsigmoid", "hardtanh")  # fmt: skip
def pointwise(call: Call, tracked: Tracked) -> Paths:
    if call.func._opname in ("copy_", "fill_", "zero_"):  # what was there is gone
        return [path.expanded(call.shape) for source in call.args[1:] for path in tracked.paths(source)] or _nothing()
    return [path.expanded(call.shape) for path in tracked.all]


def _nothing() -> Paths:
    raise FieldLost


# Layers that slide a window


def _windows(paths: Paths, first: int, sizes: Sequence[int], reaches: Sequence[tuple[Reach, Reach]]) -> Paths:
    for path in paths:
        for d, (low, high) in enumerate(reaches):
            path = path.resized(first + d, sizes[d], low, high)
        yield path


def _slides(kernel: int, stride: int, padding: int, dilation: int) -> tuple[Reach, Reach]:
    return (stride, -padding, 1), (stride, (kernel - 1) * dilation - padding, 1)


def _slides_back(kernel: int, stride: int, padding: int, dilation: int) -> tuple[Reach, Reach]:
    """A transposed convolution: output o is reached by the inputs i with 0 <= o + padding - i * stride < kernel."""
    reach = (kernel - 1) * dilation
    return (1, padding - reach + stride - 1, stride), (1, padding, stride)


def _rank(call: Call) -> int:
    """The 2 of "avg_pool2d"."""
    return next(int(letter) for letter in call.func._opname if letter.isdigit())


@rule("convolution", "_convolution", "convolution_overrideable", "cudnn_convolution", "mkldnn_convolution")
def _convolution(call: Call, tracked: Tracked) -> Paths:
    named, kernel = call.named, tuple(call.args[1].shape[2:])
    n = len(kernel)
    slides = _slides_back if named.get("transposed") else _slides
    settings = (per_axis(named[key], n) for key in ("stride", "padding", "dilation"))
    reaches = [slides(*numbers) for numbers in zip(kernel, *settings, strict=True)]
    paths = _mixed_channels(tracked.first, call)
    return _windows(paths, len(call.shape) - n, call.shape[-n:], reaches)


def _mixed_channels(paths: Paths, call: Call) -> Paths:
    """Every output channel reads all input channels, of its group."""
    for path in paths:
        if path.related(1) and call.named["groups"] != 1:
            raise FieldLost
        yield path.mixed([1], call.pixels).resized(1, call.shape[1], STRAIGHT, STRAIGHT)


@rule("max_pool2d_with_indices", "max_pool3d_with_indices", "max_pool2d", "max_pool3d", "max_pool1d", "avg_pool1d",
      "avg_pool2d", "avg_pool3d")  # fmt: skip
def _pool(call: Call, tracked: Tracked) -> Paths:
    n = _rank(call)
    kernel = per_axis(call.named["kernel_size"], n)
    stride = per_axis(call.named["stride"] or kernel, n)
    dilation = per_axis(call.named.get("dilation", 1), n)
    numbers = zip(kernel, stride, per_axis(call.named["padding"], n), dilation, strict=True)
    return _windows(tracked.first, len(call.shape) - n, call.shape[-n:], [_slides(*four) for four in numbers])


@rule("_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_max_pool2d", "adaptive_max_pool3d",
      "adaptive_avg_pool1d", "adaptive_max_pool1d")  # fmt: skip
def _adaptive_pool(call: Call, tracked: Tracked) -> Paths:
    n = _rank(call)
    before, after = call.args[0].shape[-n:], call.shape[-n:]
    first = len(call.shape) - n
    for path in tracked.first:
        for d, (size, out) in enumerate(zip(before, after, strict=True)):
            if out == 1:
                path = path.mixed([first + d], call.pixels)
            path = path.resized(first + d, out, (size, 0, out), (size, size - 1, out))
        yield path


@rule("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d")
def _nearest(call: Call, tracked: Tracked) -> Paths:
    return _resampled(call, tracked, lambda size, out: ((size, 0, out), (size, 0, out)))  # floor(i size / out)


@rule("_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d")
def _nearest_exact(call: Call, tracked: Tracked) -> Paths:
    return _resampled(call, tracked, lambda size, out: ((2 * size, size, 2 * out), (2 * size, size, 2 * out)))


@rule("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d")
def _interpolated(call: Call, tracked: Tracked) -> Paths:
    more = 1 if "bicubic" in call.func._opname else 0

    def reach(size: int, out: int) -> tuple[Reach, Reach]:
        if size == out:
            return STRAIGHT, STRAIGHT
        if call.named["align_corners"]:
            a, b, c = size - 1, 0, max(out - 1, 1)
        else:
            a, b, c = 2 * size, size - out, 2 * out
        return (a, b - more * c, c), (a, b + (1 + more) * c, c)

    return _resampled(call, tracked, reach)


def _resampled(call: Call, tracked: Tracked, reach: Callable[[int, int], tuple[Reach, Reach]]) -> Paths:
    """`reach(size, out)`; a scale that was given counts instead of the sizes, which are rounded."""
    n = _rank(call)
    scales = [value for key, value in call.named.items() if key.startswith("scales")]
    scales = [None] * n if len(scales) != n else scales
    pairs = []
    for size, out, scale in zip(call.args[0].shape[-n:], call.shape[-n:], scales, strict=True):
        by_size = scale is None or call.named.get("align_corners")
        if by_size:
            pairs.append(reach(size, out))
            continue
        exact = 1 / Fraction(scale).limit_denominator(1000)
        pairs.append(reach(exact.numerator, exact.denominator))
    return _windows(tracked.first, len(call.shape) - n, call.shape[-n:], pairs)


@rule("constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "replication_pad1d",
      "replication_pad2d", "replication_pad3d")  # fmt: skip
def _pad(call: Call, tracked: Tracked) -> Paths:
    pad = call.args[1]  # (before, after) of the last dimension first
    last = len(call.shape) - 1
    for path in tracked.first:
        for i, before in enumerate(pad[::2]):
            path = path.resized(last - i, call.shape[last - i], (1, -before, 1), (1, -before, 1))
        yield path


@rule("im2col")
def _im2col(call: Call, tracked: Tracked) -> Paths:
    if call.args[0].ndim != 4:
        raise FieldLost
    kernel, dilation, padding, stride = (
        per_axis(call.named[k], 2) for k in ("kernel_size", "dilation", "padding", "stride")
    )
    sizes = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, d, p, s in zip(call.args[0].shape[-2:], kernel, dilation, padding, stride, strict=True)
    ]
    reaches = [_slides(*numbers) for numbers in zip(kernel, stride, padding, dilation, strict=True)]
    for path in _windows(tracked.first, 2, sizes, reaches):
        patches = path.resized(1, call.shape[1], STRAIGHT, STRAIGHT) if not path.related(1) else path
        yield patches.reshaped(call.shape)


# Sums over dimensions

_REDUCTIONS = ("sum", "mean", "amax", "amin", "max", "min", "argmax", "argmin", "var", "std", "var_mean", "std_mean",
               "prod", "logsumexp", "linalg_vector_norm", "norm", "any", "all", "median", "nansum",
               "count_nonzero")  # fmt: skip


def _dims(value: Any, rank: int) -> list[int]:
    values = range(rank) if value is None or value == [] else [value] if isinstance(value, int) else value
    return [d % rank for d in values]


@rule(*_REDUCTIONS)
def _reduced(call: Call, tracked: Tracked) -> Paths:
    if isinstance(call.named.get("other"), Tensor):  # max(a, b) and min(a, b) of two tensors
        return pointwise(call, tracked)
    rank = call.args[0].ndim
    dims = _dims(call.named.get("dim"), rank)
    mixed = [path.mixed(dims, call.pixels) for path in tracked.first]
    if len(call.shape) == rank:
        return _windows(mixed, 0, call.shape, [(STRAIGHT, STRAIGHT)] * rank)
    return [path.dropped(dims) for path in mixed]


@rule("_softmax", "_log_softmax", "_safe_softmax", "cumsum", "softmax", "log_softmax")
def _over_one(call: Call, tracked: Tracked) -> Paths:
    return [path.mixed(_dims(call.args[1], len(call.shape)), call.pixels) for path in tracked.first]


@rule("native_layer_norm", "_fused_rms_norm")
def _layer_norm(call: Call, tracked: Tracked) -> Paths:
    rank = len(call.shape)
    return _by_statistics(tracked.first, range(rank - len(call.args[1]), rank), call)


@rule("native_group_norm")
def _group_norm(call: Call, tracked: Tracked) -> Paths:
    return _by_statistics(tracked.first, range(2, len(call.shape)), call)


@rule("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
      "_native_batch_norm_legit_functional", "_batch_norm_with_update", "_batch_norm_no_update", "cudnn_batch_norm",
      "batch_norm")  # fmt: skip
def _batch_norm(call: Call, tracked: Tracked) -> Paths:
    if call.named.get("training"):  # also instance norm, always
        return _by_statistics(tracked.first, range(2, len(call.shape)), call)
    return tracked.first


def _by_statistics(paths: Paths, dims: Sequence[int], call: Call) -> Paths:
    """Every unit is scaled by what all units along `dims` were: a wide path beside the straight one."""
    for path in paths:
        yield path
        yield path.mixed(dims, call.pixels)


# Matrix products


@rule("mm", "bmm", "addmm", "baddbmm", "mv", "dot", "addmv", "linear")
def _product(call: Call, tracked: Tracked) -> Paths:
    name = call.func._opname
    added, (one, other) = (
        (call.args[:1], call.args[1:3]) if name in ("addmm", "baddbmm", "addmv") else ([], call.args[:2])
    )
    paths = [path.expanded(call.shape) for tensor in added for path in tracked.paths(tensor)]
    rank = one.ndim
    for path in tracked.paths(one):  # (..., n, m): all of m, then p beside n
        rows = path.mixed([rank - 1], call.pixels).dropped([rank - 1])
        paths.append(rows.inserted(rank - 1, other.shape[-1]) if other.ndim > 1 else rows)
    for path in tracked.paths(other):  # (..., m, p)
        inner = max(other.ndim - 2, 0)
        columns = path.mixed([inner], call.pixels).dropped([inner])
        paths.append(
            columns.inserted(inner, one.shape[-2]) if rank > 1 and other.ndim > 1 else columns.expanded(call.shape)
        )
    return paths


@rule("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention",
      "_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention",
      "_scaled_dot_product_fused_attention_overrideable")  # fmt: skip
def _attention(call: Call, tracked: Tracked) -> Paths:
    """(..., N, D): each query's token sees all tokens of the keys and values."""
    paths = list(tracked.paths(call.args[0]))
    for tensor in call.args[1:3]:
        for path in tracked.paths(tensor):
            token, width = len(call.shape) - 2, len(call.shape) - 1
            seen = path.mixed([token], call.pixels)
            paths.append(
                seen.resized(token, call.shape[token], STRAIGHT, STRAIGHT).resized(
                    width, call.shape[width], STRAIGHT, STRAIGHT
                )
            )
    return paths


# Shapes


@rule("view", "_unsafe_view", "reshape", "_reshape_alias", "_reshape_copy")
def _view(call: Call, tracked: Tracked) -> Paths:
    return [path.reshaped(call.shape) for path in tracked.first]


@rule("as_strided")
def _as_strided(call: Call, tracked: Tracked) -> Paths:
    """In place, kernels give a fresh result another order in memory. A user's could be anything."""
    ordered = call.func._opname == "as_strided_" or tuple(call.args[0].stride()) == tuple(call.args[2])
    if call.args[0].shape != call.shape or not ordered:
        raise FieldLost
    return tracked.first


@rule("permute")
def _permute(call: Call, tracked: Tracked) -> Paths:
    return [path.permuted(_dims(call.args[1], len(call.shape))) for path in tracked.first]


@rule("transpose", "t", "swapaxes", "numpy_T")
def _transpose(call: Call, tracked: Tracked) -> Paths:
    rank = len(call.shape)
    if rank < 2:
        return tracked.first
    a, b = (call.args[1] % rank, call.args[2] % rank) if len(call.args) > 2 else (0, 1)
    order = list(range(rank))
    order[a], order[b] = b, a
    return [path.permuted(order) for path in tracked.first]


@rule("unsqueeze")
def _unsqueeze(call: Call, tracked: Tracked) -> Paths:
    return [path.inserted(call.args[1] % len(call.shape)) for path in tracked.first]


@rule("squeeze")
def _squeeze(call: Call, tracked: Tracked) -> Paths:
    before = call.args[0].shape
    wanted = _dims(call.args[1] if len(call.args) > 1 else None, len(before))
    gone = [d for d in wanted if before[d] == 1]
    return [path.dropped(gone) for path in tracked.first]


@rule("expand", "repeat")
def _expand(call: Call, tracked: Tracked) -> Paths:
    if call.func._opname == "repeat" and any(
        n > 1 and path.related(d - len(call.shape) + call.args[0].ndim)
        for path in tracked.first
        for d, n in enumerate(call.args[1])
        if d >= len(call.shape) - call.args[0].ndim
    ):
        raise FieldLost
    return [path.expanded(call.shape) for path in tracked.first]


@rule("select")
def _select(call: Call, tracked: Tracked) -> Paths:
    shape = call.args[0].shape
    dim = call.args[1] % len(shape)
    return [path.selected(dim, call.args[2] % shape[dim]) for path in tracked.first]


@rule("slice")
def _slice(call: Call, tracked: Tracked) -> Paths:
    shape = call.args[0].shape
    dim = call.named["dim"] % len(shape)
    first = call.named["start"] or 0
    first = max(first + shape[dim], 0) if first < 0 else first
    return [path.sliced(dim, first, call.named["step"], call.shape[dim]) for path in tracked.first]


def _part(call: Call, tracked: Tracked, number: int) -> Paths:
    """Output `number` of a split."""
    dim = call.named["dim"] % call.args[0].ndim
    sizes = [tensor.shape[dim] for tensor in call.out]
    return [path.sliced(dim, sum(sizes[:number]), 1, sizes[number]) for path in tracked.first]


def _unbound(call: Call, tracked: Tracked, number: int) -> Paths:
    return [path.selected(call.named["dim"] % call.args[0].ndim, number) for path in tracked.first]


PIECES: dict[str, Callable[[Call, Tracked, int], Paths]] = {
    "split": _part, "unsafe_split": _part, "split_with_sizes": _part, "unsafe_split_with_sizes": _part,
    "chunk": _part, "unsafe_chunk": _part, "unbind": _unbound,
}  # fmt: skip


@rule("cat")
def _cat(call: Call, tracked: Tracked) -> Paths:
    dim, rank = call.named["dim"] % len(call.shape), len(call.shape)
    joined = [path for tensor in call.args[0] if tensor.ndim == rank for path in tracked.paths(tensor)]
    return _one_after_another(joined, dim, call.shape[dim])


@rule("stack")
def _stack(call: Call, tracked: Tracked) -> Paths:
    dim = call.named["dim"] % len(call.shape)
    paths = [path.inserted(dim) for tensor in call.args[0] for path in tracked.paths(tensor)]
    return _one_after_another(paths, dim, call.shape[dim])


def _one_after_another(paths: Sequence[Path], dim: int, size: int) -> Paths:
    """Single positions that see different places become units of `dim`, in an order that is not followed."""
    single = [path.largest for path in paths if path.single and path.largest is not None]
    if len(set(single)) < 2:
        return [path.scattered(dim, size) for path in paths]
    hull = min(span.low(0) for span in single), max(span.high(0) for span in single)
    return [path.lump(dim, size, hull) if path.single else path.scattered(dim, size) for path in paths]


@rule("roll")
def _roll(call: Call, tracked: Tracked) -> Paths:
    """As a shift: what goes round the border is masked where it matters (shifted windows)."""
    dims = _dims(call.args[2], len(call.shape))
    if not call.args[2]:
        raise FieldLost
    for path in tracked.first:
        for dim, shift in zip(dims, per_axis(call.args[1], len(dims)), strict=True):
            path = path.resized(dim, call.shape[dim], (1, -shift, 1), (1, -shift, 1))
        yield path


@rule("index_select", "index")
def _picked(call: Call, tracked: Tracked) -> Paths:
    """Channels in another order; units of the picture in another order are not followed."""
    if call.func._opname == "index_select":
        dim = call.args[1] % len(call.shape)
    else:
        given = [d for d, index in enumerate(call.args[1]) if index is not None]
        if len(given) != 1 or call.args[1][given[0]].ndim != 1:
            raise FieldLost
        dim = given[0]
    paths = tracked.paths(call.args[0])
    if any(path.related(dim) for path in paths):
        raise FieldLost
    return [path.scattered(dim, call.shape[dim]) for path in paths]


@rule("pixel_shuffle")
def _pixel_shuffle(call: Call, tracked: Tracked) -> Paths:
    """(B, C r^2, H, W) -> (B, C, H r, W r)."""
    b, c, r = call.shape[0], call.shape[1], call.args[1]
    h, w = call.args[0].shape[-2:]
    return [p.reshaped((b, c, r, r, h, w)).permuted((0, 1, 4, 2, 5, 3)).reshaped(call.shape) for p in tracked.first]


@rule("pixel_unshuffle")
def _pixel_unshuffle(call: Call, tracked: Tracked) -> Paths:
    """(B, C, H r, W r) -> (B, C r^2, H, W)."""
    (b, c), r = call.args[0].shape[:2], call.args[1]
    h, w = call.shape[-2:]
    return [p.reshaped((b, c, h, r, w, r)).permuted((0, 1, 3, 5, 2, 4)).reshaped(call.shape) for p in tracked.first]


@rule("native_channel_shuffle", "channel_shuffle")
def _channel_shuffle(call: Call, tracked: Tracked) -> Paths:
    return [path.resized(1, call.shape[1], STRAIGHT, STRAIGHT) for path in tracked.first]
