"""Looking inside works on every network of the zoo that reads pictures, and leaves no trace."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import neocog.models  # noqa: F401  (importing it registers the networks)
from draw import drawn, pictures, small_shape
from looking import WAYS
from neocog.core.contracts import Network
from neocog.core.errors import UsageError
from neocog.core.registry import lookup, names
from untouched import fingerprint

SPECS = {name: lookup(name).spec for name in names()}
ALL = [name for name, spec in SPECS.items() if spec.task == "classification" and len(spec.input_shape) == 3]


HEAVY = 25_000_000  # parameters


def smallest_of_each_family() -> list[str]:
    """The network of least work of each file of builders, but for those that are heavy even so."""
    found: dict[str, str] = {}
    light = [name for name in ALL if SPECS[name].params < HEAVY or name.startswith("vit")]
    for name in sorted(light, key=lambda name: (SPECS[name].macs, name)):
        found.setdefault(lookup(name).build.__module__, name)
    return sorted(found.values())


SWEPT = ALL if os.environ.get("NEOCOG_WHOLE_ZOO") else smallest_of_each_family()
# What needs no grid and no ReLU.
ALWAYS = {"gradient", "input x gradient", "integrated", "smooth", "occlusion", "deletion", "insertion", "activations",
          "before and after", "fgsm", "pgd", "made", "unit"}  # fmt: skip
REASONS = ("no ReLU", "has no grid", "has a grid", "values per channel", "has no convolution")


def tensors(found: Any) -> Iterator[Tensor]:
    """All that can be found in what a way of looking gives."""
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, dict):
        for one in found.values():
            yield from tensors(one)
    elif isinstance(found, (list, tuple)):
        for one in found:
            yield from tensors(one)


@pytest.mark.parametrize("name", SWEPT)
def test_looking_inside_leaves_no_trace(name: str) -> None:
    network: Network = drawn(name)
    shape = small_shape(network)
    x = pictures(1, shape)
    network.train()
    list(network.modules())[-1].eval()  # a mode of its own
    first, last = next(network.parameters()), list(network.parameters())[-1]
    first.requires_grad_(False)
    last.grad = torch.ones_like(last)
    before, brief, refused = fingerprint(network), fingerprint(network, numbers=False), {}
    for way, look in WAYS.items():
        try:
            found = look(network, x)
            assert all(value.isfinite().all() for value in tensors(found) if value.is_floating_point()), way
        except UsageError as error:
            refused[way] = error.cause
        assert fingerprint(network, numbers=False) == brief, way
    assert fingerprint(network) == before
    assert not refused.keys() & ALWAYS
    assert all(any(reason in cause for reason in REASONS) for cause in refused.values()), refused
