"""One run, decided and built, then carried out: train, evaluate, keep, report."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import neocog
from neocog.app import reconstructing, records
from neocog.app.announcing import describe_answers, rounded, size
from neocog.app.building import build_network, evaluation_loader
from neocog.app.costing import StepMemory
from neocog.app.machine import Machine, available_memory
from neocog.app.processes import predict_together
from neocog.app.reporting import write_report
from neocog.app.run import Run
from neocog.app.watching import Watching
from neocog.app.zoo import Loaded
from neocog.core.config import TrainConfig
from neocog.core.contracts import Network
from neocog.core.errors import ResourceError
from neocog.core.events import Events
from neocog.core.files import sha256_of
from neocog.core.registry import lookup
from neocog.core.spec import Preprocessing
from neocog.data.dataset import Dataset
from neocog.evaluate import Predictions, summarise
from neocog.export.bundle import ModelCard, write_bundle
from neocog.training.loop import Trainer
from neocog.training.world import World, like
from neocog.transfer.fit import Fit


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
    watching: Watching | None = None

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
        if (watching := self.watching) is not None:
            self.world.alone(lambda: watching.write_surface(self.folder, self.events))
        if self.config.task == "reconstruction":
            outcome = reconstructing.evaluate(self)
            self.world.alone(lambda: self.keep(record, best, lambda: reconstructing.keep(self, record, outcome)))
            return
        predictions = self.evaluate(self.loaded.network)
        self.world.alone(lambda: self.keep(record, best, lambda: self.keep_predictions(record, predictions)))

    def keep(
        self, record: records.Record, best: dict[str, torch.Tensor], results: Callable[[], None]
    ) -> None:  # fmt: skip
        """Writes what the run is remembered by; `results` writes what came out, and the report."""
        if self.config.shard and self.world.size > 1:
            undivided = build_network(self.config, self.dataset, self.preprocessing.size)
            undivided.network.load_state_dict(best)
            self.machine.place(undivided.network)
            self.loaded = undivided
        write_bundle(self.folder / "model", self.loaded.network.state_dict(), self.card())
        record.weights = sha256_of(self.folder / "model" / "model.safetensors")
        results()
        record.get_up("finished", 0)  # last: what is not finished can be resumed
        record.write(self.folder)

    def keep_predictions(self, record: records.Record, predictions: Predictions) -> None:
        predictions.write(self.folder / "predictions.csv")
        record.results = {name: summarise(predictions.of(name)) for name in dict.fromkeys(predictions.split)}
        for text in describe_answers(predictions):
            self.events.emit("note", label="warning", text=text)
        write_report(self, record)

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
            f"the memory does not suffice for steps of {self.config.batch} pictures ({size(free)} {where})",
            f"{advice}; what the last checkpoint holds is kept",
        )

    def card(self) -> ModelCard:
        task = self.config.task
        assert task != "auto"
        story = {"regime": self.config.regime, "seed": self.config.seed, "data": self.dataset.name}
        return ModelCard(
            model=lookup(self.config.model).spec.name, task=task, knobs=self.loaded.knobs,
            classes=self.dataset.classes, in_channels=self.loaded.network.in_channels,
            background=self.config.background, preprocessing=self.preprocessing, head=self.loaded.head,
            provenance=story | self.loaded.provenance, written_by=neocog.__version__,
        )  # fmt: skip

    def note(self, label: str, text: str) -> None:
        self.events.emit("note", label=label, text=text)


def is_out_of_memory(error: BaseException) -> bool:
    text = str(error)
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and ("not enough memory" in text or "can't allocate memory" in text)
    )
