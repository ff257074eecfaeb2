"""Units of any network of the zoo, taken apart and judged: the sum by torch.nn.functional in double, what follows it by
the functions whose names it bears."""

import random
from collections import defaultdict
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import neocog.models  # noqa: F401  (importing it registers the networks)
from draw import drawn, pictures, small_shape
from neocog.core.registry import lookup, names
from neocog.explaining.arithmetic import Unit, convolutions, unit
from neocog.explaining.taps import untouched
from neocog.layers.same_pad import SamePadConv2d
from neocog.layers.scaled_tanh import ScaledTanh

SMALLER = {name: {"image_size": 64} for name in names("vit_*")}
BENDS = {
    name: getattr(F, name)
    for name in ("relu", "relu6", "silu", "gelu", "hardswish", "hardsigmoid", "sigmoid", "tanh", "elu", "selu")
}
BENDS["x * sigmoid(x)"] = F.silu
BENDS["1.7159 * tanh(0.666667 * x)"] = ScaledTanh()


class Swept(NamedTuple):
    layers: int  # that can be taken apart
    units: int  # that were
    worst: float  # error of a sum, of the sum of its terms' sizes
    signal: float  # the smallest largest number of a layer that was looked at
    followed: int  # steps after the sums that were judged too


def families() -> list[str]:
    """The smallest network of each file of the zoo."""
    found = defaultdict(list)
    for name in names():
        found[lookup(name).build.__module__].append(name)
    return [min(members, key=lambda name: lookup(name).spec.params) for members in found.values()]


def swept(name: str, layers: int = 2, **knobs: Any) -> Swept:
    """So many layers of a network under drawn weights, two units of each: one anywhere, one in a corner, where padding
    is met. AssertionError where what follows a sum is not what it is said to be."""
    network = drawn(name, **SMALLER.get(name, {}), **knobs)
    x = pictures(1, small_shape(network))
    known, seen = convolutions(network), dict[str, tuple[Tensor, Tensor]]()
    hooks = [network.get_submodule(key).register_forward_hook(_keeper(key, seen)) for key in known]
    with untouched(network), torch.no_grad():
        network(x.clone())
    for hook in hooks:
        hook.remove()
    draw, worst, signal, units, followed = random.Random(name), 0.0, float("inf"), 0, 0
    for key in draw.sample(sorted(seen), min(layers, len(seen))):
        given, out = seen[key]
        wanted = judged(network.get_submodule(key), given)
        signal = min(signal, float(wanted.abs().max()))
        anywhere = tuple(draw.randrange(n) for n in out.shape[1:])
        corner = tuple(draw.choice((0, n - 1)) for n in out.shape[1:])
        for index in (anywhere, corner):
            dense = isinstance(network.get_submodule(key), nn.Linear)
            channel, place = (index[-1], index[:-1]) if dense else (index[0], index[1:])
            found = unit(network, x, key, channel, place)
            size = float(found.products.abs().sum()) + abs(found.bias)
            worst = max(worst, abs(found.sum - float(wanted[(0, *index)])) / size)
            assert abs(found.output - float(out[(0, *index)])) <= 1e-6 * size, key
            followed += judge_what_follows(found)
            units += 1
    return Swept(len(known), units, worst, signal, followed)


def _keeper(key: str, seen: dict[str, tuple[Tensor, Tensor]]) -> Any:
    def keep(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        seen[key] = given[0].clone(), out.clone()

    return keep


@torch.no_grad()
def judged(layer: nn.Module, given: Tensor) -> Tensor:
    """What the layer gives, by torch.nn.functional in double."""
    x, weight = given.double(), layer.weight.double()
    bias = None if layer.bias is None else layer.bias.double()
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight, bias)
    if isinstance(layer, nn.ConvTranspose2d):
        ways = (layer.stride, layer.padding, layer.output_padding, layer.groups, layer.dilation)
        return F.conv_transpose2d(x, weight, bias, *ways)
    assert isinstance(layer, nn.Conv2d)
    padding = layer.padding
    if isinstance(layer, SamePadConv2d):  # as many places as strides fit in; the odd zero at the end
        spare = [
            max(0, (-(-n // step) - 1) * step + k - n)
            for n, step, k in zip(x.shape[2:], layer.stride, layer.kernel_size, strict=True)
        ]
        (down, across), padding = spare, 0
        x = F.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2))
    else:
        assert layer.padding_mode == "zeros"
    return F.conv2d(x, weight, bias, layer.stride, padding, layer.dilation, layer.groups)


def judge_what_follows(found: Unit) -> int:
    """The number of steps that could be judged."""
    number, judged_steps = found.output, 0
    for name in found.then:
        if name == found.activation:
            assert found.activated is not None
            wanted, result = name in BENDS and float(BENDS[name](torch.tensor(number))), found.activated
        elif found.norm and name == "batch_norm":
            wanted, result = found.norm.scale * number + found.norm.shift, found.norm.result
        elif found.pooling:
            pool = found.pooling
            assert number in pool.window[pool.inside].float()
            wanted = float(pool.window.max() if pool.divisor is None else pool.window.sum() / pool.divisor)
            result = pool.result
        else:
            continue  # no window reads the number
        if wanted is not False:
            assert abs(wanted - result) <= 1e-5 * max(1.0, abs(wanted)), (found.layer, name)
            judged_steps += 1
        number = result
    return judged_steps
