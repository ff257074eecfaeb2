"""The arithmetic of units in every family of the zoo. Every network: `python bench/explain_sweep.py arithmetic`."""

import random

import pytest
import torch

from draw import drawn, pictures
from neocog.core.errors import UsageError
from neocog.core.registry import names
from neocog.explaining.arithmetic import convolutions, unit
from neocog.explaining.taps import Tapped
from neocog.layers.conv import ConvNormAct
from units import CLOSE
from zoo_units import families, swept

WITHOUT = {"rbm"}  # Boltzmann machines multiply by themselves


def test_every_family_is_there() -> None:
    assert len(families()) >= 37
    assert {"resnet18", "mobilenet_v2", "vit_b_16", "lenet5", "rbm"} <= set(families()) <= set(names())


@pytest.mark.parametrize("name", [name for name in families() if name not in WITHOUT])
def test_sums_are_those_of_torch(name: str) -> None:
    found = swept(name)
    assert found.units >= 2
    assert found.signal > 1e-2
    assert found.worst < 1e-12


@pytest.mark.parametrize("name", ["mobilenet_v2", "googlenet", "densenet121", "resnet18"])
def test_what_follows_is_judged_too(name: str) -> None:
    assert swept(name, layers=6).followed >= 6


def test_sums_of_a_decoder_that_unpools() -> None:
    found = swept("conv_ae", layers=9, encoder="pooled", decoder="unpool")
    assert found.units == 18
    assert found.signal > 1e-2
    assert found.worst < 1e-12


def test_a_network_without_such_layers() -> None:
    network = drawn("rbm")
    assert convolutions(network) == []
    with pytest.raises(UsageError, match="this network has none that can be taken apart"):
        unit(network, pictures(1, (1, 28, 28)), "layer", 0)


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
