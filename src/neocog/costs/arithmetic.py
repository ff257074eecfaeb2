"""The arithmetic of convolutions as functions: sizes, paddings, parameters and MACs, before any layer exists.

Sizes are in pixels along one axis; `output_shape` applies them to (C, H, W). Params are learned numbers, MACs are
multiply-accumulates for one picture. Whatever does not fit or is no positive whole number is a UsageError.
Sources (arXiv): Dumoulin and Visin 1603.07285, VGG 1409.1556, MobileNet 1704.04861; and TensorFlow's padding rule.
"""

from dataclasses import dataclass
from math import gcd

from neocog.core.errors import UsageError

Pair = int | tuple[int, int]  # one number for both axes, or (height, width)


def output_size(
    size: int, kernel_size: int, *, stride: int = 1, padding: int | str = 0, dilation: int = 1,
    ceil_mode: bool = False, exact: bool = False,
) -> int:  # fmt: skip
    """floor((size - K + 2 padding) / stride) + 1 for a convolution or pool, with K = dilation (kernel_size - 1) + 1.

    `padding` "same" gives ceil(size / stride), TensorFlow's rule; PyTorch's layers know it only for stride 1.
    `ceil_mode` (pools) rounds up, but a window that would start in the padding behind the picture is dropped, as in
    PyTorch. `exact` refuses a stride that does not divide, with the message of `check_division`.

    >>> output_size(227, 11, stride=4, padding=2)  # AlexNet's first layer
    56
    """
    covered, before, after = _layout(size, kernel_size, stride, padding, dilation, ceil_mode)
    if exact and ceil_mode:
        raise UsageError("exact=True wants a stride that divides, ceil_mode=True rounds up", "choose one of the two")
    if exact and (problem := check_division(size, kernel_size, stride=stride, padding=padding, dilation=dilation)):
        raise UsageError(problem)
    span = size + before + after - covered
    out = (-(-span // stride) if ceil_mode else span // stride) + 1
    return out - 1 if ceil_mode and (out - 1) * stride >= size + before else out


def check_division(size: int, kernel_size: int, *, stride: int = 1, padding: int | str = 0, dilation: int = 1) -> str:
    """Empty where the stride divides size - K + 2 padding; else one line: what is lost, and what divides evenly.

    Rounding down is legal, and usual (3 x 3 windows with stride 2 and padding 1 on any even size): the message says
    whether input or only padding is cut off at the end. Rows between windows (stride > K) are not its subject.
    The paddings it offers suit convolutions; PyTorch's pools take at most half a kernel.

    >>> check_division(227, 11, stride=4, padding=2)
    ''
    >>> print(check_division(56, 3, stride=2))  # doctest: +NORMALIZE_WHITESPACE
    stride 2 does not divide evenly: (56 - 3 + 0) / 2 + 1 = 27 1/2, so the last row (or column) of the input is never
    seen; size 55 or 57 divides evenly, equal padding on both sides never does
    """
    covered, before, after = _layout(size, kernel_size, stride, padding, dilation)
    span = size + before + after - covered
    rest = span % stride
    if not rest:
        return ""
    lost = min(max(rest - after, 0), size)
    rows = "row (or column)" if (lost or rest) == 1 else f"{lost or rest} rows (or columns)"
    # "same" pads a larger picture as soon as its next window begins; otherwise that window must fit as a whole.
    sizes = [size - rest, size + stride - rest - (covered - 1 if padding == "same" else 0)]
    hint = f"size {' or '.join(str(n) for n in sizes if n > 0)} divides evenly"
    if isinstance(padding, int):
        # Padding counts twice. An odd stride always has an equal padding, an even one only for an even rest.
        less = [n // 2 for n in (rest, rest + stride) if n % 2 == 0 and n // 2 <= padding and n <= span][:1]
        more = [n // 2 for n in (stride - rest, 2 * stride - rest) if n % 2 == 0][:1]
        paddings = " or ".join([str(padding - n) for n in less] + [str(padding + n) for n in more])
        hint += f", or padding {paddings}" if paddings else ", equal padding on both sides never does"
    return (
        f"stride {stride} does not divide evenly: ({size} - {covered} + {before + after}) / {stride} + 1 = "
        f"{span // stride + 1} {rest}/{stride}, so the last {rows} of {'the input' if lost else 'padding, no input,'} "
        f"{'is' if (lost or rest) == 1 else 'are'} never seen; {hint}"
    )


def transposed_size(
    size: int, kernel_size: int, *, stride: int = 1, padding: int = 0, output_padding: int = 0, dilation: int = 1
) -> int:
    """(size - 1) stride - 2 padding + K + output_padding for a transposed convolution, K as in `output_size`.

    It undoes `output_size`; what a stride that does not divide cut off comes back through `output_padding`, which
    must be smaller than the stride or the dilation, as in PyTorch.

    >>> transposed_size(128, 4, stride=2, padding=1)
    256
    """
    _whole(1, size=size, kernel_size=kernel_size, stride=stride, dilation=dilation)
    _whole(0, padding=padding, output_padding=output_padding)
    if output_padding >= max(stride, dilation):
        raise UsageError(
            f"output_padding {output_padding} is not smaller than stride {stride} or dilation {dilation}",
            f"take at most {max(stride, dilation) - 1}, or a larger stride",
        )
    out = (size - 1) * stride - 2 * padding + dilation * (kernel_size - 1) + 1 + output_padding
    if out < 1:
        raise UsageError(f"padding {padding} cuts off all {out + 2 * padding} rows (or columns)", "take less padding")
    return out


def same_padding(size: int, kernel_size: int, *, stride: int = 1, dilation: int = 1) -> tuple[int, int]:
    """(before, after): the least padding with which the output has ceil(size / stride) places, TensorFlow's rule.

    An odd total puts the extra zero behind the picture. Stride 1: both are (K - 1) / 2 for an odd kernel.

    >>> same_padding(224, 3, stride=2)
    (0, 1)
    """
    _whole(1, size=size, kernel_size=kernel_size, stride=stride, dilation=dilation)
    total = max((-(-size // stride) - 1) * stride + dilation * (kernel_size - 1) + 1 - size, 0)
    return total // 2, total - total // 2


def output_shape(
    in_shape: tuple[int, int, int], kernel_size: Pair, *, out_channels: int | None = None, stride: Pair = 1,
    padding: Pair | str = 0, dilation: Pair = 1, ceil_mode: bool = False, exact: bool = False,
) -> tuple[int, int, int]:  # fmt: skip
    """(C, H, W) -> (C', H', W') by `output_size` on both axes. `out_channels` None keeps C, as a pool does.

    The stride is 1 unless given, also for pools, where PyTorch takes the kernel size.

    >>> output_shape((3, 256, 256), 3, out_channels=16, stride=2, padding=1)
    (16, 128, 128)
    """
    if not isinstance(in_shape, tuple | list) or len(in_shape) != 3:
        raise UsageError(f"in_shape must be (C, H, W), not {in_shape!r}", "leave the batch out: (3, 224, 224)")
    channels = in_shape[0] if out_channels is None else out_channels
    _whole(1, in_channels=in_shape[0], out_channels=channels)
    kernel, step, spread = _pair("kernel_size", kernel_size), _pair("stride", stride), _pair("dilation", dilation)
    pad = (padding, padding) if isinstance(padding, str) else _pair("padding", padding, least=0)
    height, width = (
        output_size(n, k, stride=s, padding=pad[i], dilation=d, ceil_mode=ceil_mode, exact=exact)
        for i, (n, k, s, d) in enumerate(zip(in_shape[1:], kernel, step, spread, strict=True))
    )
    return channels, height, width


def dense_params(in_features: int, out_features: int, *, bias: bool = True) -> int:
    """out_features (in_features + 1): one weight per connection, one bias per unit.

    >>> dense_params(7 * 7 * 512, 4096, bias=False)  # VGG's first
    102760448
    """
    _whole(1, in_features=in_features, out_features=out_features)
    return out_features * (in_features + bool(bias))


def conv_params(in_channels: int, out_channels: int, kernel_size: Pair, *, groups: int = 1, bias: bool = True) -> int:
    """out_channels (in_channels / groups kernel_h kernel_w + 1), also of a transposed convolution.

    >>> conv_params(3, 10, 5)  # ten filters of 5 * 5 * 3 + 1
    760
    """
    return conv_macs(in_channels, out_channels, kernel_size, 1, groups=groups) + out_channels * bool(bias)


def conv_macs(in_channels: int, out_channels: int, kernel_size: Pair, out_size: Pair, *, groups: int = 1) -> int:
    """Every weight once per output place; biases are additions, no MACs. Two FLOPs are one MAC.

    Of a transposed convolution pass the size of the input: there, every weight works once per input place.

    >>> conv_macs(3, 64, 11, 56)  # AlexNet's first layer
    72855552
    """
    _whole(1, in_channels=in_channels, out_channels=out_channels, groups=groups)
    (kernel_h, kernel_w), (out_h, out_w) = _pair("kernel_size", kernel_size), _pair("out_size", out_size)
    if in_channels % groups or out_channels % groups:
        raise UsageError(
            f"groups {groups} does not divide both in_channels {in_channels} and out_channels {out_channels}",
            f"take {gcd(in_channels, out_channels)} or one of its divisors",
        )
    return out_channels * (in_channels // groups) * kernel_h * kernel_w * out_h * out_w


def separable_params(in_channels: int, out_channels: int, kernel_size: Pair, *, bias: bool = True) -> int:
    """A depthwise convolution (one filter per channel) and a 1 x 1 convolution that mixes the channels.

    >>> separable_params(512, 512, 3, bias=False), conv_params(512, 512, 3, bias=False)
    (266752, 2359296)
    """
    depthwise = conv_params(in_channels, in_channels, kernel_size, groups=in_channels, bias=bias)
    return depthwise + conv_params(in_channels, out_channels, 1, bias=bias)


def separable_macs(in_channels: int, out_channels: int, kernel_size: Pair, out_size: Pair) -> int:
    """The same two layers; the depthwise one has the stride, so both have `out_size` places.

    >>> separable_macs(512, 512, 3, 14)
    52283392
    """
    depthwise = conv_macs(in_channels, in_channels, kernel_size, out_size, groups=in_channels)
    return depthwise + conv_macs(in_channels, out_channels, 1, out_size)


def separable_ratio(out_channels: int, kernel_size: Pair) -> float:
    """Its MACs (and weights) as a share of the full convolution's: 1 / out_channels + 1 / (kernel_h kernel_w).

    >>> round(separable_ratio(512, 3), 3)  # MobileNet: 8 to 9 times less for 3 x 3
    0.113
    """
    _whole(1, out_channels=out_channels)
    kernel_h, kernel_w = _pair("kernel_size", kernel_size)
    return 1 / out_channels + 1 / (kernel_h * kernel_w)


def stacked_receptive_field(layers: int, kernel_size: int) -> int:
    """1 + layers (kernel_size - 1): the pixels one output sees through convolutions of stride 1.

    >>> stacked_receptive_field(2, 3), stacked_receptive_field(3, 3)
    (5, 7)
    """
    _whole(1, layers=layers, kernel_size=kernel_size)
    return 1 + layers * (kernel_size - 1)


@dataclass(frozen=True)
class Stack:
    """`layers` small convolutions against one large one that sees as much: weights without biases."""

    layers: int
    params: int
    single_params: int

    @property
    def ratio(self) -> float:
        """Of weights, and with stride 1 and the same padding of MACs."""
        return self.params / self.single_params


def stack_instead_of(kernel_size: int, *, channels: int = 1, small: int = 3) -> Stack:
    """VGG's comparison, `channels` in and out: with C channels, three 3 x 3 have 27 C^2 weights and one 7 x 7 has 49.

    >>> stack_instead_of(5)
    Stack(layers=2, params=18, single_params=25)
    """
    _whole(1, kernel_size=kernel_size, channels=channels)
    _whole(2, small=small)
    layers, rest = divmod(kernel_size - 1, small - 1)
    if rest or not layers:
        raise UsageError(
            f"no stack of {small} x {small} convolutions sees exactly {kernel_size} x {kernel_size}",
            f"kernel_size must be {small}, {2 * small - 1}, {3 * small - 2} and so on",
        )
    weights = [conv_params(channels, channels, size, bias=False) for size in (small, kernel_size)]
    return Stack(layers, layers * weights[0], weights[1])


def _layout(
    size: int, kernel_size: int, stride: int, padding: int | str, dilation: int, ceil_mode: bool = False
) -> tuple[int, int, int]:
    """(K, zeros before, zeros after), or what does not fit."""
    before, after = same_padding(size, kernel_size, stride=stride, dilation=dilation)
    if not isinstance(padding, str):
        _whole(0, padding=padding)
        before = after = padding
    elif padding != "same":
        raise UsageError(f'padding must be a whole number or "same", not {padding!r}', "padding=0 is no padding")
    covered = dilation * (kernel_size - 1) + 1
    # Rounding up, a window may hang over the end by less than one stride.
    if size + before + after - covered < (1 - stride if ceil_mode else 0):
        raise UsageError(
            f"kernel_size {kernel_size} with dilation {dilation} covers {covered} pixels, but size {size} with its "
            f"padding has {size + before + after}",
            f"take a smaller kernel, a larger picture or padding {(covered - size + 1) // 2}",
        )
    return covered, before, after


def _whole(least: int, **numbers: int) -> None:
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise UsageError(f"{name} must be a whole number of at least {least}, not {value!r}", f"change {name}")


def _pair(name: str, value: Pair, least: int = 1) -> tuple[int, int]:
    height, width = value if isinstance(value, tuple | list) and len(value) == 2 else (value, value)
    if isinstance(height, tuple | list):
        raise UsageError(f"{name} must be one number or (height, width), not {value!r}", f"change {name}")
    _whole(least, **{name: height})
    _whole(least, **{name: width})
    return height, width
