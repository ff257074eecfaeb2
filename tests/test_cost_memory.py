"""Predicted training memory against the bytes that PyTorch's allocator hands out in a real step, and by hand."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import neocog.models  # noqa: F401  (importing it registers the networks)
from allocated import allocated
from neocog.app.costing import StepMemory
from neocog.app.machine import choose_machine
from neocog.core.config import TrainConfig
from neocog.core.contracts import Network
from neocog.core.errors import UsageError
from neocog.core.registry import lookup
from neocog.costs.count import MacCounter
from neocog.costs.memory import TrainingMemory, largest_batch, training_memory
from neocog.data.loader import Batch
from neocog.tasks.classification import Classification
from neocog.transfer.regimes import Probe, Scratch

SHAPE = (3, 96, 96)


def small(name: str) -> tuple[Network, tuple[int, ...]]:
    """A network and an input that a test can afford."""
    knobs = {"image_size": 96} if name.startswith("vit") else {}
    network: Network = lookup(name).build(num_classes=10, **knobs)
    return network, SHAPE


@pytest.mark.parametrize("regime", ["full", "probe"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("name", ["alexnet", "resnet18", "mobilenet_v2", "densenet121", "vit_b_16"])
def test_a_real_step_needs_what_was_predicted(name: str, optimizer: str, regime: str) -> None:
    network, shape = small(name)
    (Probe() if regime == "probe" else Scratch()).enter(network, 0)
    batch = 2 if name in ("densenet121", "vit_b_16") else 6
    found = training_memory(network, shape, batch=batch, optimizer=optimizer)
    assert found.peak == pytest.approx(allocated(network, shape, batch, optimizer), rel=0.1)
    parts = (found.parameters, found.optimizer_state, found.inputs, found.gradients, found.saved, found.rest)
    assert sum(parts) == found.peak
    assert found.unknown == ()
    assert (found.kernels != ()) == name.startswith("vit")


@pytest.mark.parametrize(
    ("bf16", "accumulate", "optimizer"), [(True, 1, "adamw"), (False, 2, "sgd"), (True, 2, "rmsprop")]
)
def test_precision_accumulation_and_another_optimizer(bf16: bool, accumulate: int, optimizer: str) -> None:
    network, shape = small("mobilenet_v2")
    found = training_memory(network, shape, batch=4, optimizer=optimizer, bf16=bf16, accumulate=accumulate)
    assert found.peak == pytest.approx(
        allocated(network, shape, 4, optimizer, bf16=bf16, accumulate=accumulate), rel=0.1
    )


def test_adversarial_twins_and_watched_weights_take_memory_too() -> None:
    network, shape = small("resnet18")
    settings: dict[str, Any] = {
        "data": "pictures",
        "model": "resnet18",
        "optimizer": "sgd",
        "device": "cpu",
        "precision": "fp32",
    }
    task = Classification(adversarial=0.03)

    def predicted(batch: int, **more: Any) -> int:
        config = TrainConfig(**settings, task="classification", **more)
        return StepMemory(network, shape, config, choose_machine(config))(batch).peak

    def attacked(network: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
        return task.step(network, Batch(x, labels, torch.arange(len(x)))).loss

    real = allocated(network, shape, 16, "sgd", loss_of=attacked)
    assert predicted(16, noise="adversarial:0.03") == pytest.approx(real, rel=0.1)
    assert predicted(16) < 0.8 * real
    watched = allocated(network, shape, 1, "sgd", watch=True)
    assert predicted(1, watch=True) == pytest.approx(watched, rel=0.1)
    assert predicted(1) < 0.85 * watched


def test_by_hand() -> None:
    """Two dense layers without bias: what is saved are the input and the hidden activation, twice (ReLU's too)."""
    network = nn.Sequential(nn.Linear(1000, 500, bias=False), nn.ReLU(), nn.Linear(500, 10, bias=False))
    found = training_memory(network, (1000,), batch=32, optimizer="adam", loss=lambda y: y.sum())
    weights = 4 * (1000 * 500 + 500 * 10)
    assert found.parameters == weights
    assert found.trained == weights // 4
    assert found.optimizer_state - 2 * weights in range(1, 100)  # two averages, and the steps' counters
    assert found.inputs == 4 * 32 * 1000
    assert found.saved_in_all == 4 * 32 * 500  # the input is a picture, weights are parameters, ReLU's output
    assert found.moment in ("backward", "update")
    sgd = training_memory(network, (1000,), batch=32, optimizer="sgd", loss=lambda y: y.sum())
    assert found.peak - sgd.peak == found.optimizer_state - sgd.optimizer_state
    network.requires_grad_(False)
    frozen = training_memory(network, (1000,), batch=32, loss=lambda y: y.sum())
    assert (frozen.gradients, frozen.saved, frozen.optimizer_state, frozen.trained) == (0, 0, 0, 0)


def test_what_is_counted_of_both_directions() -> None:
    """A convolution's backward is two more of its cost; the first layer's is one, for nobody asks for the picture's."""
    network = nn.Sequential(
        nn.Conv2d(4, 8, 3, groups=2, bias=False), nn.ConvTranspose2d(8, 4, 4, 2, groups=4, bias=False)
    )
    found = training_memory(network, (4, 10, 10), batch=3, loss=lambda y: y.sum())
    first, second = 8 * 2 * 9 * 64, 8 * 1 * 16 * 64
    assert found.macs == 3 * (2 * first + 3 * second)
    x = torch.randn(3, 4, 10, 10)
    with MacCounter() as counter:
        network(x).sum().backward()
    assert (counter.macs, counter.unknown) == (found.macs, set())


def test_the_module_is_left_alone() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    training_memory(network, (3,), batch=4)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(p.grad is None and not p._post_accumulate_grad_hooks for p in network.parameters())


def test_mistakes_are_named() -> None:
    with pytest.raises(UsageError, match="no optimizer called 'adamx'; did you mean adam"):
        training_memory(nn.Linear(3, 3), (3,), batch=1, optimizer="adamx")
    with pytest.raises(UsageError, match="batch = 0, accumulate = 1: both must be at least 1"):
        training_memory(nn.Linear(3, 3), (3,), batch=0)
    with pytest.raises(UsageError, match="kernels of device 'tpu' are not here"):
        training_memory(nn.Linear(3, 3), (3,), batch=1, device="tpu")
    with pytest.raises(UsageError, match=r"Linear does not run on an input of 2 x 4 .in training"):
        training_memory(nn.Linear(3, 3), (4,), batch=2)
    with pytest.raises(UsageError, match="Expected more than 1 value per channel"):
        training_memory(nn.BatchNorm1d(3), (3,), batch=1)
    with pytest.raises(UsageError, match=r"'lenet5' is no torch.nn.Module"):
        training_memory("lenet5", (1, 32, 32), batch=1)  # type: ignore[arg-type]


def test_a_workspace_that_only_the_kernel_knows_is_named() -> None:
    found = training_memory(nn.LSTM(4, 5, batch_first=True), (7, 4), batch=2, loss=lambda out: out[0].sum())
    assert found.workspaces == ("the CPU's LSTM",)
    assert training_memory(nn.Linear(3, 3), (3,), batch=1).workspaces == ()


@given(
    fixed=st.integers(0, 10**9), each=st.integers(1, 10**7), late=st.integers(0, 10**7), turn=st.integers(1, 500),
    limit=st.integers(0, 10**10), guess=st.integers(1, 5000),
)  # fmt: skip
def test_the_largest_batch(fixed: int, each: int, late: int, turn: int, limit: int, guess: int) -> None:
    """For any cost that rises, however it bends: the answer fits and one more does not, in a few tries."""
    asked = set()

    def peak(batch: int) -> int:
        asked.add(batch)
        return fixed + each * batch + late * max(batch - turn, 0)

    found = largest_batch(peak, limit, guess)
    tries = len(asked)
    assert found == 0 or peak(found) <= limit
    assert peak(found + 1) > limit
    assert tries <= 100  # a few for what rises evenly; never one by one


def sweep() -> list[str]:
    from neocog.core.registry import names

    families: dict[str, str] = {}
    for name in names():
        families.setdefault(lookup(name).build.__module__, name)
    return sorted(families.values())


@pytest.mark.parametrize("name", sweep())
def test_every_family_of_the_zoo_is_predicted(name: str) -> None:
    entry = lookup(name)
    make: Callable[..., Network] = entry.build
    with torch.device("meta"):
        network = make()
    found: TrainingMemory = training_memory(network, entry.spec.input_shape, batch=2)
    assert found.unknown == ()
    assert found.peak > found.parameters + found.optimizer_state
    assert found.macs >= 2 * 2 * entry.spec.macs  # two pictures, forward and at least once back
