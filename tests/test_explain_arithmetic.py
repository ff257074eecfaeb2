"""The arithmetic of one unit against judges: torch's own functions, gradients, and what the network itself gives."""

import itertools
import math
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import neocog.models  # noqa: F401  (importing it registers the networks)
from draw import drawn, pictures
from neocog.core.errors import UsageError
from neocog.explaining.arithmetic import Unit, convolutions, unit
from neocog.explaining.following import Following
from neocog.explaining.taps import Tapped
from neocog.layers.conv import ConvNormAct
from neocog.layers.same_pad import SamePadConv2d
from neocog.models.vit import SIZES

CLOSE = {"rel": 1e-6, "abs": 1e-6}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def filled(layer: nn.Module) -> nn.Sequential:
    """The layer alone in a network, in double, with weights that tell every two apart."""
    network = nn.Sequential(layer).double().eval().requires_grad_(False)
    with torch.no_grad():
        for place, weight in enumerate(network.parameters()):
            weight.copy_(normal(*weight.shape, seed=place + 5))
    return network


def places(out: Tensor, some: int = 6) -> list[tuple[int, int, int]]:
    """Corners, where padding is met, and random places of random channels."""
    _, c, h, w = out.shape
    draw = random.Random(0)
    corners = [(draw.randrange(c), i, j) for i in {0, h - 1} for j in {0, w - 1}]
    return corners + [(draw.randrange(c), draw.randrange(h), draw.randrange(w)) for _ in range(some)]


def met_by_gradient(network: nn.Module, x: Tensor, found: Unit) -> None:
    """What a unit reads, and with which weight, is the gradient of its number."""
    assert isinstance(found.position, tuple)
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


# --- networks of the zoo ---

ZOO: dict[str, dict[str, Any]] = {
    "mobilenet_v2": {},
    "mobilenet_v3_small": {},
    "densenet121": {},
    "googlenet": {"auxiliary": False},
    "resnet18": {},
    "convnext_tiny": {},
    "vit_b_16": {"image_size": 32},
    "shufflenet_v1": {},
    "efficientnet_b0": {},
    "squeezenet1_1": {},
    "lenet5": {},
    "lenet_1989": {},
    "capsnet": {},
    "conv_ae": {},
    "conv_ae unpool": {"encoder": "pooled", "decoder": "unpool"},
}


@pytest.mark.parametrize("name", ZOO)
def test_units_of_the_zoo_are_the_networks_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES, "b", (2, 48, 96, 4))  # a vision transformer that takes no seconds
    network = drawn(name.split()[0], **ZOO[name]).double()
    draw = random.Random(name)
    size = network.fixed_size or max(48, network.min_size)
    x = pictures(1, (network.in_channels, size, size)).double()
    names = convolutions(network)
    with Tapped(network, names) as taps, torch.no_grad():
        network(x)
    reached = [layer for layer in names if layer in taps.calls]
    for layer in {reached[0], reached[-1], *draw.sample(reached, min(4, len(reached)))}:
        out = taps[layer]
        assert out.abs().max() > 1e-3, f"{layer}: no signal"
        dense = isinstance(network.get_submodule(layer), nn.Linear)
        index = (0, *(draw.randrange(n) for n in out.shape[1:]))
        if dense:
            found = unit(network, x, layer, index[-1], index[1:-1])
        else:
            found = unit(network, x, layer, index[1], index[2:])
        assert found.sum == pytest.approx(float(out[index]), **CLOSE), layer
        assert found.layer == layer


@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet_b0", "googlenet"])
def test_norm_and_activation_of_the_zoo(name: str) -> None:
    """Modules say what `unit` finds in the run."""
    knobs = {"googlenet": {"variant": "torchvision", "auxiliary": False}}.get(name, {})
    network = drawn(name, **knobs).double()
    x = pictures(1, (3, 64, 64)).double()
    blocks = {key: module for key, module in network.named_modules() if isinstance(module, ConvNormAct)}
    chosen = random.Random(0).sample(list(blocks), 5)
    parts = [f"{key}.{part}" for key in chosen for part in ("norm", "act") if hasattr(blocks[key], part)]
    with Tapped(network, parts) as taps, torch.no_grad():
        network(x)
    bent = 0
    for key in chosen:
        out = taps[f"{key}.norm"]
        c, i, j = out.shape[1] // 2, out.shape[2] // 2, out.shape[3] // 2
        found = unit(network, x, f"{key}.conv", c, (i, j))
        assert found.norm is not None
        assert found.norm.result == float(out[0, c, i, j])
        assert found.norm.scale * found.sum + found.norm.shift == pytest.approx(found.norm.result, **CLOSE)
        assert found.then[0] == "batch_norm"
        if f"{key}.act" in taps.calls:
            bent += 1
            assert found.activated == float(taps[f"{key}.act"][0, c, i, j])
            assert found.activation == {"mobilenet_v2": "relu6", "efficientnet_b0": "silu"}.get(name, "relu")
        else:
            assert found.activation is None
        if name == "efficientnet_b0" and key.startswith("stages"):
            assert found.pooling is None  # the mean that squeeze and excitation takes is a side branch
    assert bent


def test_a_decoder_that_crops() -> None:
    """4 -> 8 rows, of which 7 stay: behind the crop come norm and ReLU; what was cut off is followed by nothing."""
    network = drawn("conv_ae").double()
    x = pictures(1, (1, 28, 28)).double()
    layer = "head.decoder.steps.0"
    with Tapped(network, [f"{layer}.conv", f"{layer}.act"]) as taps, torch.no_grad():
        network(x)
    assert taps[f"{layer}.conv"].shape[2:] == (8, 8)
    found = unit(network, x, f"{layer}.conv", 3, (6, 2))
    assert found.then == ("batch_norm", "relu")
    assert found.activated == float(taps[f"{layer}.act"][0, 3, 6, 2])
    assert unit(network, x, f"{layer}.conv", 3, (7, 2)).then == ()


# --- what follows ---


class Written(nn.Module):
    """conv, then whatever `rest` does with its maps; the last tensor is kept."""

    def __init__(self, rest: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.relu, self.prelu, self.rest = nn.ReLU(), nn.PReLU(3), rest
        nn.init.uniform_(self.norm.running_mean, -0.5, 0.5)
        nn.init.uniform_(self.norm.running_var, 0.5, 2)
        nn.init.uniform_(self.norm.weight, 0.5, 2)
        nn.init.uniform_(self.norm.bias, -1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(self, self.conv(x))


def written(rest: Callable[[Any, Tensor], Tensor]) -> Written:
    torch.manual_seed(0)
    return Written(rest).double().eval().requires_grad_(False)


X = normal(1, 2, 7, 8, seed=3)

BENDS: dict[str, tuple[Callable[[Any, Tensor], Tensor], tuple[str, ...]]] = {
    "module": (lambda m, y: m.relu(y), ("relu",)),
    "function": (lambda m, y: F.relu(y), ("relu",)),
    "torch": (lambda m, y: torch.relu(y), ("relu",)),
    "method": (lambda m, y: y.relu(), ("relu",)),
    "inplace module": (lambda m, y: nn.ReLU(inplace=True)(y), ("relu",)),
    "inplace function": (lambda m, y: F.relu(y, inplace=True), ("relu",)),
    "inplace method": (lambda m, y: y.relu_(), ("relu",)),
    "clamp": (lambda m, y: y.clamp(min=0), ("relu",)),
    "inplace clamp": (lambda m, y: torch.clamp_(y, 0), ("relu",)),
    "relu6": (lambda m, y: nn.ReLU6(inplace=True)(y), ("relu6",)),
    "reused": (lambda m, y: m.relu(m.norm(m.relu(y))), ("relu", "batch_norm")),
    "norm": (lambda m, y: m.relu(m.norm(y)), ("batch_norm", "relu")),
    "inplace norm": (lambda m, y: m.norm(y).relu_(), ("batch_norm", "relu")),
    "dropout": (lambda m, y: m.relu(F.dropout(m.norm(y), 0.5, m.training).contiguous()), ("batch_norm", "relu")),
    "prelu": (lambda m, y: m.prelu(y), ("prelu",)),
    "leaky": (lambda m, y: F.leaky_relu_(y, 0.2), ("leaky_relu",)),
    "gelu": (lambda m, y: nn.GELU()(y), ("gelu",)),
    "silu": (lambda m, y: nn.SiLU()(y), ("silu",)),
    "silu by hand": (lambda m, y: y * torch.sigmoid(y), ("x * sigmoid(x)",)),
    "silu by hand, in place": (lambda m, y: y.mul_(y.sigmoid()), ("x * sigmoid(x)",)),
    "sigmoid": (lambda m, y: torch.sigmoid(y), ("sigmoid",)),
    "softmax": (lambda m, y: y.softmax(1), ("softmax",)),
}


@pytest.mark.parametrize("name", BENDS)
def test_the_activation_is_the_networks_own(name: str) -> None:
    rest, then = BENDS[name]
    network = written(rest)
    out = network(X.clone()).detach()
    signs = set()
    for c, i, j in places(out):
        found = unit(network, X, "conv", c, (i, j))
        assert found.then == then
        assert found.output == pytest.approx(found.sum, **CLOSE)  # as it was before anything changed it in place
        signs.add(found.sum > 0)
        last = found.norm.result if then[-1] == "batch_norm" and found.norm else found.activated
        assert last == float(out[0, c, i, j])
        if found.norm and then[0] == "batch_norm":
            assert found.norm.scale * found.sum + found.norm.shift == pytest.approx(found.norm.result, **CLOSE)
    assert len(signs) == 2  # both sides of the bend were looked at


NOTHING: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "the end": lambda m, y: y,
    "a sum": lambda m, y: m.relu(y + 1),
    "a sum in place": lambda m, y: m.relu(y.add_(1)),
    "written over": lambda m, y: m.relu(y.zero_()),
    "joined": lambda m, y: m.relu(torch.cat([y + 1, y], 1)),
}


@pytest.mark.parametrize("name", NOTHING)
def test_what_comes_after_something_else_is_not_shown(name: str) -> None:
    found = unit(written(NOTHING[name]), X, "conv", 1, (2, 3))
    assert (found.then, found.norm, found.activation, found.activated, found.pooling) == ((), None, None, None, None)


UNKEPT: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "none": lambda m, y: nn.BatchNorm2d(3, affine=False, track_running_stats=False).eval()(y),
    "not used": lambda m, y: F.batch_norm(
        y, torch.ones_like(y[0, :, 0, 0]), torch.ones_like(y[0, :, 0, 0]), training=True
    ),
    "built in": lambda m, y: torch.batch_norm(
        y, m.norm.weight, m.norm.bias, m.norm.running_mean, m.norm.running_var, False, 0.1, 0.2, False
    ),
}


@pytest.mark.parametrize("name", UNKEPT)
def test_norm_of_other_statistics(name: str) -> None:
    found = unit(written(UNKEPT[name]), X, "conv", 1, (2, 3))
    assert found.norm is not None
    assert found.norm.scale * found.sum + found.norm.shift == pytest.approx(found.norm.result, **CLOSE)


POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "max": nn.MaxPool2d(2),
    "max, overlapping": nn.MaxPool2d(3, 2, 1),
    "max, dilated": nn.MaxPool2d((2, 3), 1, (1, 1), (3, 2)),
    "max, ceil": nn.MaxPool2d(3, 2, ceil_mode=True),
    "max, gaps": nn.MaxPool2d(2, 3),
    "max, function": lambda y: F.max_pool2d(y, 2, stride=1),
    "max, torch": lambda y: torch.max_pool2d(y, (2, 3)),
    "max, indices": lambda y: F.max_pool2d(y, 2, return_indices=True)[0],
    "max, adaptive": nn.AdaptiveMaxPool2d((3, 5)),
    "max, whole": lambda y: y.amax((2, 3), keepdim=True),
    "mean": nn.AvgPool2d(2),
    "mean, overlapping": nn.AvgPool2d(3, 2, 1),
    "mean, function": lambda y: F.avg_pool2d(y, (3, 2), stride=(2, 3)),
    "mean, adaptive": nn.AdaptiveAvgPool2d((3, 5)),
    "mean, whole": lambda y: y.mean(dim=(-2, -1)),
}


# Of 7 x 8 numbers those that no window reads.
CUT_OFF = {"max": 8, "max, gaps": 32, "max, torch": 20, "max, indices": 8, "mean": 8, "mean, function": 14}


@pytest.mark.parametrize("name", POOLS)
def test_the_pool_is_the_networks_own(name: str) -> None:
    pool, maximum = POOLS[name], name.startswith("max")
    bend = torch.relu_ if maximum else torch.tanh_  # zeros of a ReLU are equal ones to choose from
    network = written(lambda m, y: pool(bend(y)))
    before = bend(network.conv(X))
    out = network(X)
    out = out if out.dim() == 4 else out[..., None, None]
    missed, took = 0, set()
    for i, j in itertools.product(range(7), range(8)):
        found = unit(network, X, "conv", 1, (i, j))
        assert found.then[0] == bend.__name__.strip("_")
        assert len(found.then) == 2
        pooled = found.pooling
        if pooled is None:
            missed += 1
            continue
        assert pooled.kind == found.then[1]
        assert i in pooled.rows
        assert j in pooled.columns
        assert pooled.result == float(out[0, 1, pooled.position[0], pooled.position[1]])
        for (a, row), (b, column) in itertools.product(enumerate(pooled.rows), enumerate(pooled.columns)):
            assert bool(pooled.inside[a, b]) == (0 <= row < 7 and 0 <= column < 8)
            if pooled.inside[a, b]:
                assert pooled.window[a, b] == before[0, 1, row, column]
        if maximum:
            assert float(pooled.window.max()) == pooled.result
        else:
            assert float(pooled.window.mean()) == pytest.approx(pooled.result, **CLOSE)
        if pooled.taken:
            took.add((i, j))
            assert found.activated == pooled.result
    assert missed == CUT_OFF.get(name, 0)
    assert took == (gradient_winners(pool, before) if maximum else set())


def gradient_winners(pool: Callable[[Tensor], Tensor], before: Tensor) -> set[tuple[int, int]]:
    """Which numbers of channel 1 a maximum took: those that its gradient reaches."""
    x = before.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(pool(x)[0, 1].sum(), x)
    return {(int(i), int(j)) for i, j in gradient[0, 1].nonzero()}


def test_a_pool_in_front_of_the_bend() -> None:
    network = written(lambda m, y: F.relu(F.max_pool2d(y, 2)))
    out = network(X).detach()
    found = unit(network, X, "conv", 2, (3, 5))
    assert found.then == ("max_pool2d", "relu")
    assert found.pooling is not None
    assert found.pooling.position == (1, 2)
    assert found.activated == float(out[0, 2, 1, 2]) == max(0.0, found.pooling.result)


def test_a_pool_behind_padding() -> None:
    network = written(lambda m, y: F.max_pool2d(F.pad(y, (2, 1, 1, 0), value=-9.0), 2))
    out = network(X).detach()
    found = unit(network, X, "conv", 2, (0, 0))
    assert found.pooling is not None
    assert found.pooling.position == (0, 1)
    assert found.pooling.result == float(out[0, 2, 0, 1])
    assert found.pooling.window[0].tolist() == [-9, -9]


def test_a_layer_that_runs_twice_counts_its_last_call() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(F.relu(self.conv(x))).tanh()

    network = filled(Twice())
    found = unit(network, X, "0.conv", 1, (1, 2))
    assert found.then == ("tanh",)
    assert found.activated == float(network(X)[0, 1, 1, 2]) == pytest.approx(math.tanh(found.sum))
    with pytest.raises(UsageError, match="0 to 2, 0 to 3"):
        unit(network, X, "0.conv", 1, (4, 5))  # which only the first call has


def test_a_new_start_forgets() -> None:
    with Following() as after:
        after.start(X, (0, 1, 2, 3))
        X.relu()
        assert [step.name for step in after.path()] == ["relu"]
        after.start(X, (0, 1, 2, 3))
        assert after.path() == []


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
    with pytest.raises(UsageError, match=r"0 is a Sequential.*those: 0.1, 0.3$"):
        unit(nn.Sequential(parts, nn.Conv2d(2, 2, 1)), X, "0", 0, (0, 0))
    with pytest.raises(UsageError, match="none"):
        unit(nn.Sequential(nn.ReLU()), X, "0", 0)
