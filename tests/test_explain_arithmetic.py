"""The arithmetic of one unit against judges: torch's own functions, gradients, and what the network itself gives."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import neocog.models  # noqa: F401  (importing it registers the networks)
from neocog.core.errors import UsageError
from neocog.explaining.arithmetic import Unit, convolutions, unit
from neocog.explaining.ends import end_of
from neocog.layers.same_pad import SamePadConv2d
from units import CLOSE, X, filled, normal, places, written


def reads(found: Unit, axis: int) -> Iterator[int | None]:
    """By the formula, with the stride, padding and dilation that are told."""
    window = found.window
    assert window is not None
    place, stride, padding, dilation = (
        of[axis] for of in (found.position, window.stride, window.padding, window.dilation)
    )
    for tap in range(window.kernel[axis]):
        if window.transposed:
            spread = place + padding - tap * dilation
            yield None if spread % stride else spread // stride
        else:
            yield place * stride - padding + tap * dilation


def met_by_gradient(network: nn.Module, x: Tensor, found: Unit) -> None:
    """What a unit reads, and with which weight, is the gradient of its number."""
    assert (list(found.rows), list(found.columns)) == ([*reads(found, 0)], [*reads(found, 1)])
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(x)[0, found.channel, found.position[0], found.position[1]], x)
    built = torch.zeros_like(gradient[0])
    for (a, row), (b, column) in itertools.product(enumerate(found.rows), enumerate(found.columns)):
        if found.inside[a, b]:
            assert row is not None
            assert column is not None
            channels = slice(found.first_channel, found.first_channel + len(found.kernel))
            built[channels, row, column] += found.kernel[:, a, b]
            assert torch.equal(found.patch[:, a, b], x.detach()[0, channels, row, column])
        else:
            outside = (row is None or not 0 <= row < x.shape[2]) or (column is None or not 0 <= column < x.shape[3])
            assert outside
            assert not found.patch[:, a, b].any()
    assert torch.allclose(built, gradient[0])


CONVOLUTIONS: list[dict[str, Any]] = [
    {"kernel_size": 3},
    {"kernel_size": (3, 5), "padding": (1, 2), "stride": (2, 1)},
    {"kernel_size": 3, "padding": 4, "stride": 3, "bias": False},
    {"kernel_size": (2, 3), "padding": 2, "dilation": (2, 3), "groups": 2},
    {"kernel_size": 3, "padding": "same", "dilation": 2, "groups": 4},
    {"kernel_size": (4, 2), "padding": "same", "dilation": 2},
    {"kernel_size": (4, 2), "padding": "same"},
    {"kernel_size": 3, "padding": "valid", "stride": 2},
]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
def test_a_convolution_is_that_of_torch(options: dict[str, Any]) -> None:
    layer, x = nn.Conv2d(4, 8, **options), normal(1, 4, 9, 11)
    network = filled(layer)
    bias = layer.bias
    out = F.conv2d(x, layer.weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups).detach()
    assert out.std() > 0.1
    for channel, row, column in places(out):
        found = unit(network, x, "0", channel, (row, column))
        assert found.sum == pytest.approx(float(out[0, channel, row, column]), **CLOSE)
        assert found.output == pytest.approx(float(out[0, channel, row, column]), **CLOSE)
        assert found.bias == (0 if bias is None else float(bias[channel].detach()))
        assert torch.equal(found.products, found.patch * found.kernel)
        met_by_gradient(network, x, found)


TRANSPOSED: list[dict[str, Any]] = [
    {"kernel_size": 3},
    {"kernel_size": 4, "stride": 2, "padding": 1, "bias": False},
    {"kernel_size": (3, 2), "stride": (3, 2), "padding": (1, 0), "output_padding": (2, 1)},
    {"kernel_size": 3, "stride": 2, "padding": 2, "dilation": 2, "groups": 2, "output_padding": 1},
    {"kernel_size": (2, 5), "stride": (1, 4), "groups": 4, "dilation": (3, 1)},
]


@pytest.mark.parametrize("options", TRANSPOSED, ids=str)
def test_a_transposed_convolution_is_that_of_torch(options: dict[str, Any]) -> None:
    layer, x = nn.ConvTranspose2d(4, 8, **options), normal(1, 4, 5, 6)
    network = filled(layer)
    out = F.conv_transpose2d(
        x, layer.weight, layer.bias, layer.stride, layer.padding, layer.output_padding, layer.groups, layer.dilation
    ).detach()
    assert out.std() > 0.1
    for channel, row, column in places(out, some=12):
        found = unit(network, x, "0", channel, (row, column))
        assert found.kind == "ConvTranspose2d"
        assert found.sum == pytest.approx(float(out[0, channel, row, column]), **CLOSE)
        met_by_gradient(network, x, found)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding_that_is_no_zeros(mode: str) -> None:
    layer, x = nn.Conv2d(4, 6, (3, 5), 2, (1, 3), groups=2, padding_mode=mode), normal(1, 4, 7, 8)
    network = filled(layer)
    padded = F.pad(x, (3, 3, 1, 1), mode)
    out = F.conv2d(padded, layer.weight, layer.bias, 2, groups=2).detach()
    for channel, row, column in places(out):
        found = unit(network, x, "0", channel, (row, column))
        assert found.sum == pytest.approx(float(out[0, channel, row, column]), **CLOSE)
        assert found.window is not None
        assert (found.window.padding, found.window.groups) == ((1, 3), 2)
        assert found.rows == tuple(2 * row - 1 + a for a in range(3))
        assert found.columns == tuple(2 * column - 3 + b for b in range(5))
        group = slice(found.first_channel, found.first_channel + 2)
        assert found.first_channel == channel // 3 * 2
        assert torch.equal(found.patch, padded[0, group, 2 * row : 2 * row + 3, 2 * column : 2 * column + 5])
        for a, b in itertools.product(range(3), range(5)):
            assert bool(found.inside[a, b]) == (0 <= found.rows[a] < 7 and 0 <= found.columns[b] < 8)


def test_a_layer_that_pads_by_itself() -> None:
    network, x = filled(SamePadConv2d(3, 4, 4, 3)), normal(1, 3, 9, 7)
    out = network(x).detach()
    for channel, row, column in places(out):
        found = unit(network, x, "0", channel, (row, column))
        assert found.sum == pytest.approx(float(out[0, channel, row, column]), **CLOSE)
        met_by_gradient(network, x, found)
    assert unit(network, x, "0", 0, (0, 2)).columns == (
        5,
        6,
        7,
        8,
    )  # 7 wide: the two that are added stand on both sides


def test_a_dense_layer() -> None:
    network, x = filled(nn.Linear(6, 5)), normal(1, 6)
    found = unit(network, x, "0", 3)
    assert found.sum == found.output == pytest.approx(float(F.linear(x, network[0].weight, network[0].bias)[0, 3]))
    assert found.patch.flatten().tolist() == x[0].tolist()
    assert found.position == ()
    tokens = normal(1, 4, 6)
    second = unit(network, tokens, "0", 3, (2,))
    assert second.sum == pytest.approx(float(network(tokens)[0, 2, 3]), **CLOSE)


def test_weights_that_are_made_in_the_run() -> None:
    network, x = filled(nn.Conv2d(3, 4, 3)), normal(1, 3, 6, 6)
    nn.utils.parametrizations.weight_norm(network[0])
    with torch.no_grad():
        network[0].parametrizations.weight.original0.mul_(3)
    assert unit(network, x, "0", 1, (2, 3)).sum == pytest.approx(float(network(x)[0, 1, 2, 3]), **CLOSE)


# --- the network stays what it was ---


def test_the_network_is_left_as_it_was() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.ReLU(inplace=True), nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.Dropout(),
        nn.Flatten(), nn.Linear(90, 4),
    ).train()  # fmt: skip
    network[2].eval()
    x = X.float().clone().requires_grad_()
    network(x.clone()).sum().backward()

    def state() -> list[Any]:
        tensors = [*network.state_dict().values(), *(p.grad for p in network.parameters()), x, torch.get_rng_state()]
        modules = [(m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for m in network.modules()]
        return [[t.clone().tolist() for t in tensors], modules, [p.requires_grad for p in network.parameters()]]

    before = state()
    found = unit(network, x, "1", 1, (2, 2))
    found.kernel.zero_()
    found.patch.zero_()
    unit(network, x, "6", 1).kernel.zero_()
    with pytest.raises(UsageError):
        unit(network, x, "1", 1, (20, 2))
    with pytest.raises(RuntimeError):
        unit(network, x[:, :1], "1", 1, (2, 2))
    assert state() == before
    assert torch.overrides._get_current_function_mode() is None


def test_it_works_in_inference_mode() -> None:
    network = written(lambda m, y: m.relu(m.norm(y)))
    wanted = unit(network, X, "conv", 1, (2, 3))
    with torch.inference_mode():
        found = unit(network, X.clone(), "conv", 1, (2, 3))
    assert (found.sum, found.then, found.activated) == (wanted.sum, wanted.then, wanted.activated)


# --- errors ---


def test_errors_say_what_there_is() -> None:
    network = written(lambda m, y: m.relu(y))
    network.unused = nn.Conv2d(1, 1, 1)
    assert convolutions(network) == ["conv", "unused"]
    with pytest.raises(UsageError, match=r"norm is a BatchNorm2d.*conv, unused"):
        unit(network, X, "norm", 0, (0, 0))
    with pytest.raises(UsageError, match=r"there is no layer 'cov'.*conv"):
        unit(network, X, "cov", 0, (0, 0))
    with pytest.raises(UsageError, match="no channel 3; its channels are 0 to 2"):
        unit(network, X, "conv", 3, (0, 0))
    with pytest.raises(UsageError, match=r"no channel -1"):
        unit(network, X, "conv", -1, (0, 0))
    for position in ((7, 0), (0, 8), (-1, 0), (1,), None):
        with pytest.raises(UsageError, match=r"\(0 to 6, 0 to 7\)"):
            unit(network, X, "conv", 0, position)
    with pytest.raises(UsageError, match="one picture"):
        unit(network, torch.cat([X, X]), "conv", 0, (0, 0))
    with pytest.raises(UsageError, match="not reached"):
        unit(network, X, "unused", 0, (0, 0))
    parts = nn.Sequential(nn.ReLU(), nn.Conv2d(2, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 1))
    with pytest.raises(UsageError, match=r"0 is a Sequential.*those in it: 0.1, 0.3$"):
        unit(nn.Sequential(parts, nn.Conv2d(2, 2, 1)), X, "0", 0, (0, 0))
    with pytest.raises(UsageError, match="none"):
        unit(nn.Sequential(nn.ReLU()), X, "0", 0)


def test_a_number_ends_where_its_gradient_does() -> None:
    """Behind a last convolution that is pooled it is one score, behind an earlier layer all of them."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 6, 3), nn.SiLU(), nn.Conv2d(6, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network, x = network.double().eval(), normal(1, 2, 7, 8)
    for layer, channel, place in (("0", 5, (2, 3)), ("2", 3, (4, 5)), ("2", 0, (0, 0))):
        maps: list[Tensor] = []
        hook = network.get_submodule(layer).register_forward_hook(lambda _, args, out, maps=maps: maps.append(out))
        scores = network(x)[0]
        hook.remove()
        own = [torch.autograd.grad(score, maps[0], retain_graph=True)[0][(0, channel, *place)] for score in scores]
        reached = [number for number, gradient in enumerate(own) if gradient]
        found = end_of(network, x, unit(network, x, layer, channel, place))
        assert len(reached) == (4 if layer == "0" else 1)
        assert (found is None) == (layer == "0")
        if found is not None:
            assert found[0] == (channel,) == tuple(reached)
            assert torch.equal(found[1], scores)
    assert end_of(network, torch.full_like(x, torch.nan), unit(network, x, "2", 0, (0, 0))) is None
