"""Convolution arithmetic against PyTorch's own layers, a count by brute force, and the lectures' numbers."""

import doctest
import inspect
import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from neocog.core.errors import UsageError
from neocog.costs import arithmetic
from neocog.costs.arithmetic import (
    Stack,
    check_division,
    conv_macs,
    conv_params,
    dense_params,
    output_shape,
    output_size,
    same_padding,
    separable_macs,
    separable_params,
    separable_ratio,
    stack_instead_of,
    stacked_receptive_field,
    transposed_size,
)
from neocog.costs.count import count

# deadline=None: a first call of a layer may be slow, and time is not what is tested here.
properties = settings(max_examples=300, deadline=None)
sizes, kernels, strides = st.integers(1, 40), st.integers(1, 9), st.integers(1, 9)
paddings, dilations = st.integers(0, 9), st.integers(1, 4)


def shape_of(layer: Callable[[], nn.Module], *shape: int, device: str = "meta") -> tuple[int, ...] | None:
    """What PyTorch answers for one picture, or None where it refuses: at building, at running, or with nothing left."""
    with torch.device(device), torch.no_grad():
        try:
            out = layer()(torch.empty(1, *shape))
        except (RuntimeError, ValueError):
            return None
    return tuple(out.shape[1:]) if out.numel() else None


def ours(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except UsageError:
        return None


@properties
@given(sizes, kernels, strides, paddings, dilations)
@example(3, 1, 1, 9, 1)  # windows that lie in the padding alone are a convolution's right
@example(2, 3, 5, 0, 1)  # a kernel that hangs over by less than a stride fits a pool at most
def test_convolution(size: int, kernel_size: int, stride: int, padding: int, dilation: int) -> None:
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    judge = shape_of(lambda: nn.Conv2d(1, 1, (kernel_size, 1), **two(options)), 1, size, 1)
    assert ours(lambda: output_size(size, kernel_size, **options)) == (judge and judge[1])


def two(options: dict[str, int]) -> dict[str, tuple[int, int]]:
    """The options on the first axis; on the second nothing happens."""
    nothing = {"stride": 1, "padding": 0, "dilation": 1, "output_padding": 0}
    return {name: (value, nothing[name]) for name, value in options.items()}


@properties
@given(sizes, kernels, strides, paddings, dilations, st.booleans())
@example(2, 3, 5, 0, 1, True)
@example(5, 2, 3, 1, 1, True)  # the window that rounding up adds starts behind the picture
def test_pool(size: int, kernel_size: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> None:
    assume(padding <= kernel_size // 2)  # PyTorch's limit for pools, of which the arithmetic knows nothing
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    judge = shape_of(lambda: nn.MaxPool2d((kernel_size, 1), **two(options), ceil_mode=ceil_mode), 1, size, 1)
    assert ours(lambda: output_size(size, kernel_size, **options, ceil_mode=ceil_mode)) == (judge and judge[1])


@properties
@given(sizes, kernels, strides, paddings, dilations, st.integers(0, 9))
def test_transposed(size: int, kernel_size: int, stride: int, padding: int, dilation: int, output_padding: int) -> None:
    options = {"stride": stride, "padding": padding, "dilation": dilation, "output_padding": output_padding}
    # On the meta device PyTorch leaves output_padding unchecked.
    judge = shape_of(lambda: nn.ConvTranspose2d(1, 1, (kernel_size, 1), **two(options)), 1, size, 1, device="cpu")
    assert ours(lambda: transposed_size(size, kernel_size, **options)) == (judge and judge[1])


@properties
@given(sizes, kernels, strides, paddings, dilations)
def test_transposing_brings_size_back(size: int, kernel_size: int, stride: int, padding: int, dilation: int) -> None:
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    out = ours(lambda: output_size(size, kernel_size, **options))
    assume(out is not None)
    rest = (size + 2 * padding - dilation * (kernel_size - 1) - 1) % stride
    assert transposed_size(out, kernel_size, **options, output_padding=rest) == size


@properties
@given(sizes, kernels, strides, dilations)
def test_same_padding_is_the_least_that_gives_the_size(size: int, kernel_size: int, stride: int, dilation: int) -> None:
    before, after = same_padding(size, kernel_size, stride=stride, dilation=dilation)
    assert 0 <= before <= after <= before + 1
    padded = size + before + after
    out = -(-size // stride)
    assert output_size(size, kernel_size, stride=stride, dilation=dilation, padding="same") == out
    assert output_size(padded, kernel_size, stride=stride, dilation=dilation) == out
    if after:
        assert ours(lambda: output_size(padded - 1, kernel_size, stride=stride, dilation=dilation)) in (out - 1, None)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize(("kernel_size", "dilation"), [(3, 1), (4, 1), (2, 3), (5, 2), (4, 2)])
def test_same_padding_puts_the_zeros_where_pytorch_does(kernel_size: int, dilation: int) -> None:
    x: Tensor = torch.arange(1.0, 10).view(1, 1, 9)
    weight = torch.arange(1.0, kernel_size + 1).view(1, 1, -1)
    by_hand = F.conv1d(F.pad(x, same_padding(9, kernel_size, dilation=dilation)), weight, dilation=dilation)
    assert torch.equal(by_hand, F.conv1d(x, weight, dilation=dilation, padding="same"))


def test_same_padding_of_tensorflow() -> None:
    # tf.nn's documented cases for an even picture with stride 2: the extra zero stands behind it.
    assert [same_padding(224, k, stride=2) for k in (1, 2, 3, 5, 7)] == [(0, 0), (0, 0), (0, 1), (1, 2), (2, 3)]
    assert same_padding(225, 3, stride=2) == (1, 1)


channels, small_kernels = st.integers(1, 6), st.integers(1, 4)


@settings(max_examples=100, deadline=None)
@given(
    channels, channels, st.integers(1, 4), st.tuples(small_kernels, small_kernels),
    st.tuples(st.integers(4, 12), st.integers(4, 12)), st.tuples(small_kernels, small_kernels), st.booleans(),
    st.booleans(),
)  # fmt: skip
def test_shape_params_and_macs_of_a_layer(
    per_in: int, per_out: int, groups: int, kernel_size: tuple[int, int], size: tuple[int, int],
    stride: tuple[int, int], bias: bool, transposed: bool,
) -> None:  # fmt: skip
    in_channels, out_channels = per_in * groups, per_out * groups
    with torch.device("meta"):
        kind = nn.ConvTranspose2d if transposed else nn.Conv2d
        layer = kind(in_channels, out_channels, kernel_size, stride=stride, padding=(1, 0), groups=groups, bias=bias)
        assume(not transposed or min((s - 1) * t + k for s, t, k in zip(size, stride, kernel_size, strict=True)) > 2)
        out = tuple(layer(torch.empty(1, in_channels, *size)).shape[1:])
    places = size
    if not transposed:
        places = out[1:]
        shape = output_shape(
            (in_channels, *size), kernel_size, out_channels=out_channels, stride=stride, padding=(1, 0)
        )
        assert shape == out
    cost = count(layer, (in_channels, *size))
    assert conv_params(in_channels, out_channels, kernel_size, groups=groups, bias=bias) == cost.params
    assert conv_macs(in_channels, out_channels, kernel_size, places, groups=groups) == cost.macs


@settings(max_examples=50, deadline=None)
@given(channels, channels, st.tuples(small_kernels, small_kernels), st.integers(4, 9), st.booleans())
def test_separable(in_channels: int, out_channels: int, kernel_size: tuple[int, int], size: int, bias: bool) -> None:
    with torch.device("meta"):
        depthwise = nn.Conv2d(in_channels, in_channels, kernel_size, stride=2, groups=in_channels, bias=bias)
        layers = nn.Sequential(depthwise, nn.Conv2d(in_channels, out_channels, 1, bias=bias))
    _, *out = output_shape((in_channels, size, size), kernel_size, stride=2)
    cost = count(layers, (in_channels, size, size))
    assert separable_params(in_channels, out_channels, kernel_size, bias=bias) == cost.params
    assert separable_macs(in_channels, out_channels, kernel_size, (out[0], out[1])) == cost.macs
    full = conv_macs(in_channels, out_channels, kernel_size, (out[0], out[1]))
    assert separable_ratio(out_channels, kernel_size) == pytest.approx(cost.macs / full)


def test_separable_numbers_of_mobilenet() -> None:
    # Table 4 of arXiv:1704.04861: 569 M separable; with full convolutions 4866, where its Table 1 gives 4867.3.
    layers = [(32, 64, 112), (64, 128, 56), (128, 128, 56), (128, 256, 28), (256, 256, 28), (256, 512, 14)]
    layers += [(512, 512, 14)] * 5 + [(512, 1024, 7), (1024, 1024, 7)]
    ends = conv_macs(3, 32, 3, 112) + conv_macs(1024, 1000, 1, 1)
    assert round((ends + sum(separable_macs(i, o, 3, size) for i, o, size in layers)) / 1e6) == 569
    assert round((ends + sum(conv_macs(i, o, 3, size) for i, o, size in layers)) / 1e6) == 4867


@pytest.mark.parametrize(("layers", "kernel_size"), [(1, 3), (2, 3), (3, 3), (4, 2), (2, 5)])
def test_stacked_receptive_field_by_gradient(layers: int, kernel_size: int) -> None:
    x = torch.zeros(1, 1, 31, requires_grad=True)
    y = x
    for _ in range(layers):
        y = F.conv1d(y, torch.ones(1, 1, kernel_size))
    y[0, 0, 3].backward()
    assert x.grad is not None
    assert int(x.grad.count_nonzero()) == stacked_receptive_field(layers, kernel_size)


def test_stacks() -> None:
    assert stack_instead_of(5) == Stack(layers=2, params=18, single_params=25)
    # Section 2.3 of VGG's paper: 27 C^2 against 49 C^2, "81% more".
    seven = stack_instead_of(7, channels=64)
    assert (seven.layers, seven.params, seven.single_params) == (3, 27 * 64**2, 49 * 64**2)
    assert round(1 / seven.ratio, 2) == 1.81
    assert stack_instead_of(3).ratio == 1
    assert stack_instead_of(9, small=5) == Stack(layers=2, params=50, single_params=81)
    for kernel_size, small in ((4, 3), (1, 3), (7, 5)):
        with pytest.raises(UsageError, match=rf"no stack of {small} x {small} .* {kernel_size} x {kernel_size};"):
            stack_instead_of(kernel_size, small=small)


# ---- a stride that does not divide


def never_seen(size: int, kernel_size: int, stride: int, padding: int, dilation: int) -> tuple[int, int]:
    """(input, all) positions behind the last one that any window touches, by laying the windows down one by one."""
    padded = ["padding"] * padding + ["input"] * size + ["padding"] * padding
    starts = range(0, len(padded) - dilation * (kernel_size - 1), stride)
    last = max(starts) + dilation * (kernel_size - 1)
    return padded[last + 1 :].count("input"), len(padded) - last - 1


def numbers(message: str, name: str) -> list[int]:
    """What the message offers after `name`: "size 55 or 57" -> [55, 57]."""
    found = re.search(rf"\b{name} (\d+(?: or \d+)*)", message.partition("; ")[2])
    return [int(n) for n in found[1].split(" or ")] if found else []


@properties
@given(sizes, kernels, strides, paddings, dilations)
@example(1, 1, 25, 10, 1)  # the only window lies in the padding before the picture
@example(9, 2, 4, 1, 1)
def test_message_says_what_is_lost_and_what_divides(
    size: int, kernel_size: int, stride: int, padding: int, dilation: int
) -> None:
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    assume(ours(lambda: output_size(size, kernel_size, **options)) is not None)
    message = check_division(size, kernel_size, **options)
    lost, rest = never_seen(size, kernel_size, stride, padding, dilation)

    assert bool(message) == bool(rest)
    if not message:
        assert output_size(size, kernel_size, **options, exact=True) == output_size(size, kernel_size, **options)
        return
    with pytest.raises(UsageError) as error:
        output_size(size, kernel_size, **options, exact=True)
    assert str(error.value) == message
    assert "\n" not in message
    number, of = (lost, "the input") if lost else (rest, "padding, no input,")
    rows, verb = ("row (or column)", "is") if number == 1 else (f"{number} rows (or columns)", "are")
    assert f"so the last {rows} of {of} {verb} never seen;" in message

    def divides(n: int, p: int) -> bool:
        covered = dilation * (kernel_size - 1) + 1
        return n > 0 and p >= 0 and n + 2 * p >= covered and (n + 2 * p - covered) % stride == 0

    assert numbers(message, "size") == nearest(size, lambda n: divides(n, padding), stride)
    assert numbers(message, "padding") == nearest(padding, lambda p: divides(size, p), stride)
    assert ("equal padding on both sides never does" in message) == (not numbers(message, "padding"))


def nearest(value: int, good: Callable[[int], bool], reach: int) -> list[int]:
    """The next good number below and the next above, where there is one within `reach`."""
    below = [n for n in range(value - 1, value - reach - 1, -1) if good(n)]
    return below[:1] + [n for n in range(value + 1, value + reach + 1) if good(n)][:1]


@properties
@given(sizes, kernels, strides, dilations)
def test_message_under_same_padding(size: int, kernel_size: int, stride: int, dilation: int) -> None:
    options: dict[str, Any] = {"stride": stride, "padding": "same", "dilation": dilation}
    message = check_division(size, kernel_size, **options)
    covered = dilation * (kernel_size - 1) + 1
    assert bool(message) == ((size - 1) % stride + 1 > covered)  # only where the stride outruns the kernel
    if message:
        assert numbers(message, "size") == nearest(
            size, lambda n: n > 0 and not check_division(n, kernel_size, **options), stride
        )
        assert not numbers(message, "padding")


def test_messages_read_well() -> None:
    # AlexNet's table pools 56 to 27 this way, deck 003 halves 256 this way.
    assert check_division(56, 3, stride=2) == (
        "stride 2 does not divide evenly: (56 - 3 + 0) / 2 + 1 = 27 1/2, so the last row (or column) of the input is "
        "never seen; size 55 or 57 divides evenly, equal padding on both sides never does"
    )
    assert check_division(256, 3, stride=2, padding=1) == (
        "stride 2 does not divide evenly: (256 - 3 + 2) / 2 + 1 = 128 1/2, so the last row (or column) of padding, no "
        "input, is never seen; size 255 or 257 divides evenly, equal padding on both sides never does"
    )
    assert check_division(225, 11, stride=4) == (
        "stride 4 does not divide evenly: (225 - 11 + 0) / 4 + 1 = 54 2/4, so the last 2 rows (or columns) of the "
        "input are never seen; size 223 or 227 divides evenly, or padding 1"
    )
    assert check_division(7, 3, stride=2) == ""
    with pytest.raises(UsageError, match=r"exact=True .* ceil_mode=True"):
        output_size(56, 3, stride=2, exact=True, ceil_mode=True)
    with pytest.raises(UsageError, match="stride 2 does not divide"):
        output_shape((64, 55, 56), 3, stride=2, exact=True)


# ---- the lectures


@pytest.mark.parametrize(
    ("in_shape", "filters", "kernel_size", "stride", "padding", "out"),
    [
        ((3, 224, 224), 32, 3, 1, 0, (32, 222, 222)),
        ((16, 32, 32), 32, 5, 1, 2, (32, 32, 32)),
        ((16, 32, 32), None, 3, 2, 0, (16, 15, 15)),
        ((3, 256, 256), 16, 3, 2, 1, (16, 128, 128)),
        ((1, 7, 7), 1, 3, 2, 0, (1, 3, 3)),
        ((3, 227, 227), 64, 11, 4, 2, (64, 56, 56)),
        ((64, 56, 56), None, 3, 2, 0, (64, 27, 27)),
        ((3, 20, 30), 8, (3, 5), (1, 2), "same", (8, 20, 15)),  # no lecture's: both axes on their own
    ],
)
def test_shapes_of_the_lectures(
    in_shape: Any, filters: int | None, kernel_size: Any, stride: Any, padding: Any, out: Any
) -> None:
    assert output_shape(in_shape, kernel_size, out_channels=filters, stride=stride, padding=padding) == out


def test_googlenet_pools_round_up() -> None:
    assert output_shape((64, 112, 112), 3, stride=2, ceil_mode=True) == (64, 56, 56)


def test_numbers_of_the_lectures() -> None:
    assert transposed_size(128, 4, stride=2, padding=1) == 256
    assert conv_params(3, 10, 5) == 760
    assert [dense_params(8, 32), dense_params(32, 32), dense_params(32, 2)] == [288, 1056, 66]
    assert dense_params(256**2, 256**2, bias=False) == 4_294_967_296
    assert [conv_params(1, 32, 3), conv_params(32, 64, 3), dense_params(1600, 10), conv_params(64, 10, 1)] == [
        320, 18496, 16010, 650,
    ]  # fmt: skip
    assert [conv_params(i, o, 3, bias=False) for i, o in ((3, 64), (64, 64), (512, 512))] == [1728, 36864, 2_359_296]
    assert sum(conv_macs(256, o, k, 28) for o, k in ((128, 1), (192, 3), (96, 5))) == 854_196_224
    # Deck 003: layer 1 sees 3 x 3, layer 2 sees 5 x 5.
    assert [stacked_receptive_field(n, 3) for n in (1, 2, 3)] == [3, 5, 7]


@pytest.fixture(scope="module")
def facts(shared: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((shared / "facts.json").read_text())
    return content


def test_every_shape_in_the_facts(facts: dict[str, Any]) -> None:
    assert len(facts["shapes"]) >= 8
    for row in facts["shapes"]:
        window = {"stride": row["stride"], "padding": row["pad"]}
        if row["layer"] == "transposed conv":
            assert [transposed_size(n, row["kernel"], **window) for n in row["in"][1:]] == row["out"][1:]
            continue
        shape = output_shape(tuple(row["in"]), row["kernel"], out_channels=row.get("filters"), **window)
        assert list(shape) == row["out"]
        if "params" in row:
            assert conv_params(row["in"][0], row["filters"], row["kernel"]) == row["params"]


def test_every_layer_of_the_tables_in_the_facts(facts: dict[str, Any]) -> None:
    rows = 0
    for table in (facts["alexnet_table"], facts["googlenet_stem"]):
        shape = tuple(table["input"])
        for row in (row for row in table["rows"] if "kernel" in row):
            channels, rows = shape[0], rows + 1
            filters = None if "pool" in row["layer"] else row["filters"]
            shape = output_shape(
                shape, row["kernel"], out_channels=filters, stride=row["stride"], padding=row["pad"],
            )  # fmt: skip
            assert list(shape) == row["out"], row
            if filters:
                params = conv_params(channels, filters, row["kernel"], bias=table is facts["alexnet_table"])
                assert abs(params / 1000 - row["params_k"]) <= 1, row  # the decks cut or round
                macs = conv_macs(channels, filters, row["kernel"], shape[1:])
                assert abs(macs / 1e6 - row.get("computed_flop_m", row["flop_m"])) <= 1, row
    assert rows == 13


def test_parameter_counts_in_the_facts(facts: dict[str, Any]) -> None:
    dense, mnist, convnet, fully_convolutional, per_pixel, _ = facts["parameter_counts"]
    for model, widths in ((dense, (8, 32, 32, 2)), (mnist, (784, 256, 128, 64, 10))):
        assert [dense_params(i, o) for i, o in pairwise(widths)] == model["layers"]
    convolutions = [conv_params(1, 32, 3), conv_params(32, 64, 3)]
    assert [*convolutions, dense_params(1600, 10)] == convnet["layers"]
    assert [*convolutions, conv_params(64, 10, 1)] == fully_convolutional["layers"]
    assert dense_params(256**2, 256**2, bias=False) == per_pixel["total_weights"]
    stages = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
    vgg = [conv_params(i, o, 3, bias=False) for i, o in pairwise(stages)]
    assert vgg == facts["vgg16"]["conv_params"]


# ---- errors, examples


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: output_size(4, 7), "kernel_size 7 .* covers 7 pixels, but size 4 .* has 4; .* padding 2"),
        (lambda: output_size(4, 3, dilation=2), "covers 5 pixels, but size 4 .* padding 1"),
        (lambda: check_division(4, 7, stride=2), "covers 7 pixels"),
        (lambda: output_size(0, 3), "size must be a whole number of at least 1, not 0"),
        (lambda: output_size(8, 0), "kernel_size must be"),
        (lambda: output_size(8, 3, stride=0), "stride must be"),
        (lambda: output_size(8, 3, dilation=0), "dilation must be"),
        (lambda: output_size(8, 3, padding=-1), "padding must be a whole number of at least 0, not -1"),
        (lambda: output_size(8, 3, padding=1.5), "padding must be a whole number of at least 0, not 1.5"),
        (lambda: output_size(8, 3, padding=None), "padding must be"),
        (lambda: output_size(8, 3, padding="valid"), "padding must be a whole number or \"same\", not 'valid'"),
        (lambda: output_size(8.0, 3), "size must be a whole number"),
        (lambda: output_size(True, 1), "size must be a whole number"),
        (lambda: transposed_size(8, 3, stride=2, output_padding=2), "output_padding 2 is not smaller .* at most 1"),
        (lambda: transposed_size(2, 3, padding=2), "padding 2 cuts off all 4 rows"),
        (lambda: transposed_size(2, 3, padding=-1), "padding must be"),
        (lambda: same_padding(8, 3, stride=-2), "stride must be"),
        (lambda: output_shape((1, 3, 8, 8), 3), "in_shape must be .C, H, W."),
        (lambda: output_shape((3, 8, 8), 3, out_channels=0), "out_channels must be"),
        (lambda: output_shape((3, 8, 8), (3, 3, 3)), "kernel_size must be one number or .height, width."),
        (lambda: output_shape((3, 8, 8), 3, padding=(1, -1)), "padding must be"),
        (lambda: conv_params(6, 4, 3, groups=3), "groups 3 .* in_channels 6 and out_channels 4; take 2"),
        (lambda: conv_params(4, 6, 3, groups=3), "groups 3 does not divide both"),
        (lambda: conv_macs(3, 8, 3, (0, 4)), "out_size must be"),
        (lambda: conv_macs(3, 8, 3, (4, 0)), "out_size must be"),
        (lambda: conv_macs(3, 8, 3, 4, groups=0), "groups must be"),
        (lambda: dense_params(0, 8), "in_features must be"),
        (lambda: separable_params(3, 0, 3), "out_channels must be"),
        (lambda: separable_ratio(0, 3), "out_channels must be"),
        (lambda: stacked_receptive_field(0, 3), "layers must be"),
        (lambda: stack_instead_of(3, small=1), "small must be a whole number of at least 2"),
    ],
)
def test_errors(call: Callable[[], Any], says: str) -> None:
    with pytest.raises(UsageError, match=says) as error:
        call()
    assert "\n" not in str(error.value)


def test_padding_that_the_error_names_is_the_least_that_fits() -> None:
    for size, kernel_size in ((4, 7), (4, 8), (1, 9), (3, 4)):
        with pytest.raises(UsageError) as error:
            output_size(size, kernel_size)
        padding = numbers(str(error.value), "padding")[0]
        assert output_size(size, kernel_size, padding=padding) >= 1
        assert ours(lambda n=size, k=kernel_size, p=padding - 1: output_size(n, k, padding=p)) is None


def test_examples_in_the_docstrings() -> None:
    finder = doctest.DocTestFinder(exclude_empty=False)
    examples = {test.name.rpartition(".")[2]: test for test in finder.find(arithmetic, "arithmetic")}
    public = [name for name, _ in inspect.getmembers(arithmetic, inspect.isfunction) if not name.startswith("_")]
    here = [name for name in public if getattr(arithmetic, name).__module__ == arithmetic.__name__]
    assert len(here) >= 13
    assert [name for name in here if not examples[name].examples] == []
    runner = doctest.DocTestRunner()
    for name in here:
        assert runner.run(examples[name]).failed == 0, name
