"""The counter as a stranger to the networks: every classification network that torchvision publishes, built from
torchvision itself, against the parameters and operations that torchvision publishes with its weights."""

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from neocog.core.shapes import shapes_only
from neocog.costs.cost import cost_of

WITHIN = 0.0011e9  # MACs; torchvision rounds to three digits of a thousand million


def published(torchvision: ModuleType) -> Iterator[tuple[str, Any]]:
    """(name, weights), the first of those that share a size."""
    models = torchvision.models
    for name in models.list_models(module=models):
        sizes = set()
        for weights in models.get_model_weights(name):
            size = weights.transforms().crop_size[0]
            if size not in sizes:
                sizes.add(size)
                yield name, weights


def built(torchvision: ModuleType, name: str, size: int, patch: pytest.MonkeyPatch) -> nn.Module:
    knobs: dict[str, Any] = {"image_size": size} if name.startswith("vit") else {}
    if name in ("googlenet", "inception_v3"):
        knobs = {"init_weights": False, "aux_logits": name == "inception_v3"}  # as the published counts have them
    regnet = torchvision.models.regnet.BlockParams
    plan = regnet.from_init_params.__func__

    def on_cpu(cls: Any, *args: Any, **more: Any) -> Any:  # its table of widths is computed with tensors
        with torch.device("cpu"):
            return plan(cls, *args, **more)

    patch.setattr(regnet, "from_init_params", classmethod(on_cpu))
    with shapes_only():
        network: nn.Module = torchvision.models.get_model(name, **knobs)
    return network


def test_every_published_classification_network(torchvision: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong, names = [], set()
    for name, weights in published(torchvision):
        size = weights.transforms().crop_size[0]
        table = cost_of(built(torchvision, name, size, monkeypatch), (3, size, size), name=name)
        names.add(name)
        if table.params != weights.meta["num_params"] or table.partial:
            wrong.append(f"{name}: {table.params} parameters for {weights.meta['num_params']}, {table.partial}")
        if abs(table.macs - weights.meta["_ops"] * 1e9) > WITHIN:
            wrong.append(f"{name} at {size}: {table.macs / 1e9:.4f} thousand million MACs for {weights.meta['_ops']}")
        assert sum(row.params for row in table.rows) + table.unused_params == table.params, name
    assert not wrong, "\n".join(wrong)
    assert len(names) >= 80


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("alexnet", 195), ("vgg16", 212), ("resnet18", 435), ("resnet50", 427), ("googlenet", 379),
        ("densenet121", 2071), ("swin_t", "whole or lost"),
    ],
)  # fmt: skip
def test_receptive_fields_of_foreign_modules(
    torchvision: ModuleType, name: str, field: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = cost_of(built(torchvision, name, 224, monkeypatch), (3, 224, 224))
    if isinstance(field, int):
        assert table.receptive_field == (field, field)
    else:
        windows = [row for row in table.rows if row.kind == "ShiftedWindowAttention"]
        assert windows[0].field is not None
        assert windows[0].field.largest == (28, 28)  # a window of 7 x 7 patches of 4 pixels
        assert windows[1].field is not None
        assert windows[1].field.largest == (56, 56)  # shifted: two such windows
