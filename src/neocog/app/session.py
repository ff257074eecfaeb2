"""One run, decided and built, then carried out: train, evaluate, keep, report."""

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import neocog
from neocog.app import records, selecting, settings
from neocog.app.announcing import describe_data, describe_length, describe_network, duration, rounded, size
from neocog.app.building import (
    build_network,
    choose_loss,
    choose_preprocessing,
    evaluation_loader,
    make_task,
    with_head,
)
from neocog.app.choosing import choose
from neocog.app.costing import LATE, StepMemory
from neocog.app.embedding import embedder, stacked
from neocog.app.learning import Learner, from_embeddings, from_pictures
from neocog.app.machine import Machine, available_memory, choose_machine
from neocog.app.processes import predict_together, threads_of
from neocog.app.reporting import write_report
from neocog.app.run import Run
from neocog.app.zoo import Loaded, preprocessing_of
from neocog.core.config import CLOSED, TrainConfig, seconds
from neocog.core.contracts import Network
from neocog.core.errors import ResourceError, UsageError
from neocog.core.events import Events
from neocog.core.files import sha256_of
from neocog.core.registry import lookup
from neocog.core.spec import Preprocessing
from neocog.data.dataset import Dataset, open_dataset
from neocog.data.decode import DecodeOptions
from neocog.data.folds import divide
from neocog.evaluate import Predictions, summarise
from neocog.export.bundle import ModelCard, write_bundle
from neocog.tasks.classification import Classification
from neocog.training.budget import Budget, Pace
from neocog.training.loop import Trainer
from neocog.training.rates import find_rate
from neocog.training.timing import seconds_per_batch, seconds_per_evaluation
from neocog.training.world import World, like
from neocog.transfer.fit import Fit
from neocog.transfer.regimes import FineTune, classifier_of

REPORT_SECONDS = 2.0  # for the bundle and the page
SEEN = 256  # pixels of the short side by which networks are compared
RATE_STEPS, RATE_SHARE = 100, 0.2  # of the search for a rate, and of a time budget that it may take
CELL_SECONDS = 1e-6  # for a number of predictions.csv
# Settings that change no weight, or that a run may have other ones of when it goes on.
FREE = frozenset(
    ("data", "epochs", "time", "threads", "device", "precision", "layout", "shard", "patience", "max_excluded",
     "strict", "allow_empty_classes")
)  # fmt: skip


@dataclass
class Session:
    """Everything a run needs. Nothing has been written yet when `prepare` returns it."""

    config: TrainConfig
    folder: Path
    dataset: Dataset
    loaded: Loaded
    preprocessing: Preprocessing
    machine: Machine
    world: World
    trainer: Trainer | Fit
    events: Events
    choices: dict[str, Any]  # what was measured to decide on open settings

    def run(self, record: records.Record) -> Run:
        """Trains, evaluates and writes everything; on the way out the record says how it ended."""
        try:
            self._run(record)
        except BaseException as error:
            code = getattr(error, "exit_code", 130 if isinstance(error, KeyboardInterrupt) else 1)
            record.get_up(type(error).__name__, code)
            if self.world.first:
                record.write(self.folder)
            if is_out_of_memory(error):
                raise self.too_much() from error
            raise
        return Run.open(self.folder)

    def _run(self, record: records.Record) -> None:
        self.events.emit("training", trainer=self.trainer)
        best = self.trainer.fit()
        learner = self.trainer.network  # the network, or the head that is a part of it
        learner.load_state_dict({name: like(best[name], value) for name, value in learner.state_dict().items()})
        predictions = self.evaluate(self.loaded.network)
        self.world.alone(lambda: self.keep(record, best, predictions))

    def keep(self, record: records.Record, best: dict[str, torch.Tensor], predictions: Predictions) -> None:
        """Writes what the run is remembered by."""
        if self.config.shard and self.world.size > 1:
            undivided = build_network(self.config, self.dataset, self.preprocessing.size)
            undivided.network.load_state_dict(best)
            self.machine.place(undivided.network)
            self.loaded = undivided
        predictions.write(self.folder / "predictions.csv")
        write_bundle(self.folder / "model", self.loaded.network.state_dict(), self.card())
        record.weights = sha256_of(self.folder / "model" / "model.safetensors")
        record.results = {name: summarise(predictions.of(name)) for name in dict.fromkeys(predictions.split)}
        write_report(self, record)
        record.get_up("finished", 0)  # last: what is not finished can be resumed
        record.write(self.folder)

    def evaluate(self, network: Network) -> Predictions:
        """Predictions on every picture that was kept from training: validation, then test."""
        data = self.dataset
        rows = np.concatenate([data.rows("val"), data.rows("test")])
        loader = evaluation_loader(data, rows, self.preprocessing, self.machine, self.config.threads, self.world)
        outcome = predict_together(
            network, loader, self.world, bf16=self.machine.bf16, divided=self.trainer.recipe.shard
        )
        numbers = outcome.indices.tolist()
        return Predictions(
            [data.files[i] for i in numbers], [str(data.splits[i]) for i in numbers], data.classes,
            data.labels[outcome.indices], outcome.probabilities,
        )  # fmt: skip

    def space(self) -> int:
        """Bytes that the run's folder will need: two states and a third while it is written, the best weights of
        each, the model. A state holds the weights, their average and what the optimizer remembers of each weight."""
        model: int = sum(value.nbytes for value in self.loaded.network.state_dict().values())
        weights: int = sum(value.nbytes for value in self.trainer.network.state_dict().values())
        moments = {"sgd": self.config.momentum > 0, "adam": 2, "adamw": 2, "rmsprop": 2}[self.config.optimizer]
        state = weights * (1 + moments + (self.config.ema is not None))
        return 3 * state + 2 * weights + 2 * model + 1_000_000

    def too_much(self) -> ResourceError:
        """What to say when the memory did not suffice."""
        shape = (self.loaded.network.in_channels, self.preprocessing.size, self.preprocessing.size)
        free, where = available_memory(self.machine.device)
        fits = StepMemory(self.loaded.network, shape, self.config, self.machine).about(free)
        advice = f"--batch-size {rounded(fits)} would fit" if fits else "use a smaller --image-size or network"
        return ResourceError(
            f"the memory does not suffice for steps of {self.config.batch_size} pictures ({size(free)} {where})",
            f"{advice}; what the last checkpoint holds is kept",
        )

    def card(self) -> ModelCard:
        story = {"regime": self.config.regime, "seed": self.config.seed, "data": self.dataset.name}
        return ModelCard(
            model=lookup(self.config.model).spec.name, knobs=self.loaded.knobs, classes=self.dataset.classes,
            in_channels=self.loaded.network.in_channels, background=self.config.background,
            preprocessing=self.preprocessing, head=self.loaded.head, provenance=story | self.loaded.provenance,
            written_by=neocog.__version__,
        )  # fmt: skip

    def note(self, label: str, text: str) -> None:
        self.events.emit("note", label=label, text=text)


def prepare(
    config: TrainConfig, folder: Path, events: Events, world: World | None = None, *, spent: float = 0.0,
    resumed: bool = False,
) -> Session:  # fmt: skip
    """Opens the data, decides every open setting and builds the network and its trainer. `spent`: seconds of a time
    budget that are gone. `resumed`: there is something to evaluate even where none is left."""
    began, world = time.monotonic() - spent, world or World()
    config = config.model_copy(update={"threads": threads_of(config.threads, world)})
    machine = choose_machine(config)
    said = events if world.first else Events()  # of several processes the first one speaks
    choices: dict[str, Any] = {}
    if config.model == selecting.AUTO:
        selecting.check(config)
        some = open_data(config, config.image_size or SEEN, 3, events)
        left = None if config.time is None else seconds(config.time) - (time.monotonic() - began)
        config, choices["models"] = selecting.select(config, some, machine, world, said, left)
    entry = lookup(config.model)
    own = preprocessing_of(entry, config.weights) if config.weights else None
    channels = {"auto": None if own is None else 3, "rgb": 3, "grey": 1}[config.channels]
    dataset = open_data(config, settings.largest_side(config, entry.spec, own), channels, events)
    if len(dataset.rows("val")) + len(dataset.rows("test")) == 0:
        raise UsageError("no picture is kept from training, so nothing could be said about the result",
                         "give --test-fraction or --val-fraction more than 0")  # fmt: skip
    resize, size = settings.decide_size(config, entry.spec, own, dataset.equal_size)
    config = settings.decide(config, dataset.channels, size)
    loaded = build_network(config, dataset, size)
    config = choose_loss(config, loaded.network)
    machine.place(loaded.network)
    preprocessing = choose_preprocessing(own, resize, size, dataset)
    tell(said, describe_data(dataset))
    each, ending = 0.0, 0.0
    if config.time is not None:
        kept = evaluation_loader(dataset, np.concatenate([dataset.rows("val"), dataset.rows("test")]), preprocessing,
                                 machine, config.threads, world)  # fmt: skip
        each = seconds_per_evaluation(loaded.network, kept, bf16=machine.bf16)
        ending = each * kept.rounds
    report = REPORT_SECONDS + CELL_SECONDS * len(dataset) * len(dataset.classes)
    left = seconds(config.time) - (time.monotonic() - began) - ending - report if config.time is not None else None
    if config.regime == "auto":
        source = embedder(config, dataset, loaded, preprocessing, machine, world)
        evidence = choose(config, source, loaded, left)
        config = config.model_copy(update={"regime": evidence.regime})
        loaded = with_head(config, loaded, 1)
        choices["regime"] = asdict(evidence)
        tell(said, [("evidence", line) for line in evidence.lines()])
    tell(said, describe_network(config, loaded, preprocessing, machine, world))  # before the network is divided
    config = settings.settle(config, len(dataset.rows("train")))
    if config.regime == "features":
        learner = from_embeddings(config, dataset, loaded, preprocessing, machine, world, said, left)
        assert learner.embedded is not None
        config = config.model_copy(update={"views": learner.embedded.views})
        tell(said, [("features", learner.embedded.note)])
    else:
        learner = from_pictures(config, dataset, loaded, preprocessing, machine, world, each)
    trainer: Trainer | Fit
    if config.head in CLOSED:
        trainer = make_fit(learner, loaded, dataset, folder, events, world)
    else:
        task = make_task(config, dataset, machine.device)
        pace = measure(learner, task, config)
        budget = None
        if config.time is not None:
            budget = Budget(
                seconds(config.time), time.monotonic() - began, pace, learner.validation, ending, report,
                len(learner.loader), config.epochs and config.epochs * len(learner.loader),
            )  # fmt: skip
            if not resumed:
                refuse_too_little(config, budget)
        trainer = Trainer(
            learner.network, task, learner.loader, learner.regime, learner.recipe, folder=folder,
            validate=learner.validate, events=events, world=world, budget=budget,
            identity=identity_of(config, dataset), names=dataset.files,
        )  # fmt: skip
        if config.find_lr and config.lr is None:
            rate, choices["rate"], why = look_for_rate(trainer, pace, budget)
            config = config.model_copy(update={"lr": rate})
            trainer.recipe, trainer.identity = replace(trainer.recipe, lr=rate), identity_of(config, dataset)
            tell(said, [("rate", f"{rate:g}: {why}")])
        tell(said, describe_length(config, pace, budget, len(learner.loader)))
    return Session(config, folder, dataset, loaded, preprocessing, machine, world, trainer, events, choices)


def tell(events: Events, notes: Iterable[tuple[str, str]]) -> None:
    for label, text in notes:
        events.emit("note", label=label, text=text)


def look_for_rate(trainer: Trainer, pace: Pace, budget: Budget | None) -> tuple[float, dict[str, Any], str]:
    """(the rate to train with, what was found, why): the usual one where none stands out, or the time is short."""
    usual = trainer.recipe.lr
    if budget is not None and RATE_STEPS * pace.first > RATE_SHARE * budget.left():
        short = f"the usual one, as {RATE_STEPS} steps to look for another would take over {RATE_SHARE:.0%} of the time"
        return usual, {}, short
    found = find_rate(trainer, steps=RATE_STEPS)
    if found.suggestion is None:
        return usual, asdict(found), f"the usual one, as {found.why}"
    return found.suggestion, asdict(found), found.why


def make_fit(learner: Learner, loaded: Loaded, dataset: Dataset, folder: Path, events: Events, world: World) -> Fit:
    """The head that is fitted at once to all views of all training pictures."""
    assert learner.embedded is not None
    features, labels, rows = stacked(learner.embedded, dataset.labels)
    return Fit(
        learner.network, classifier_of(loaded.network), features, labels, rows, learner.recipe, folder=folder,
        validate=learner.validate, events=events, world=world,
    )  # fmt: skip


def refuse_too_little(config: TrainConfig, budget: Budget) -> None:
    """UsageError where not even one step fits into the time."""
    if budget.is_over():
        least = budget.gone() + budget.ending + budget.validation + budget.pace.later
        raise UsageError(
            f"{config.time} are not enough: {duration(least)} go for reading the pictures, one step, the evaluation "
            "and the report", "give a longer --time, or --epochs instead",
        )  # fmt: skip


def identity_of(config: TrainConfig, dataset: Dataset) -> dict[str, Any]:
    """What a checkpoint must have been made with to be continued."""
    values = {name: value for name, value in config.model_dump().items() if name not in FREE}
    return values | {"classes": dataset.classes}


def is_out_of_memory(error: BaseException) -> bool:
    text = str(error)
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and ("not enough memory" in text or "can't allocate memory" in text)
    )


def measure(learner: Learner, task: Classification, config: TrainConfig) -> Pace:
    """Seconds of a batch at the start, and of one in which everything learns that will."""

    def seconds_in(epoch: int) -> float:
        bf16 = learner.recipe.bf16
        return seconds_per_batch(learner.network, task, learner.loader, learner.regime, epoch, bf16=bf16)

    start = seconds_in(0)
    if not isinstance(learner.regime, FineTune) or config.head_epochs == 0:
        return Pace(start, start)
    return Pace(start, seconds_in(LATE), config.head_epochs * len(learner.loader))


def open_data(config: TrainConfig, resize: int, channels: int | None, events: Events) -> Dataset:
    """`channels` None: grey where every picture is."""
    dataset = open_dataset(
        config.data, DecodeOptions(channels or 3, config.background, config.max_pixels, config.frames), resize=resize,
        val_fraction=config.val_fraction, test_fraction=config.test_fraction, seed=config.seed,
        threads=config.threads, max_excluded=config.max_excluded, strict=config.strict,
        follow_links=config.follow_links, allow_empty_classes=config.allow_empty_classes, group_by=config.group_by,
        on_progress=lambda done, total: events.emit("progress", what="scanning", done=done, total=total),
    )  # fmt: skip
    if config.fold is not None:
        dataset = divide(
            dataset, config.fold, config.folds, config.repeats,
            val_fraction=config.val_fraction, test_fraction=config.test_fraction,
        )  # fmt: skip
        events.emit("note", label="division", text=dataset.how_split)
    return dataset.with_channels(channels or (1 if dataset.grey else 3))
