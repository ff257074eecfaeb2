"""One run, decided and built, then carried out: train, evaluate, keep, report."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import neocog
from neocog import metrics
from neocog.app import settings
from neocog.app.building import (
    build_network,
    choose_loss,
    choose_preprocessing,
    evaluation_loader,
    make_task,
    training_loader,
)
from neocog.app.costing import StepMemory
from neocog.app.machine import Machine, available_memory, choose_machine
from neocog.app.reporting import write_report
from neocog.app.run import Run
from neocog.app.zoo import Loaded, preprocessing_of
from neocog.core.config import TrainConfig, seconds
from neocog.core.contracts import Network
from neocog.core.errors import UsageError
from neocog.core.events import Events
from neocog.core.registry import lookup
from neocog.core.spec import Preprocessing
from neocog.costs.count import count
from neocog.data.dataset import Dataset, open_dataset
from neocog.data.decode import DecodeOptions
from neocog.data.loader import Loader
from neocog.evaluate import Predictions, predict
from neocog.export.bundle import ModelCard, write_bundle
from neocog.tasks.classification import Classification
from neocog.training.contracts import Regime
from neocog.training.loop import Trainer
from neocog.training.timing import seconds_per_batch


@dataclass
class Session:
    """Everything a run needs. Nothing has been written yet when `prepare` returns it."""

    config: TrainConfig
    folder: Path
    dataset: Dataset
    loaded: Loaded
    knobs: dict[str, Any]
    preprocessing: Preprocessing
    machine: Machine
    trainer: Trainer
    events: Events

    def run(self) -> Run:
        self.events.emit("training", trainer=self.trainer)
        best = self.trainer.fit()
        network = self.loaded.network
        network.load_state_dict(best)
        self.evaluate(network).write(self.folder / "predictions.csv")
        write_bundle(self.folder / "model", network.state_dict(), self.card())
        write_report(self)
        return Run.open(self.folder)

    def evaluate(self, network: Network) -> Predictions:
        """Predictions on every picture that was kept from training: validation, then test."""
        data = self.dataset
        rows = np.concatenate([data.rows("val"), data.rows("test")])
        loader = evaluation_loader(data, rows, self.preprocessing, self.machine, self.config.threads)
        outcome = predict(network, loader.epoch(0), autocast=torch.bfloat16 if self.machine.bf16 else None)
        numbers = outcome.indices.tolist()
        return Predictions(
            [data.files[i] for i in numbers], [str(data.splits[i]) for i in numbers], data.classes,
            data.labels[outcome.indices], outcome.probabilities,
        )  # fmt: skip

    def card(self) -> ModelCard:
        story = {"regime": self.config.regime, "seed": self.config.seed, "data": self.dataset.name}
        return ModelCard(
            model=lookup(self.config.model).spec.name, knobs=self.knobs, classes=self.dataset.classes,
            in_channels=self.loaded.network.in_channels, background=self.config.background,
            preprocessing=self.preprocessing, provenance=story | self.loaded.provenance,
            written_by=neocog.__version__,
        )  # fmt: skip

    def note(self, label: str, text: str) -> None:
        self.events.emit("note", label=label, text=text)


def prepare(config: TrainConfig, folder: Path, events: Events) -> Session:
    """Opens the data, decides every open setting and builds the network and its trainer."""
    machine = choose_machine(config)
    entry = lookup(config.model)
    own = preprocessing_of(entry, config.weights) if config.weights else None
    channels = {"auto": None if own is None else 3, "rgb": 3, "grey": 1}[config.channels]
    dataset = open_data(config, settings.largest_side(config, entry.spec, own), channels, events)
    if len(dataset.rows("val")) + len(dataset.rows("test")) == 0:
        raise UsageError("no picture is kept from training, so nothing could be said about the result",
                         "give --test-fraction or --val-fraction more than 0")  # fmt: skip
    resize, size = settings.decide_size(config, entry.spec, own, dataset.equal_size)
    config = settings.decide(config, dataset.channels, size)
    loaded, knobs = build_network(config, len(dataset.classes), dataset.channels, size)
    config = choose_loss(config, loaded.network)
    machine.place(loaded.network)
    preprocessing = choose_preprocessing(own, resize, size, dataset)
    loader = training_loader(config, dataset, preprocessing, machine)
    task, regime = make_task(config, dataset, machine.device), settings.make_regime(config)

    first, later = epoch_seconds(loaded.network, task, loader, regime, config, bf16=machine.bf16)
    if config.epochs is None:
        assert config.time is not None
        planned = settings.epochs_within(seconds(config.time), first, later, config)
        config = config.model_copy(update={"epochs": planned})
    assert config.epochs is not None
    validation = evaluation_loader(dataset, dataset.rows("val"), preprocessing, machine, config.threads)

    def validate(network: nn.Module) -> dict[str, float] | None:
        if len(validation) == 0:
            return None
        found = predict(network, validation.epoch(0), autocast=torch.bfloat16 if machine.bf16 else None)
        return {
            "loss": float(metrics.negative_log_likelihood(found.probabilities, found.labels)),
            "accuracy": float((found.probabilities.argmax(1) == found.labels).mean()),
        }

    recipe = settings.make_recipe(config, bf16=machine.bf16)
    trainer = Trainer(loaded.network, task, loader, regime, recipe, folder=folder, validate=validate, events=events)
    session = Session(config, folder, dataset, loaded, knobs, preprocessing, machine, trainer, events)
    announce(session, first, later)
    return session


def epoch_seconds(
    network: Network, task: Classification, loader: Loader, regime: Regime, config: TrainConfig, *, bf16: bool
) -> tuple[float, float]:
    """Measured seconds of an epoch at the start, and of one in which everything learns."""
    start = seconds_per_batch(network, task, loader, regime, 0, bf16=bf16) * len(loader)
    if config.regime != "full" or config.head_epochs == 0:
        return start, start
    return start, seconds_per_batch(network, task, loader, regime, config.head_epochs, bf16=bf16) * len(loader)


def open_data(config: TrainConfig, resize: int, channels: int | None, events: Events) -> Dataset:
    """`channels` None: grey where every picture is."""
    dataset = open_dataset(
        config.data, DecodeOptions(channels or 3, config.background, config.max_pixels), resize=resize,
        val_fraction=config.val_fraction, test_fraction=config.test_fraction, seed=config.seed,
        threads=config.threads, max_excluded=config.max_excluded, strict=config.strict,
        follow_links=config.follow_links, allow_empty_classes=config.allow_empty_classes,
        on_progress=lambda done, total: events.emit("progress", what="scanning", done=done, total=total),
    )  # fmt: skip
    return dataset.with_channels(channels or (1 if dataset.grey else 3))


def announce(session: Session, first: float, later: float) -> None:
    """The first lines of a run: what was found, what was chosen, what it will cost. `first` and `later`: seconds of
    an epoch while only the head learns, and after."""
    data, config, network, pre = session.dataset, session.config, session.loaded.network, session.preprocessing
    sizes = ", ".join(f"{name} {len(data.rows(name)):,}" for name in ("train", "val", "test"))
    excluded = len(data.scan.excluded)
    colour = "grey" if data.channels == 1 else "colour"
    session.note(
        "pictures", f"{len(data.files):,} in {len(data.classes)} classes ({sizes}), {colour}; {excluded} excluded"
    )
    for warning in data.warnings:
        session.note("warning", warning)
    shape = (network.in_channels, pre.size, pre.size)
    facts = count(network, shape)
    size = " x ".join(str(n) for n in shape)
    session.note(
        "network",
        f"{lookup(config.model).spec.name}, {facts.params:,} parameters, "
        f"{facts.macs / 1e6:,.1f} million multiply-accumulates a picture of {size}",
    )
    start = session.loaded.provenance.get("weights", f"nothing ({config.init} initialisation)")
    session.note("start", f"from {start}; regime {config.regime}")
    for remark in session.loaded.notes:
        session.note("weights", remark)
    session.note("machine", session.machine.describe())
    announce_memory(session, shape)
    assert config.epochs is not None
    head = min(config.head_epochs, config.epochs) if config.regime == "full" else 0
    predicted = head * first + (config.epochs - head) * later
    each = [duration(seconds) for seconds, epochs in ((first, head), (later, config.epochs - head)) if epochs]
    batches = len(session.trainer.loader)
    session.note(
        "training",
        f"{config.epochs} x {batches:,} batches of {config.batch_size}, {config.optimizer}, "
        f"rate {config.lr:g} {config.schedule}, augmentation {config.augment}; "
        f"about {', then '.join(each)} an epoch, {duration(predicted)} in all",
    )


def announce_memory(session: Session, shape: tuple[int, ...]) -> None:
    """What a step needs beside the pictures that are held in memory, and what would fit."""
    config = session.config
    step = StepMemory(session.loaded.network, shape, config, session.machine)
    peak = step(config.batch_size).peak
    free, where = available_memory(session.machine.device)
    session.note(
        "memory", f"{size(peak)} for a step of {config.batch_size} pictures; {size(free)} {where}, enough for about "
        f"{rounded(step.about(free)):,} pictures a step",
    )  # fmt: skip
    if peak > free:
        session.note("warning", "a step will not fit into memory: use a smaller --batch-size or --image-size")


def rounded(number: int) -> int:
    """To two digits: 164782 is about 160000."""
    return int(float(f"{number:.2g}"))


def size(value: float) -> str:
    """Bytes for people: 42 MiB, 1.3 GiB."""
    return f"{value / 2**30:.1f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"


def duration(value: float) -> str:
    """Seconds for people: 1.3 s, 42 s, 3 min, 2.5 h."""
    if value < 100:
        return f"{value:.1f} s" if value < 9.95 else f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 6000 else f"{value / 3600:.1f} h"
