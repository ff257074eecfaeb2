"""What learns when: every parameter has its place, what is frozen stays so to the last bit, also after a resume."""

import math
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from neocog.core.contracts import Network
from neocog.core.errors import Interrupted
from neocog.core.events import Events
from neocog.core.registry import lookup, names
from neocog.transfer.regimes import FineTune, Probe, classifier_of, depths
from test_train import Shuffled, copy_of, same, trainer

PICTURE_NETWORKS = [
    name for name in names("*")
    if len(lookup(name).spec.input_shape) == 3 and lookup(name).spec.task == "classification"
]  # fmt: skip


class Deep(Network):
    """Three stages, each with batch norm and dropout; the head has a norm in front of its classifier."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)

        def block(before: int, after: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.Dropout(0.1)
            )

        self.stem = block(1, 4)
        self.stages = nn.Sequential(OrderedDict(one=block(4, 4), two=block(4, 6), three=block(6, 8)))
        self.head = nn.Sequential(
            OrderedDict(norm=nn.BatchNorm2d(8), pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(),
                        dropout=nn.Dropout(0.2), fc=nn.Linear(8, 3))
        )  # fmt: skip
        self.num_classes, self.in_channels, self.stage_channels, self.stage_strides = 3, 1, (4, 6, 8), (1, 1, 1)


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """The first two words of the names of tensors that are no longer the same."""
    return {".".join(name.split(".")[:2]) for name in after if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("name", PICTURE_NETWORKS)
def test_every_parameter_has_one_place(name: str) -> None:
    with torch.device("meta"):
        network = lookup(name).build()
    assert isinstance(network, Network)
    parts = FineTune().parts(network)
    found = [id(parameter) for _, parameters in parts for parameter in parameters]
    assert sorted(found) == sorted(id(parameter) for parameter in network.parameters())
    assert [part for part, _ in parts] == ["head", *(str(depth) for depth in range(len(depths(network))))]
    Probe().enter(network, 0)
    learning = {id(parameter) for parameter in network.parameters() if parameter.requires_grad}
    assert learning == {id(parameter) for parameter in classifier_of(network).parameters()} != set()
    assert not any(module.training for module in network.modules() if isinstance(module, _BatchNorm))
    FineTune(unfreeze=1).enter(network, 2)
    grown = {id(parameter) for parameter in network.parameters() if parameter.requires_grad}
    assert grown == learning | {id(parameter) for parameter in parts[1][1]}
    FineTune().enter(network, 2)
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize(
    ("regime", "learned"),
    [
        (Probe(), {"head.fc"}),
        (FineTune(1, 0.5, unfreeze=1), {"head.fc", "head.norm", "stages.three"}),
        (FineTune(1, 0.5, unfreeze=2), {"head.fc", "head.norm", "stages.three", "stages.two"}),
        (FineTune(1, 0.5, stage_epochs=2), {"head.fc", "head.norm", "stages.three", "stages.two"}),
        (FineTune(1, 0.5), {"head.fc", "head.norm", "stages.three", "stages.two", "stages.one", "stem.0", "stem.1"}),
    ],
    ids=["probe", "partial 1", "partial 2", "gradual", "full"],
)
@pytest.mark.parametrize("batch_statistics", [False, True])
def test_frozen_is_frozen_also_after_resume(
    tmp_path: Path, regime: Probe | FineTune, learned: set[str], batch_statistics: bool
) -> None:
    """Four epochs: in the gradual regime the third and the second stage have begun, the first has not."""
    if isinstance(regime, FineTune):
        regime = FineTune(1, 0.5, batch_statistics, unfreeze=regime.unfreeze, stage_epochs=regime.stage_epochs)
    before = copy_of(Deep().state_dict())
    whole = trainer(tmp_path / "whole", network=Deep(), regime=regime)
    whole.folder.mkdir()
    whole.fit()
    after = copy_of(whole.network.state_dict())
    assert changed(before, after) == learned
    statistics = {name for name in after if "running_" in name and not torch.equal(before[name], after[name])}
    assert bool(statistics) == (batch_statistics and regime != Probe())

    events = Events()
    stopped = trainer(tmp_path / "stopped", network=Deep(), regime=regime, events=events)
    stopped.folder.mkdir()
    events.on("step_ended", lambda epoch, batch, **_: stopped.stop(2) if (epoch, batch) == (2, 3) else None)
    with pytest.raises(Interrupted):
        stopped.fit()
    again = trainer(tmp_path / "stopped", network=Deep(), regime=regime)
    again.restore()
    again.fit()
    assert same(copy_of(again.network.state_dict()), after)


def test_gradual_begins_with_the_last_stage(tmp_path: Path) -> None:
    events, seen = Events(), []
    made = trainer(
        tmp_path, network=Deep(), regime=FineTune(1, 0.5, stage_epochs=1), events=events, epochs=6,
    )  # fmt: skip
    start = copy_of(made.network.state_dict())
    made.progress.planned = 6 * len(Shuffled())
    events.on("epoch_ended", lambda **_: seen.append(changed(start, made.network.state_dict())))
    made.fit()
    rest = ["stages.three", "stages.two", "stages.one", "stem.0"]
    assert [[part in names for part in rest] for names in seen[:5]] == [
        [depth < epoch for depth in range(4)] for epoch in range(5)
    ]


def test_a_frozen_dropout_in_the_backbone_rests_and_the_classifier_s_own_does_not() -> None:
    network = Deep()
    FineTune(1, unfreeze=1).enter(network, 1)
    training = {name for name, module in network.named_modules() if module.training and not list(module.children())}
    assert training == {
        "stages.three.0", "stages.three.2", "stages.three.3", "head.pool", "head.flatten", "head.dropout", "head.fc"
    }  # fmt: skip
    assert not network.training


def test_rates_rise_over_an_epoch_and_fall_from_stage_to_stage() -> None:
    regime = FineTune(2, 0.1, layer_decay=0.5, stage_epochs=1)
    assert [regime.rate("head", epoch) for epoch in (0.5, 2.0, 2.1)] == [1.0, 1.0, 0.1]
    assert [regime.rate("0", epoch) for epoch in (2.0, 2.5, 3.0, 9.0)] == [0.0, 0.05, 0.1, 0.1]
    assert [regime.rate("2", epoch) for epoch in (4.0, 4.5, 5.0, 9.0)] == [0.0, 0.0125, 0.025, 0.025]
    assert math.isclose(FineTune(0, 1.0, layer_decay=0.9).rate("7", 5.0), 0.9**7)


def test_auxiliary_heads_are_asked_only_when_everything_learns() -> None:
    with torch.device("meta"):
        network = lookup("googlenet").build(num_classes=3)
        x = torch.zeros(2, 3, 224, 224)
    FineTune(1, unfreeze=2).enter(network, 5)
    assert isinstance(network(x), Tensor)
    FineTune(1).enter(network, 5)
    assert not isinstance(network(x), Tensor)
