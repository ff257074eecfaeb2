"""From settings to a session: the data are opened, every open setting is decided, the network and what trains it are
built. Nothing is written."""

import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from neocog.app import reconstructing, selecting, settings
from neocog.app.announcing import describe_data, describe_length, describe_network, duration
from neocog.app.building import (
    EVALUATION_BATCH,
    build_network,
    choose_loss,
    choose_preprocessing,
    evaluation_loader,
    make_task,
    with_head,
)
from neocog.app.choosing import choose
from neocog.app.costing import LATE
from neocog.app.embedding import embedder, stacked
from neocog.app.learning import PROBED, Learner, from_embeddings, from_pictures
from neocog.app.machine import choose_machine
from neocog.app.processes import threads_of
from neocog.app.session import Session
from neocog.app.watching import GRIDS, Watching, points_within, rows_per_epoch
from neocog.app.zoo import Loaded, preprocessing_of
from neocog.core.config import TrainConfig, seconds, validate
from neocog.core.contracts import Task
from neocog.core.errors import UsageError
from neocog.core.events import Events
from neocog.core.head import CLOSED
from neocog.core.registry import lookup
from neocog.core.spec import Preprocessing
from neocog.data.dataset import Dataset, open_dataset
from neocog.data.decode import DecodeOptions
from neocog.data.folds import divide
from neocog.training.budget import Budget, Pace
from neocog.training.loop import Trainer
from neocog.training.rates import find_rate
from neocog.training.timing import seconds_per_batch, seconds_per_evaluation
from neocog.training.world import World
from neocog.transfer.fit import Fit
from neocog.transfer.regimes import FineTune, classifier_of

REPORT_SECONDS = 2.0  # for the bundle and the page
CELL_SECONDS = 1e-6  # for a number of predictions.csv
SEEN = 256  # pixels of the short side by which networks are compared
RATE_STEPS, RATE_SHARE = 100, 0.2  # of the search for a rate, and of a time budget that it may take
# Settings that change no weight, or that a run may have other ones of when it goes on.
FREE = frozenset(
    ("data", "epochs", "time", "threads", "device", "precision", "layout", "shard", "patience", "max_excluded",
     "strict", "allow_empty_classes")
)  # fmt: skip
PROBES = PROBED // EVALUATION_BATCH
STEP_SECONDS = 1e-3  # of a step beside the network, which counts where only a head learns


def prepare(
    config: TrainConfig, folder: Path, events: Events, world: World | None = None, *, spent: float = 0.0,
    resumed: bool = False,
) -> Session:  # fmt: skip
    """`spent`: seconds of a time budget that are gone. `resumed`: there is something to evaluate even where none is
    left."""
    made = Preparation(config, events, world or World(), time.monotonic() - spent)
    made.choose_model()
    made.open()
    made.choose_regime()
    learner = made.make_learner()
    trainer = made.make_fit(learner, folder) if config.head in CLOSED else made.make_trainer(learner, folder, resumed)
    validate(made.config.model_dump(exclude_none=True), "what was decided")  # or nobody could open the run
    return Session(
        made.config, folder, made.dataset, made.loaded, made.preprocessing, made.machine, made.world, trainer, events,
        made.choices, made.watching,
    )  # fmt: skip


class Preparation:
    """What is known so far. The methods are called in the order in which they stand."""

    dataset: Dataset
    loaded: Loaded
    preprocessing: Preprocessing
    watching: Watching | None = None

    def __init__(self, config: TrainConfig, events: Events, world: World, began: float) -> None:
        self.config = choose_task(config).model_copy(update={"threads": threads_of(config.threads, world)})
        self.events, self.world, self.began = events, world, began
        self.said = events if world.first else Events()  # of several processes the first one speaks
        self.machine = choose_machine(config)
        self.choices: dict[str, Any] = {}
        self.each = self.ending = self.report = 0.0  # seconds: of an evaluation batch, of all of them, of the report
        self.points = GRIDS[0]  # of a side of the surface of a watched run

    def tell(self, notes: Iterable[tuple[str, str]]) -> None:
        for label, text in notes:
            self.said.emit("note", label=label, text=text)

    def update(self, **values: Any) -> None:
        self.config = self.config.model_copy(update=values)

    def left(self) -> float | None:
        """Seconds of a time budget for training and what must come before it."""
        if self.config.time is None:
            return None
        return seconds(self.config.time) - (time.monotonic() - self.began) - self.ending - self.report

    def choose_model(self) -> None:
        config = self.config
        if config.model == selecting.AUTO:
            selecting.check(config)
            some = open_data(config, config.image_size or SEEN, config.bands or 3, self.events)
            self.config, self.choices["models"] = selecting.select(
                config, some, self.machine, self.world, self.said, self.left()
            )

    def open(self) -> None:
        """The pictures, and the network that is to learn from them."""
        config = self.config
        entry = lookup(config.model)
        own = preprocessing_of(entry, config.weights) if config.weights else None
        channels, side = settings.channels(config, own), settings.largest_side(config, entry.spec, own)
        data = self.dataset = open_data(config, side, channels, self.events)
        if len(data.rows("val")) + len(data.rows("test")) == 0:
            raise UsageError("no picture is kept from training, so nothing could be said about the result",
                             "give --test-fraction or --val-fraction more than 0")  # fmt: skip
        resize, size = settings.decide_size(config, entry.spec, own, data.equal_size)
        config = settings.decide(config, data.channels, size, len(data.rows("train")))
        self.loaded = build_network(config, data, size)
        self.config = choose_loss(config, self.loaded.network)
        reconstructing.refuse_several(self.config, self.world)
        self.machine.place(self.loaded.network)
        self.preprocessing = choose_preprocessing(own, resize, size, data, config.task)
        self.tell(describe_data(data))
        self.report = REPORT_SECONDS + CELL_SECONDS * len(data) * len(data.classes)
        if config.task == "reconstruction":
            self.report += reconstructing.BASELINE_SECONDS
        if config.time is not None:
            rows = np.concatenate([data.rows("val"), data.rows("test")])
            kept = evaluation_loader(data, rows, self.preprocessing, self.machine, self.config.threads, self.world)
            self.each = seconds_per_evaluation(self.loaded.network, kept, bf16=self.machine.bf16)
            self.ending = self.each * kept.rounds
            if config.watch:
                self.points = points_within(self.each, seconds(config.time))
                self.ending += self.points**2 * self.each

    def choose_regime(self) -> None:
        config, data = self.config, self.dataset
        if config.regime == "auto" and not len(self.loaded.network.stages):
            self.update(regime="full")  # there is nothing to freeze
        elif config.regime == "auto":
            source = embedder(config, data, self.loaded, self.preprocessing, self.machine, self.world)
            evidence = choose(config, source, self.loaded, self.left())
            self.update(regime=evidence.regime)
            self.loaded = with_head(self.config, self.loaded, 1)
            self.choices["regime"] = asdict(evidence)
            self.tell(("evidence", line) for line in evidence.lines())
        self.config = settings.settle(self.config, len(data.rows("train")))
        # Now, because it may soon be divided between processes.
        self.tell(describe_network(self.config, self.loaded, self.preprocessing, self.machine, self.world))
        if self.config.task == "reconstruction":
            self.tell(reconstructing.describe(self.loaded, self.preprocessing))

    def make_learner(self) -> Learner:
        parts = self.config, self.dataset, self.loaded, self.preprocessing, self.machine, self.world
        if self.config.task == "reconstruction":
            return reconstructing.learner(*parts, self.each)
        if self.config.regime != "features":
            return from_pictures(*parts, self.each)
        learner = from_embeddings(*parts, self.said, self.left())
        assert learner.embedded is not None
        self.update(views=learner.embedded.views)
        self.tell([("features", learner.embedded.note)])
        return learner

    def make_fit(self, learner: Learner, folder: Path) -> Fit:
        """The head that is fitted at once to all views of all training pictures."""
        assert learner.embedded is not None
        features, labels, rows = stacked(learner.embedded, self.dataset.labels)
        return Fit(
            learner.network, classifier_of(self.loaded.network), features, labels, rows, learner.recipe,
            folder=folder, validate=learner.validate, events=self.events, world=self.world,
        )  # fmt: skip

    def make_trainer(self, learner: Learner, folder: Path, resumed: bool) -> Trainer:
        config, batches = self.config, len(learner.loader)
        task = make_task(config, self.dataset, self.preprocessing, self.machine.device)
        pace, budget = measure(learner, task, config), None
        if config.time is not None:
            # The steps of a head say nothing about how fast the whole network will be in the end.
            validation = learner.validation + (PROBES * self.each if config.watch else 0.0)
            slower, fixed = (0.0, self.ending) if learner.embedded else (self.ending, 0.0)
            budget = Budget(
                seconds(config.time), time.monotonic() - self.began, pace, validation, slower,
                self.report + fixed, batches, config.epochs and config.epochs * batches,
            )  # fmt: skip
            if not resumed:
                refuse_too_little(config, budget)
        if config.watch:
            planned = budget.plan(0) if budget is not None else (config.epochs or 1) * batches
            length = int(self.world.agree(lambda: str(planned))) / batches  # each process has measured its own
            self.watching = Watching(
                learner.network, learner.probe(), points=self.points, seed=config.seed,
                per_epoch=rows_per_epoch(length, batches, config.batch),
            )  # fmt: skip
            alone = "the head alone, as nothing else learns: " if learner.embedded else ""
            self.tell([("watch", alone + self.watching.words())])
        trainer = Trainer(
            learner.network, task, learner.loader, learner.regime, learner.recipe, folder=folder,
            validate=learner.validate, events=self.events, world=self.world, budget=budget,
            identity=identity_of(config, self.dataset, learner), names=self.dataset.files,
            watcher=self.watching,
        )  # fmt: skip
        trainer.pace = pace
        if config.find_lr and config.lr is None:
            rate, self.choices["rate"], why = look_for_rate(trainer, pace, budget)
            self.update(lr=rate)
            trainer.recipe = replace(trainer.recipe, lr=rate)
            trainer.identity = identity_of(self.config, self.dataset, learner)
            self.tell([("rate", f"{rate:g}: {why}")])
        after = learner.validation if learner.embedded else 0.0
        self.tell(describe_length(self.config, pace, budget, batches, after))
        return trainer


def choose_task(config: TrainConfig) -> TrainConfig:
    """The settings with the task that the network is for where it is `auto`. UsageError where it cannot do the one
    asked for, or other settings do not go with it."""
    own = "classification" if config.model == selecting.AUTO else lookup(config.model).spec.task
    if config.task == "reconstruction" and own != "reconstruction":
        encoder = "" if config.model == selecting.AUTO else f" --knob encoder={config.model}"
        raise UsageError(f"{config.model} is no autoencoder", f"use --model conv_ae{encoder}")
    chosen = config.model_copy(update={"task": own if config.task == "auto" else config.task})
    return validate(chosen.model_dump(exclude_none=True), f"task {chosen.task}")


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


def measure(learner: Learner, task: Task, config: TrainConfig) -> Pace:
    """Seconds of a batch at the start, and of one in which everything learns that will."""

    def seconds_in(epoch: int) -> float:
        bf16 = learner.recipe.bf16
        return seconds_per_batch(learner.network, task, learner.loader, learner.regime, epoch, bf16=bf16)

    start = seconds_in(0) + (STEP_SECONDS if learner.embedded else 0.0)
    if not isinstance(learner.regime, FineTune) or config.head_epochs == 0:
        return Pace(start, start)
    return Pace(start, seconds_in(LATE), config.head_epochs * len(learner.loader))


def refuse_too_little(config: TrainConfig, budget: Budget) -> None:
    """UsageError where not even one step fits into the time."""
    if budget.is_over():
        least = budget.gone() + budget.ending + budget.validation + budget.pace.later
        raise UsageError(
            f"{config.time} are not enough: {duration(least)} go for reading the pictures, one step, the evaluation "
            "and the report", "give a longer --time, or --epochs instead",
        )  # fmt: skip


def identity_of(config: TrainConfig, dataset: Dataset, learner: Learner) -> dict[str, Any]:
    """What a checkpoint must have been made with to be continued."""
    values = {name: value for name, value in config.model_dump().items() if name not in FREE}
    if not config.watch:
        del values["watch"]  # runs of a version that had no such setting go on
    # A head's checkpoint does not hold the network whose embeddings it learned from.
    backbone = {"backbone": learner.embedded.weights} if learner.embedded is not None else {}
    return values | {"classes": dataset.classes} | backbone


def open_data(config: TrainConfig, resize: int, channels: int | None, events: Events) -> Dataset:
    """`channels` None: grey where every picture is."""
    dataset = open_dataset(
        config.data, DecodeOptions(channels or 3, config.background, config.max_pixels, config.frames), resize=resize,
        val_fraction=config.val_fraction, test_fraction=config.test_fraction, seed=config.seed,
        threads=config.threads, max_excluded=config.max_excluded, strict=config.strict,
        follow_links=config.follow_links, allow_empty_classes=config.allow_empty_classes,
        unlabelled=config.task == "reconstruction", group_by=config.group_by,
        on_progress=lambda done, total: events.emit("progress", what="scanning", done=done, total=total),
    )  # fmt: skip
    if config.fold is not None:
        dataset = divide(
            dataset, config.fold, config.folds, config.repeats,
            val_fraction=config.val_fraction, test_fraction=config.test_fraction,
        )  # fmt: skip
        events.emit("note", label="division", text=dataset.how_split)
    return dataset.with_channels(channels or (1 if dataset.grey else 3))
