"""What learns, from what, and how it is judged while it does: a network from pictures, or a head from embeddings."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn

from neocog import metrics
from neocog.app import settings
from neocog.app.building import EVALUATION_BATCH, evaluation_loader, training_loader
from neocog.app.embedding import Embedded, embed_all, embedder
from neocog.app.machine import Machine
from neocog.app.processes import predict_together
from neocog.app.zoo import Loaded
from neocog.core.config import TrainConfig
from neocog.core.contracts import Batch
from neocog.core.events import Events
from neocog.core.files import sha256_of, write_atomic
from neocog.core.spec import Preprocessing
from neocog.data.dataset import Dataset
from neocog.data.features import FeatureLoader
from neocog.data.plan import Plan
from neocog.evaluate import Outcome, predict
from neocog.training.contracts import Loader, Recipe, Regime
from neocog.training.world import World

STATES = 3  # times its weights, which a checkpoint after an epoch writes: they, and what the optimizer remembers


PROBED = 2 * EVALUATION_BATCH  # pictures that a watched training is looked at with


@dataclass(frozen=True)
class Probe:
    """A few pictures that stay the same, as they are evaluated. `of`: the set that they are from. `loss`: of a network
    on such batches, as validation has it."""

    batches: Sequence[Batch]
    of: str
    bf16: bool
    loss: Callable[[nn.Module, Sequence[Batch]], float]


@dataclass(frozen=True)
class Learner:
    """`validation`: seconds of one, for what a time budget must plan. `probe`: pictures to look inside with.
    `embedded`: of regime features."""

    network: nn.Module
    loader: Loader
    recipe: Recipe
    regime: Regime
    validate: Callable[[nn.Module], dict[str, float] | None]
    validation: float
    probe: Callable[[], Probe]
    embedded: Embedded | None = None


def from_pictures(
    config: TrainConfig, dataset: Dataset, loaded: Loaded, preprocessing: Preprocessing, machine: Machine,
    world: World, each: float,
) -> Learner:  # fmt: skip
    """`each`: seconds of an evaluation batch."""
    loader = training_loader(config, dataset, preprocessing, machine, world)
    validation = evaluation_loader(dataset, dataset.rows("val"), preprocessing, machine, config.threads, world)
    recipe = settings.make_recipe(config, bf16=machine.bf16)

    def validate(network: nn.Module) -> dict[str, float] | None:
        if len(validation.rows) == 0:
            return None
        return judged(predict_together(network, validation, world, bf16=machine.bf16, divided=recipe.shard))

    def probe() -> Probe:
        of, rows = probed(dataset)
        batches = list(evaluation_loader(dataset, rows, preprocessing, machine, config.threads).epoch(0))
        return Probe(batches, of, machine.bf16, lambda network, some: loss_of(network, some, bf16=machine.bf16))

    regime = settings.make_regime(config)
    return Learner(loaded.network, loader, recipe, regime, validate, each * validation.rounds, probe)


def from_embeddings(
    config: TrainConfig, dataset: Dataset, loaded: Loaded, preprocessing: Preprocessing, machine: Machine,
    world: World, events: Events, left: float | None,
) -> Learner:  # fmt: skip
    """`left`: seconds of a time budget that embedding and training may share."""
    source = embedder(config, dataset, loaded, preprocessing, machine, world)
    found = embed_all(config, source, loaded, events, left)

    def validate(network: nn.Module) -> dict[str, float] | None:
        return judged(predict(network, found.validation.epoch(0))) if len(found.validation.rows) else None

    def probe() -> Probe:
        """Of embeddings: those of the pictures as they are where some are kept for validation, else a view of each."""
        kept = len(found.validation.rows) > 0
        source, rows = (found.val, found.validation.rows) if kept else (found.train, found.loader.rows)
        some = spread(len(rows))
        loader = FeatureLoader(
            lambda _: source[0][some], dataset.labels, rows[some], Plan(len(some), EVALUATION_BATCH),
            device=machine.device, num_classes=len(dataset.classes),
        )  # fmt: skip
        of = "validation" if kept else "training"
        return Probe(list(loader.epoch(0)), of, False, lambda network, some: loss_of(network, some, bf16=False))

    began = time.monotonic()
    validate(found.tail)
    validation = time.monotonic() - began + STATES * seconds_of_saving(found.tail, found.train.folder)
    recipe = settings.make_recipe(config, bf16=False)  # a head is small: nothing is gained by rounding
    regime = settings.make_regime(config)
    return Learner(found.tail, found.loader, recipe, regime, validate, validation, probe, found)


def seconds_of_saving(network: nn.Module, folder: Path) -> float:
    """Of all weights, once, with their hash, into a folder."""
    began = time.monotonic()
    dense = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
    path = write_atomic(folder / f"measuring-{os.getpid()}", lambda path: save_file(dense, path))
    sha256_of(path)
    path.unlink()
    return time.monotonic() - began


def judged(found: Outcome) -> dict[str, float]:
    return {
        "loss": float(metrics.negative_log_likelihood(found.probabilities, found.labels)),
        "accuracy": float((found.probabilities.argmax(1) == found.labels).mean()),
    }


def loss_of(network: nn.Module, batches: Sequence[Batch], *, bf16: bool) -> float:
    return judged(predict(network, batches, autocast=torch.bfloat16 if bf16 else None))["loss"]


def probed(dataset: Dataset) -> tuple[str, NDArray[np.int64]]:
    """(the set, rows) of the pictures to look inside with."""
    of, rows = "validation", dataset.rows("val")
    if not len(rows):
        of, rows = "training", dataset.rows("train")
    return of, rows[spread(len(rows))]


def spread(number: int) -> NDArray[np.int64]:
    """PROBED places out of so many, evenly, as they may be sorted by class; the first half is even by itself."""
    count = min(PROBED, number)
    places = np.arange(count) * number // count
    return np.concatenate([places[::2], places[1::2]])
