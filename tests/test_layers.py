"""Layers against slow twins in NumPy, the decks' worked examples, and what their docstrings promise."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from draw import pictures
from neocog.layers.conv import ConvNormAct, replace_conv_classifier
from neocog.layers.dropout import Dropout, random_bytes
from neocog.layers.init import CONSTANT, NORMAL_STD, SCHEMES, UNIFORM_BOUND, initialise
from neocog.layers.same_pad import SamePadConv2d

Array = NDArray[np.float64]


def twin_conv(x: Array, weight: Array, stride: int = 1) -> Array:
    """Cross-correlation, one output number at a time: (C, H, W), (O, C, k, k) -> (O, H', W')."""
    out_channels, _, k, _ = weight.shape
    rows, columns = ((size - k) // stride + 1 for size in x.shape[1:])
    out = np.zeros((out_channels, rows, columns))
    for o in range(out_channels):
        for i in range(rows):
            for j in range(columns):
                out[o, i, j] = (weight[o] * x[:, i * stride : i * stride + k, j * stride : j * stride + k]).sum()
    return out


def twin_max_pool(x: Array, k: int) -> Array:
    rows, columns = (size // k for size in x.shape)
    return np.array([[x[i * k : i * k + k, j * k : j * k + k].max() for j in range(columns)] for i in range(rows)])


# The decks' worked examples: input, kernel, output
CROSS_CORRELATIONS = [
    (
        [[10, 2, 4, 1, 1], [0, 4, 0, 2, 2], [1, 8, 16, 0, 0], [8, 1, 1, 0, 0], [0, 0, 2, 6, 1]],
        [[2, 2, 2], [1, 0, 1], [2, 2, 2]],
        [[82, 68, 46], [45, 24, 26], [63, 65, 51]],
    ),
    ([[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[0, 1], [2, 3]], [[19, 25], [37, 43]]),
    (
        [[[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[1, 2, 3], [4, 5, 6], [7, 8, 9]]],
        [[[0, 1], [2, 3]], [[1, 2], [3, 4]]],
        [[56, 72], [104, 120]],
    ),
    ([[20, 0, 0], [20, 0, 0], [20, 20, 0]], [[2, 0], [0, 2]], [[40, 0], [80, 0]]),
    ([[0, 20, 0], [0, 20, 0], [0, 20, 20]], [[2, 0], [0, 2]], [[40, 40], [40, 80]]),
]


@pytest.mark.parametrize(("picture", "kernel", "output"), CROSS_CORRELATIONS)
def test_the_decks_cross_correlations(picture: list, kernel: list, output: list) -> None:
    x, w = (np.array(v, float).reshape(-1, *np.shape(v)[-2:]) for v in (picture, kernel))
    assert twin_conv(x, w[None]).tolist() == [output]
    block = ConvNormAct(x.shape[0], 1, w.shape[1], norm=None, act=None)
    block.conv.padding = (0, 0)
    block.conv.weight.data = torch.tensor(w[None], dtype=torch.float32)
    assert block(torch.tensor(x, dtype=torch.float32)[None]).tolist() == [[output]]


def test_the_decks_max_pools() -> None:
    picture = np.array([[4, 6, 1, 1], [1, 3, 1, 3], [4, 0, 0, 8], [8, 5, 4, 0]], float)
    assert twin_max_pool(picture, 2).tolist() == [[6, 3], [8, 8]]
    assert nn.MaxPool2d(2)(torch.tensor(picture)[None]).tolist() == [[[6, 3], [8, 8]]]
    # Invariance: the edge of the last two examples above moves by one pixel, the pool's answer does not.
    assert twin_max_pool(np.array([[40, 0], [80, 0]], float), 2) == twin_max_pool(np.array([[40, 40], [40, 80]]), 2)


def test_max_pool_and_relu_commute_bit_for_bit() -> None:
    # The networks put the pool first; this is what makes that the same function, forward and backward.
    for pool in (nn.MaxPool2d(2), nn.MaxPool2d(3, 2, padding=1), nn.MaxPool2d(3, 2, ceil_mode=True)):
        one, two = ((pictures(2, (3, 14, 15)) - 1).requires_grad_() for _ in range(2))
        first, second = F.relu(pool(one)), pool(F.relu(two))
        weights = pictures(2, first.shape[1:], seed=2)
        assert torch.equal(first, second)
        assert 0.05 < (first == 0).float().mean() < 0.95
        (first * weights).sum().backward()
        (second * weights).sum().backward()
        assert torch.equal(one.grad, two.grad)


# Same padding


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 9), (8, 5), (1, 2), (3, 1)])
@pytest.mark.parametrize(("k", "stride"), [(3, 1), (3, 2), (5, 2), (2, 2), (1, 2), (5, 3)])
def test_same_padding_is_tensorflows(height: int, width: int, k: int, stride: int) -> None:
    torch.manual_seed(0)
    conv = SamePadConv2d(2, 3, k, stride, bias=False)
    x = pictures(1, (2, height, width))
    padded = x[0].double().numpy()
    for axis, size in ((1, height), (2, width)):
        # TensorFlow's notes on padding, in its own two cases.
        total = max(k - stride, 0) if size % stride == 0 else max(k - size % stride, 0)
        before = [(0, 0)] * 3
        before[axis] = (total // 2, total - total // 2)
        padded = np.pad(padded, before)
    expected = twin_conv(padded, conv.weight.detach().double().numpy(), stride)
    assert expected.shape == (3, -(-height // stride), -(-width // stride))
    with torch.no_grad():
        torch.testing.assert_close(conv(x)[0], torch.tensor(expected, dtype=torch.float32), rtol=1e-4, atol=1e-5)


def test_conv_norm_act_has_what_it_was_asked_for() -> None:
    assert list(ConvNormAct(3, 8, 3)._modules) == ["conv", "norm", "act"]
    assert list(ConvNormAct(3, 8, 3, norm=None, act=None)._modules) == ["conv"]
    assert ConvNormAct(3, 8, 3).conv.bias is None
    assert ConvNormAct(3, 8, 3, bias=True).conv.bias is not None
    assert isinstance(ConvNormAct(3, 8, 3, 2, same=True).conv, SamePadConv2d)
    assert ConvNormAct(4, 8, 5, 2, groups=4, act=nn.ReLU6)(pictures(1, (4, 9, 9)).repeat(2, 1, 1, 1)).shape == (
        2,
        8,
        5,
        5,
    )


def test_a_new_conv_classifier_keeps_dtype() -> None:
    head = nn.Sequential(nn.Conv2d(8, 4, 1, dtype=torch.float64))
    replace_conv_classifier(head, "0", 3)
    assert head(pictures(1, (8, 2, 2)).double()).shape == (1, 3, 2, 2)


# Dropout


def ones(*shape: int) -> Tensor:
    return torch.ones(*shape)


@pytest.mark.parametrize("p", [0.1, 0.2, 0.25, 0.5, 0.9, 0.001, 0.999])
def test_dropout_drops_its_share_and_keeps_the_mean(p: float) -> None:
    torch.manual_seed(0)
    y = Dropout(p)(ones(400, 1000))
    kept = y != 0
    share = 1 - float(kept.float().mean())
    assert abs(share - p) < 1 / 256 + 0.002
    # The scale belongs to the share that is really dropped, so the expectation is one whatever p is rounded to.
    level = round((1 - 1 / float(y.max())) * 256)
    assert float(y.max()) == pytest.approx(256 / (256 - level), abs=1e-4)
    assert torch.all(y[kept] == y.max())
    deviation = (level / (256 - level) / y.numel()) ** 0.5  # of the mean of y
    assert abs(float(y.mean()) - 1) < 5 * deviation


def test_dropout_is_silent_when_predicting() -> None:
    x = pictures(4, (5,))
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)


def test_dropout_follows_the_global_generator() -> None:
    layer, x = Dropout(0.5), ones(50, 50)
    torch.manual_seed(3)
    first, second = layer(x), layer(x)
    torch.manual_seed(3)
    assert torch.equal(layer(x), first)
    assert not torch.equal(first, second)


def test_dropouts_gradient_is_its_mask() -> None:
    torch.manual_seed(0)
    x = pictures(8, (30,)).requires_grad_()
    y = Dropout(0.25)(x)
    y.sum().backward()
    torch.testing.assert_close(x.grad * x, y)
    assert x.grad.unique().tolist() == pytest.approx([0, 4 / 3])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_keeps_layout_and_type(dtype: torch.dtype) -> None:
    x = ones(2, 8, 5, 5).to(dtype=dtype, memory_format=torch.channels_last)
    y = Dropout(0.5)(x)
    assert y.dtype == dtype
    assert y.stride() == x.stride()
    assert random_bytes(x).stride() == x.stride()  # or the multiplication walks through memory in two orders
    transposed = ones(6, 4).t()
    assert Dropout(0.5)(transposed).shape == (4, 6)
    assert Dropout(0.5)(ones(0, 4)).shape == (0, 4)


def test_random_bytes_are_uniform_in_every_position() -> None:
    torch.manual_seed(0)
    draws = random_bytes(ones(100_000, 8))
    for position in range(8):  # a 64-bit draw without its sign would leave every eighth byte below 128
        counts = torch.bincount(draws[:, position].int(), minlength=256).double()
        expected = 100_000 / 256
        chi_square = float(((counts - expected) ** 2 / expected).sum())
        assert 150 < chi_square < 380  # 255 degrees of freedom: five standard deviations to both sides


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, float("nan")])
def test_dropout_refuses_impossible_shares(p: float) -> None:
    with pytest.raises(ValueError, match="dropout"):
        Dropout(p)


# Initialisation


def stack() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(32, 64, 3), nn.BatchNorm2d(64), nn.Flatten(), nn.Linear(400, 300))


def test_paper_leaves_everything_as_it_was_built() -> None:
    network = stack()
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    initialise(network, "paper")
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())


#                    variance of the convolution (fan-in 288, fan-out 576) and of the dense layer (400, 300)
VARIANCES = {
    "uniform": (UNIFORM_BOUND**2 / 3, UNIFORM_BOUND**2 / 3),
    "normal": (NORMAL_STD**2, NORMAL_STD**2),
    "xavier_uniform": (2 / (288 + 576), 2 / (400 + 300)),
    "xavier_normal": (2 / (288 + 576), 2 / (400 + 300)),
    "he_uniform": (2 / 288, 2 / 400),
    "he_normal": (2 / 288, 2 / 400),
    "pytorch": (1 / 288 / 3, 1 / 400 / 3),
}


@pytest.mark.parametrize("scheme", [*SCHEMES, "pytorch"])
def test_schemes_are_what_they_are_called(scheme: str) -> None:
    network = stack()
    conv, norm, _, dense = network
    for tensor in network.state_dict().values():
        tensor.fill_(7)
    initialise(network, scheme)
    for layer, variance in zip((conv, dense), VARIANCES.get(scheme, (0, 0)), strict=True):
        w = layer.weight.detach()
        if scheme == "constant":
            assert torch.all(w == CONSTANT)
        else:
            assert float(w.var()) == pytest.approx(variance, rel=0.05)
            assert abs(float(w.mean())) < 0.05 * variance**0.5
            # A uniform's largest value is the root of 3 deviations away, a normal's of this many draws over 4.
            reach = float(w.abs().max()) / variance**0.5
            assert (reach < 1.74) == (scheme == "pytorch" or "uniform" in scheme)
        assert bool(layer.bias.any()) == (scheme == "pytorch")
    assert torch.all(norm.weight == 1)
    assert not norm.bias.any()
    assert not norm.running_mean.any()
    assert torch.all(norm.running_var == 1)


def test_unknown_schemes_are_refused() -> None:
    with pytest.raises(ValueError, match="none of paper, pytorch, uniform"):
        initialise(stack(), "kaiming")
