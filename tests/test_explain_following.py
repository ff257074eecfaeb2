"""What a network makes of a unit's number next: batch norm, activation, pool, against what the network itself gives."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neocog.core.errors import UsageError
from neocog.explaining.arithmetic import unit
from neocog.explaining.following import Following
from units import CLOSE, X, filled, places, written

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
    "stretched": (lambda m, y: 1.7159 * torch.tanh(y * (2 / 3)), ("1.7159 * tanh(0.666667 * x)",)),
    "stretched, in place": (lambda m, y: y.div_(2).tanh_().mul_(3), ("3 * tanh(0.5 * x)",)),
    "stretched one way": (lambda m, y: 2 * y.tanh(), ("2 * tanh(x)",)),
    "silu with a factor": (lambda m, y: y * torch.sigmoid(1.702 * y), ("x * sigmoid(1.702 * x)",)),
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


def test_a_factor_belongs_to_an_activation_alone() -> None:
    found = unit(written(lambda m, y: F.max_pool2d((y * 0.5).sigmoid(), 2)), X, "conv", 1, (1, 2))
    assert found.then == ("sigmoid(0.5 * x)", "max_pool2d")
    assert found.activated == pytest.approx(1 / (1 + math.exp(-0.5 * found.sum)), **CLOSE)
    assert unit(written(lambda m, y: m.norm(y / 4).tanh()), X, "conv", 1, (1, 2)).then == ()
    both = unit(written(lambda m, y: (b := y.relu()) * 3 + b), X, "conv", 1, (1, 2))
    assert both.then == ("relu",)  # three times it is a branch of its own


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
    "mean, padding not counted": nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    "mean, ceil": nn.AvgPool2d(3, ceil_mode=True),
    "mean, ceil, padding not counted": nn.AvgPool2d((3, 2), (3, 4), (1, 0), True, False),
    "mean, divided by another number": nn.AvgPool2d(2, divisor_override=3),
    "mean, function": lambda y: F.avg_pool2d(y, (3, 2), stride=(2, 3)),
    "mean, adaptive": nn.AdaptiveAvgPool2d((3, 5)),
    "mean, whole": lambda y: y.mean(dim=(-2, -1)),
}


# Of 7 x 8 numbers those that no window reads.
CUT_OFF = {
    "max": 8, "max, gaps": 32, "max, torch": 20, "max, indices": 8, "mean": 8, "mean, function": 14,
    "mean, ceil, padding not counted": 28, "mean, divided by another number": 8,
}  # fmt: skip


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
            assert pooled.divisor is not None
            assert float(pooled.window.sum()) / pooled.divisor == pytest.approx(pooled.result, **CLOSE)
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
