"""What a network costs, by name, run folder or module: its table, its training memory, its time on this machine."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neocog.app.building import SETTINGS, check_size
from neocog.app.folder import is_run
from neocog.app.machine import Machine, available_memory, choose_machine
from neocog.app.run import Run
from neocog.app.settings import make_regime
from neocog.app.zoo import build, outputs_of
from neocog.core.autoencoder import Autoencoder, Reconstruction
from neocog.core.config import TrainConfig
from neocog.core.contracts import Network, WithAuxiliary
from neocog.core.errors import UsageError
from neocog.core.registry import lookup
from neocog.core.shapes import shapes_only
from neocog.core.spec import Spec
from neocog.costs.cost import cost as cost_of_module
from neocog.costs.cost import cost_of
from neocog.costs.count import on_meta
from neocog.costs.memory import TrainingMemory, largest_batch, training_memory
from neocog.costs.table import CostTable, Shape, to_csv
from neocog.explaining.steps import weights_of
from neocog.training.optimizer import make_optimizer, parameter_groups
from neocog.training.timing import settled_seconds

__all__ = ["Cost", "answer", "cost", "plan", "to_csv"]

DTYPES = ("float32", "bfloat16", "float16", "float64")
LATE = 10**6  # an epoch in which everything that ever learns does


def cost(
    module: nn.Module | str, input_shape: Shape | Sequence[Shape] | None = None, *, num_classes: int | None = None,
    knobs: Mapping[str, Any] | None = None, dtype: torch.dtype | None = None, **more: Any,
) -> CostTable:  # fmt: skip
    """What a network costs, layer by layer: a `torch.nn.Module`, the name of a network, or a run's folder.

    `input_shape`: (C, H, W) without the batch (default: (3, 224, 224), the named network's own, or the run's).
    `num_classes`, `knobs`: of a named network. `more`: for a module, see `neocog.costs.cost.cost`. Nothing is
    allocated for a named network. UsageError where it does not run on this input.
    """
    if isinstance(module, nn.Module):
        if num_classes is not None or knobs is not None:
            raise UsageError("num_classes and knobs are of networks by name", "leave them out for a module")
        unknown = more.keys() - {"inputs", "name", "allocate"}
        if unknown:
            raise UsageError(f"cost has no argument {', '.join(sorted(unknown))}", "help(neocog.cost) lists them")
        shape = (3, 224, 224) if input_shape is None else input_shape
        return cost_of_module(module, shape, dtype=dtype, **more)
    if not isinstance(module, str):
        raise UsageError(
            f"{module!r} is no network", "give a torch.nn.Module, a name of `neocog models` or a run folder"
        )
    if more:
        raise UsageError(f"{', '.join(sorted(more))}: not for a network by name", "help(neocog.cost) lists what is")
    planned = plan(module, _one(input_shape), num_classes, knobs)
    return cost_of(planned.network, planned.input_shape, dtype=dtype, name=planned.name)


@dataclass(frozen=True)
class Planned:
    """A network of shapes alone, and the picture it is meant for."""

    name: str
    spec: Spec
    network: Network
    input_shape: Shape
    build: Callable[[], Network]  # the same with real weights


def plan(
    name: str, input_shape: Shape | None = None, num_classes: int | None = None,
    knobs: Mapping[str, Any] | None = None,
) -> Planned:  # fmt: skip
    """A named network, or that of a run folder, on the meta device."""
    of_run = len(name) < 256 and is_run(Path(name))
    if of_run:
        if num_classes is not None or knobs:
            raise UsageError(f"{name} is a run, whose network is settled", "leave --classes and --knob out")
        card = Run.open(name).card
        entry, options, size = lookup(card.model), dict(card.knobs), card.preprocessing.size
        classes, shape = outputs_of(card), input_shape or (card.in_channels, size, size)
    else:
        entry, options = lookup(name), dict(knobs or {})
        for option in options.keys() & SETTINGS:
            raise UsageError(f"{option} is no --knob", "use --classes and --input")
        classes = entry.spec.num_classes if num_classes is None else num_classes
        shape = input_shape or entry.spec.input_shape
    if len(shape) != len(entry.spec.input_shape):
        wanted = ",".join(str(n) for n in entry.spec.input_shape)
        raise UsageError(f"{entry.spec.name} does not take inputs of {_by(shape)}", f"give {wanted}, for instance")
    channels = None if len(shape) == 1 else shape[0]
    if (
        len(shape) == 3
        and "image_size" in inspect.signature(entry.build).parameters
        and shape != entry.spec.input_shape
    ):
        options["image_size"] = shape[1]

    def make() -> Network:
        return build(entry, classes, channels, options)

    with shapes_only():
        network = make()
    if len(shape) == 3:
        for size in shape[1:]:
            check_size(entry.spec.name, network, size, f"--input {shape[0]},{{0}},{{0}}")
    return Planned(name if of_run else entry.spec.name, entry.spec, network, shape, make)


@dataclass(frozen=True)
class TrainingCost:
    """A training step's memory, and whether it fits into `limit`. Bytes and seconds."""

    memory: TrainingMemory
    optimizer: str
    precision: str
    regime: str
    limit: int
    limit_name: str
    largest_batch: int
    seconds_per_step: float | None = None
    pictures: int | None = None

    @property
    def fits(self) -> bool:
        return self.memory.peak <= self.limit

    @property
    def seconds_per_epoch(self) -> float | None:
        if self.seconds_per_step is None or self.pictures is None:
            return None
        return self.seconds_per_step * -(-self.pictures // self.memory.batch)


@dataclass(frozen=True)
class Cost:
    """What `neocog cost` says of one network."""

    table: CostTable
    spec: Spec
    training: TrainingCost | None = None

    def folded(self, depth: int) -> "Cost":
        return replace(self, table=self.table.fold(depth))

    def to_dict(self) -> dict[str, Any]:
        step = self.training
        if step is None:
            return self.table.to_dict() | {"training": None}
        facts = asdict(step) | {"fits": step.fits, "seconds_per_epoch": step.seconds_per_epoch}
        return self.table.to_dict() | {"training": facts}


def answer(
    name: str, *, input_shape: Shape | None = None, num_classes: int | None = None,
    knobs: Mapping[str, Any] | None = None, dtype: str = "float32", training: TrainConfig | None = None,
    limit: int | None = None, pictures: int | None = None,
) -> Cost:  # fmt: skip
    """The table of a named network or run, and with `training` what such a step takes here."""
    if dtype not in DTYPES:
        raise UsageError(f"there is no dtype called {dtype!r}", f"use one of {', '.join(DTYPES)}")
    planned = plan(name, input_shape, num_classes, knobs)
    step = None
    if training is not None:
        step = training_cost(planned, training, choose_machine(training), limit=limit, pictures=pictures)
    table = cost_of(planned.network, planned.input_shape, dtype=getattr(torch, dtype), name=planned.name)
    return Cost(table, planned.spec, step)


class StepMemory:
    """The memory of a step of `config`, by the size of its batch: with the twins of adversarial training, and with the
    weights before the step where they are watched."""

    def __init__(self, network: Network, input_shape: Shape, config: TrainConfig, machine: Machine) -> None:
        self.network = on_meta(network)
        make_regime(config).enter(self.network, LATE)
        self.input_shape, self.config, self.machine = input_shape, config, machine
        self.known: dict[int, TrainingMemory] = {}

    def __call__(self, batch: int) -> TrainingMemory:
        if batch not in self.known:
            config = self.config
            twins = 2 if config.task == "classification" and config.adversarial else 1
            found = training_memory(
                self.network, self.input_shape, batch=twins * batch, optimizer=_optimizer(config),
                bf16=self.machine.bf16, accumulate=min(config.accumulate, 2),
                device="cuda" if self.machine.device.type == "cuda" else "cpu",
                loss=some_loss if isinstance(self.network, Autoencoder) else None,
            )  # fmt: skip
            old = sum(w.nbytes for _, w in weights_of(self.network) if w.requires_grad) if config.watch else 0
            self.known[batch] = replace(found, batch=batch, peak=found.peak + old, rest=found.rest + old)
        return self.known[batch]

    def largest(self, limit: int) -> int:
        """The largest batch that fits into `limit` bytes; 0 where none does."""
        return largest_batch(self._peak, limit, self.config.batch)

    def _peak(self, batch: int) -> int:
        try:
            return self(batch).peak
        except UsageError:
            if batch > 1:
                raise
            return self(2).peak  # batch norm does not learn from a single value: two is the least that could fit

    def about(self, limit: int) -> int:
        """`largest`, from the line through two batches."""
        batch = self.config.batch
        one, two = self(batch).peak, self(2 * batch).peak
        return max(int(batch + (limit - one) / max((two - one) / batch, 1)), 0)


def training_cost(
    planned: Planned, config: TrainConfig, machine: Machine, *, limit: int | None = None, pictures: int | None = None
) -> TrainingCost:  # fmt: skip
    """The memory of `config`'s step, the largest batch within `limit` bytes (default: what is free here), and, for
    `pictures` an epoch, the seconds it takes, measured over a few steps with numbers for pictures."""
    step = StepMemory(planned.network, planned.input_shape, config, machine)
    free, name = available_memory(machine.device)
    limit, name = (free, name) if limit is None else (limit, "given")
    return TrainingCost(
        step(config.batch), config.optimizer, "bf16" if machine.bf16 else "fp32", config.regime, limit, name,
        step.largest(limit), None if pictures is None else seconds_per_step(planned, config, machine), pictures,
    )  # fmt: skip


def _optimizer(config: TrainConfig) -> Callable[[list[nn.Parameter]], torch.optim.Optimizer]:
    def make(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        groups = parameter_groups([("all", parameters)], config.weight_decay)
        return make_optimizer(config.optimizer, groups, 1e-3, config.momentum)

    return make


def seconds_per_step(planned: Planned, config: TrainConfig, machine: Machine) -> float:
    """Of a few real steps on random numbers: forward, backward, update; nothing is loaded or decoded."""
    with torch.random.fork_rng():
        network = planned.build()
    machine.place(network)
    make_regime(config).enter(network, LATE)
    device = machine.device
    optimizer = _optimizer(config)([p for p in network.parameters() if p.requires_grad])
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(config.batch, *planned.input_shape, generator=generator).to(device)
    if machine.channels_last and x.ndim == 4:
        x = x.to(memory_format=torch.channels_last)

    def step() -> bool:
        with torch.autocast(device.type, torch.bfloat16, enabled=machine.bf16):
            loss = some_loss(network(x))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()  # waits for the device
        return True

    return settled_seconds(step)


def some_loss(outputs: Tensor | WithAuxiliary | Reconstruction) -> Tensor:
    """As expensive as the one that such an answer is trained with."""
    if isinstance(outputs, Reconstruction):
        return F.mse_loss(outputs.logits.float().sigmoid(), torch.zeros_like(outputs.logits, dtype=torch.float32))
    answers = [outputs.scores, *outputs.auxiliary] if isinstance(outputs, WithAuxiliary) else [outputs]
    labels = torch.zeros(len(answers[0]), dtype=torch.int64, device=answers[0].device)
    return torch.stack([F.cross_entropy(scores, labels) for scores in answers]).sum()


def _one(shape: Shape | Sequence[Shape] | None) -> Shape | None:
    if shape is None:
        return None
    if not isinstance(shape, Sequence):
        raise UsageError(f"{shape!r} is no input shape", "give (channels, height, width)")
    sizes = tuple(n for n in shape if isinstance(n, int))
    if len(sizes) != len(shape):
        raise UsageError(f"{shape!r} is no input shape of a named network", "give (channels, height, width)")
    return sizes


def _by(shape: Shape) -> str:
    return " x ".join(str(n) for n in shape)
