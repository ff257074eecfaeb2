"""The loop: it says when; the task says what a step is, the regime says what learns, listeners do the rest.

    run_started
      epoch_started       regime.enter: which parts learn from here on
        step_ended        forward, loss, backward; every `accumulate` batches the weights move
      epoch_ended         validation, best weights, plateau, early stopping, metrics.jsonl, checkpoint
    run_ended

A run is a function of its settings and data. Every random number is keyed by (seed, epoch, batch), so a
run that was stopped anywhere and resumed from its checkpoint takes the same steps as one that was not.
"""

import json
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neocog.core.contracts import Batch, Network, Task
from neocog.core.errors import DivergedError, Interrupted, ModelFileError
from neocog.core.events import Events
from neocog.core.files import write_atomic
from neocog.core.seeding import one_seed
from neocog.training import checkpoint
from neocog.training.average import WeightAverage
from neocog.training.contracts import Loader, Progress, Recipe, Regime
from neocog.training.optimizer import l1_norm, make_optimizer, parameter_groups

CHECKPOINT_SECONDS = 120.0  # longest stretch of work that a crash can cost


class Trainer:
    """`validate(network)` returns {"loss": nats, "accuracy": share} on the validation pictures, or None
    where there are none. Everything written lies inside `folder`."""

    def __init__(
        self, network: nn.Module, task: Task, loader: Loader, regime: Regime, recipe: Recipe, *,
        folder: Path, validate: Callable[[nn.Module], dict[str, float] | None], events: Events | None = None,
    ) -> None:  # fmt: skip
        self.network, self.task, self.loader, self.regime, self.recipe = network, task, loader, regime, recipe
        self.folder, self.validate, self.events = folder, validate, events or Events()
        self.device = next(network.parameters()).device
        groups = parameter_groups(regime.parts(network), recipe.weight_decay)
        self.optimizer = make_optimizer(recipe.optimizer, groups, recipe.lr, recipe.momentum)
        self.average = WeightAverage(network, recipe.ema) if recipe.ema is not None else None
        self.progress = Progress()
        self._stop_signal = 0

    def stop(self, signal_number: int) -> None:
        """Asks the loop to finish the step it is in, save and leave with Interrupted."""
        self._stop_signal = signal_number

    def fit(self) -> dict[str, Tensor]:
        """Trains to the end and returns the best weights (by validation; the last ones without it)."""
        self.events.emit("run_started", progress=self.progress, batches=len(self.loader))
        while not self.finished():
            self._epoch()
        self.events.emit("run_ended", progress=self.progress)
        return self._best_weights()

    def finished(self) -> bool:
        """All epochs are done, or patience has run out."""
        impatient = self.recipe.patience is not None and self.progress.epochs_without_better >= self.recipe.patience
        return impatient or self.progress.epoch >= self.recipe.epochs

    def _epoch(self) -> None:
        progress = self.progress
        self.events.emit("epoch_started", epoch=progress.epoch, epochs=self.recipe.epochs)
        self.regime.enter(self.network, progress.epoch)
        if isinstance(self.network, Network):
            self.network.schedule(progress.epoch / self.recipe.epochs)
        last_save = started = time.monotonic()
        first_seen = progress.seen
        for batch in self.loader.epoch(progress.epoch, progress.batch):
            loss, correct = self._step(batch)
            progress.loss_sum += loss * len(batch.indices)
            progress.correct += correct
            progress.seen += len(batch.indices)
            progress.batch += 1
            now = time.monotonic()
            self.events.emit(
                "step_ended", epoch=progress.epoch, batch=progress.batch, batches=len(self.loader), loss=loss,
                mean_loss=progress.loss_sum / progress.seen, accuracy=progress.correct / progress.seen,
                rate=(progress.seen - first_seen) / (now - started), lr=self.optimizer.param_groups[0]["lr"],
            )  # fmt: skip
            moved = progress.batch % self.recipe.accumulate == 0
            if moved and (self._stop_signal or now - last_save > CHECKPOINT_SECONDS):
                progress.seconds += now - last_save
                self._save()
                last_save = time.monotonic()
                if self._stop_signal:
                    raise Interrupted(
                        f"stopped in epoch {progress.epoch + 1} after {progress.batch} of {len(self.loader)} batches; "
                        "everything is saved",
                        f"`neocog resume {self.folder}` continues", self._stop_signal,
                    )  # fmt: skip
        self._end_epoch(last_save, (progress.seen - first_seen) / max(time.monotonic() - started, 1e-9))

    def _step(self, batch: Batch) -> tuple[float, float]:
        progress, recipe = self.progress, self.recipe
        seed = one_seed(recipe.seed, progress.epoch, progress.batch, "step")
        torch.manual_seed(seed)  # dropout and the like: keyed, so that no generator state needs saving
        with self.autocast():
            step = self.task.step(self.network, batch, torch.default_generator)
        loss = step.loss
        if recipe.l1:
            loss = loss + recipe.l1 * l1_norm(self.network.parameters())
        value = loss.item()
        if not math.isfinite(value):
            self._diverged(f"the loss became {value}", batch)
        # The last group of an epoch may be short; dividing by its real size keeps it a mean.
        first = progress.batch - progress.batch % recipe.accumulate
        group = min(recipe.accumulate, len(self.loader) - first)
        (loss / group if group > 1 else loss).backward()  # type: ignore[no-untyped-call]
        if progress.batch + 1 == first + group:
            self._move(batch)
        correct = float(self.task.correct(step.outputs.detach(), batch.targets).sum())
        return step.loss.item() if recipe.l1 else value, correct

    def _move(self, batch: Batch) -> None:
        recipe, progress = self.recipe, self.progress
        at = progress.epoch + (progress.batch + 1) / len(self.loader)
        lr = recipe.lr * recipe.schedule.factor(at, progress.drops)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * self.regime.rate(group["part"], at)
        if recipe.clip_norm is not None:
            norm = nn.utils.clip_grad_norm_(self.network.parameters(), recipe.clip_norm)
            if not torch.isfinite(norm):
                self._diverged(f"the gradient's norm became {norm.item()}", batch)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(self.network)
        progress.steps += 1

    def _end_epoch(self, since: float, rate: float) -> None:
        progress = self.progress
        row: dict[str, Any] = {
            "epoch": progress.epoch + 1, "steps": progress.steps, "lr": self.optimizer.param_groups[0]["lr"],
            "train_loss": progress.loss_sum / progress.seen, "train_accuracy": progress.correct / progress.seen,
            "images_per_second": rate,
        }  # fmt: skip
        weights = self._weights()
        if not all(bool(v.isfinite().all()) for v in weights.values() if v.is_floating_point()):
            self._diverged("the weights are no longer finite", None)
        found = self._validate(weights)
        if found is not None:
            if not math.isfinite(found["loss"]):
                self._diverged(f"the validation loss became {found['loss']}", None)
            row |= {f"val_{key}": value for key, value in found.items()}
            self._compare(found, weights)
        progress.history.append(row)
        progress.epoch, progress.batch = progress.epoch + 1, 0
        progress.loss_sum = progress.correct = 0.0
        progress.seen = 0
        progress.seconds += time.monotonic() - since
        row["seconds"] = progress.seconds
        self._save()
        lines = (json.dumps(row, allow_nan=False) for row in progress.history)
        write_atomic(self.folder / "metrics.jsonl", "".join(line + "\n" for line in lines))
        better = progress.best_epoch == progress.epoch - 1
        self.events.emit("epoch_ended", row=row, epochs=self.recipe.epochs, better=better)

    def _validate(self, weights: dict[str, Tensor]) -> dict[str, float] | None:
        if self.average is None:
            return self.validate(self.network)
        own = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(weights)
        try:
            return self.validate(self.network)
        finally:
            self.network.load_state_dict(own)

    def _compare(self, found: dict[str, float], weights: dict[str, Tensor]) -> None:
        """Best weights by accuracy, ties by loss; patience and plateau by loss, which moves more finely."""
        progress = self.progress
        score = (found["accuracy"], -found["loss"])
        if score > tuple(progress.best_score):
            progress.best_score, progress.best_epoch = score, progress.epoch
            checkpoint.save(self.folder / _best_name(progress.epoch), weights)
        if found["loss"] < progress.lowest_loss:
            progress.lowest_loss = found["loss"]
            progress.epochs_without_better = progress.since_drop = 0
            return
        progress.epochs_without_better += 1
        progress.since_drop += 1
        if self.recipe.schedule.name == "plateau" and progress.since_drop >= self.recipe.schedule.step_epochs:
            progress.drops += 1
            progress.since_drop = 0

    def _weights(self) -> dict[str, Tensor]:
        """What is evaluated and kept: the average where there is one."""
        return self.average.values if self.average is not None else self.network.state_dict()

    def _best_weights(self) -> dict[str, Tensor]:
        if self.progress.best_epoch < 0:
            return {name: value.clone() for name, value in self._weights().items()}
        return checkpoint.load(self.folder / _best_name(self.progress.best_epoch))

    def _diverged(self, what: str, batch: Batch | None) -> None:
        rows = [] if batch is None else batch.indices.tolist()
        facts = {"epoch": self.progress.epoch + 1, "batch": self.progress.batch + 1, "what": what, "rows": rows}
        write_atomic(self.folder / "diverged.json", json.dumps(facts))
        raise DivergedError(
            f"{what} in epoch {self.progress.epoch + 1}, batch {self.progress.batch + 1} "
            f"(its pictures: {self.folder / 'diverged.json'})",
            f"train again with a smaller --lr than {self.recipe.lr:g}, a longer --warmup-epochs or --clip-norm 1",
        )

    def _save(self) -> None:
        state = {
            "progress": asdict(self.progress), "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
        }  # fmt: skip
        checkpoint.save(self.folder / checkpoint.NAME, state)
        # Only now is an older best file superfluous: until the rename, the old checkpoint named it.
        for old in self.folder.glob("best-*.pt"):
            if old.name != _best_name(self.progress.best_epoch):
                old.unlink()
        self.events.emit("checkpoint_written", path=self.folder / checkpoint.NAME)

    def restore(self) -> None:
        """Continues where the folder's checkpoint stands. ModelFileError where it does not fit the network."""
        path = self.folder / checkpoint.NAME
        state = checkpoint.load(path)
        try:
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            self.progress = Progress(**state["progress"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ModelFileError(
                f"{path} does not fit this run's network ({str(error).splitlines()[0][:120]})",
                "resume with the settings the run was started with",
            ) from None

    def autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.bfloat16) if self.recipe.bf16 else nullcontext()


def _best_name(epoch: int) -> str:
    return f"best-{epoch:05d}.pt"
