"""The loop: it says when; the task says what a step is, the regime says what learns, listeners do the rest.

    run_started
      epoch_started       regime.enter: which parts learn from here on
        step_ended        forward, loss, backward; every `accumulate` batches the weights move
      epoch_ended         validation, best weights, plateau, early stopping, metrics.jsonl, checkpoint
    run_ended

A watcher is told before and after every move of the weights, and asked for a row at the start and now and then.

A run is a function of its settings and data. Every random number is keyed by (seed, epoch, batch), so a
run that was stopped anywhere and resumed from its checkpoint takes the same steps as one that was not.
Of several processes each takes its share of every batch; what they must agree on (the loss, a signal to
stop, a new plan) travels in one small message a step.
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neocog.core.contracts import Batch, Network, Step, Task
from neocog.core.errors import DivergedError, Interrupted
from neocog.core.events import Events
from neocog.core.files import write_atomic, write_json_lines
from neocog.core.seeding import one_seed
from neocog.training import state
from neocog.training.average import WeightAverage
from neocog.training.budget import Budget, Pace
from neocog.training.checkpoint import Checkpoints
from neocog.training.contracts import Loader, Recipe, Regime, Watcher
from neocog.training.exchange import Words, exchange
from neocog.training.optimizer import l1_norm, make_optimizer, parameter_groups
from neocog.training.progress import Progress
from neocog.training.synchronised import synchronise
from neocog.training.watched import FILE as WATCHED
from neocog.training.watched import add_row
from neocog.training.world import World, divide, together, whole

CHECKPOINT_SECONDS = 120.0  # longest stretch of work that a crash can cost


class Trainer:
    """`validate(network)` returns {"loss": ..., "accuracy": share} and more on the validation pictures, the accuracy
    only where the task has one, or None where there are none. Everything written lies inside `folder`. `identity`: what
    a checkpoint must have been made with to be continued. `names`: of the pictures by row, for messages."""

    def __init__(
        self, network: nn.Module, task: Task, loader: Loader, regime: Regime, recipe: Recipe, *,
        folder: Path, validate: Callable[[nn.Module], dict[str, float] | None], events: Events | None = None,
        world: World | None = None, budget: Budget | None = None, identity: Mapping[str, Any] | None = None,
        names: Sequence[str] = (), watcher: Watcher | None = None,
    ) -> None:  # fmt: skip
        self.network, self.task, self.loader, self.regime, self.recipe = network, task, loader, regime, recipe
        self.folder, self.validate, self.events = folder, validate, events or Events()
        self.world, self.budget = world or World(), budget
        self.identity, self.names, self.watcher = dict(identity or {}), names, watcher
        self.device = next(network.parameters()).device
        self.checkpoints = Checkpoints(folder)
        if self.world.size > 1 and recipe.sync_batch_norm:
            synchronise(network)
        divided = self.world.size > 1 and recipe.shard
        if divided:
            divide(network)
        groups = parameter_groups(regime.parts(network), recipe.weight_decay)
        self.optimizer = make_optimizer(recipe.optimizer, groups, recipe.lr, recipe.momentum, fused=not divided)
        self.average = WeightAverage(network, recipe.ema) if recipe.ema is not None else None
        self.progress = Progress(planned=(recipe.epochs or 0) * len(loader))
        self._together: tuple[list[bool], nn.Module] = [], network
        self.pace: Pace | None = None  # what was measured beforehand, for whoever says how long it will take
        self.replanned = False  # whether a restored run is to have another length than it was started with
        self._stop_signal = 0

    def stop(self, signal_number: int) -> None:
        """Asks the loop to finish the step it is in, save and leave with Interrupted."""
        self._stop_signal = signal_number

    def fit(self) -> dict[str, Tensor]:
        """Trains to the end and returns the best weights (by validation; the last ones without it), of all processes
        the same."""
        if self.budget is not None:
            over = self.progress.done > 0 and self.budget.is_over()
            self._plan(self.progress.done if over else self.budget.plan(self.progress.done))
        self.events.emit("run_started", progress=self.progress, batches=len(self.loader))
        if self.progress.done == 0:
            self._look()
        while not self.finished():
            self._epoch()
        # Once more: a run may have been killed when only its last state was written.
        self.world.alone(self._write_metrics)
        if self.watcher is not None:
            self.world.alone(lambda: write_json_lines(self.folder / WATCHED, self.progress.watched))
        self.events.emit("run_ended", progress=self.progress)
        return self._best_weights()

    def finished(self) -> bool:
        """All planned batches are done, or patience has run out."""
        impatient = self.recipe.patience is not None and self.progress.epochs_without_better >= self.recipe.patience
        # A run that was stopped at the very last step has yet to end its epoch.
        return impatient or (self.progress.done >= self.progress.planned > 0 == self.progress.batch)

    @property
    def epochs(self) -> float:
        """How long the run is planned to be."""
        return self.progress.planned / len(self.loader)

    def _plan(self, batches: int) -> None:
        self.progress.planned = int(self.world.agree(lambda: str(batches)))

    def _epoch(self) -> None:
        progress = self.progress
        self.events.emit("epoch_started", epoch=progress.epoch, epochs=math.ceil(self.epochs))
        self.regime.enter(self.network, progress.epoch)
        # Where the epoch began, also for a run that was stopped in its middle.
        over = (progress.done - progress.batch) / progress.planned
        self.task.schedule(over)
        if isinstance(self.network, Network):
            self.network.schedule(over)
        last_save = started = time.monotonic()
        if self.budget is not None:
            self.budget.begin(progress.done)
        first_seen = progress.seen
        for batch in self.loader.epoch(progress.epoch, progress.batch) if progress.done < progress.planned else ():
            words = self._step(batch, save=time.monotonic() - last_save > CHECKPOINT_SECONDS)
            now = time.monotonic()
            self.events.emit(
                "step_ended", epoch=progress.epoch, batch=progress.batch, batches=len(self.loader), loss=words.loss,
                mean_loss=progress.mean_loss, accuracy=progress.accuracy,
                rate=(progress.seen - first_seen) / (now - started), lr=progress.lr,
            )  # fmt: skip
            if progress.batch % self.recipe.accumulate and progress.batch < len(self.loader):
                continue  # gradients that are being added up are in no checkpoint
            if self.watcher and self.watcher.due(
                progress.batch - self.recipe.accumulate, progress.batch, len(self.loader)
            ):
                self._look()
            if words.signal or words.save:
                progress.seconds += now - last_save
                self._save()
                last_save = time.monotonic()
            if words.signal:
                raise Interrupted(
                    f"stopped in epoch {progress.epoch + 1} after {progress.batch} of {len(self.loader)} batches; "
                    "everything is saved", f"`neocog resume {self.folder}` continues", words.signal,
                )  # fmt: skip
            if progress.done >= progress.planned:
                break
        self._end_epoch(last_save, (progress.seen - first_seen) / max(time.monotonic() - started, 1e-9))

    def _step(self, batch: Batch, save: bool) -> Words:
        progress, recipe, world = self.progress, self.recipe, self.world
        # Dropout and the like: keyed, so that no generator state needs saving; another key for each process.
        purpose = "step" if world.first else f"step {world.rank}"
        torch.manual_seed(one_seed(recipe.seed, progress.epoch, progress.batch, purpose))
        with self.autocast():
            step = self.task.step(self._network(), batch, torch.default_generator)
        correct = self.task.correct(step.outputs.detach(), batch.targets)
        words = self._exchange(batch, step, None if correct is None else float(correct.sum()), save)
        if not math.isfinite(words.loss):
            self._diverged(f"the loss became {words.loss}", batch)
        loss = step.loss if world.size == 1 else step.loss * words.share
        if recipe.l1:
            loss = loss + recipe.l1 * whole(l1_norm(self.network.parameters()))
        # The last group of an epoch may be short; dividing by its real size keeps it a mean.
        first = progress.batch - progress.batch % recipe.accumulate
        group = min(recipe.accumulate, len(self.loader) - first)
        last = progress.batch + 1 == first + group
        with self._gradients(exchanged=last):
            (loss / group if group > 1 else loss).backward()  # type: ignore[no-untyped-call]
        if last:
            self._move(batch)
        progress.learned(words)
        return words

    def _exchange(self, batch: Batch, step: Step, correct: float | None, save: bool) -> Words:
        plan = 0
        if self.budget is not None and self.world.first:
            self.budget.took(self.progress.done)
            if self.budget.is_due():
                plan = self.budget.plan(self.progress.done)
        return exchange(
            self.world, step, weight=self.task.weight(batch), correct=correct, pictures=len(batch.indices),
            signal=self._stop_signal, plan=plan, save=save,
        )  # fmt: skip

    def _network(self) -> nn.Module:
        """The network as it is called in training: of several processes, the one that exchanges gradients."""
        if self.world.size == 1 or self.recipe.shard:
            return self.network
        learning = [parameter.requires_grad for parameter in self.network.parameters()]
        if self._together[0] != learning:
            self._together = learning, together(self.network)
        return self._together[1]

    def _gradients(self, exchanged: bool) -> AbstractContextManager[object]:
        network = self._together[1]
        if exchanged or self.world.size == 1 or not isinstance(network, nn.parallel.DistributedDataParallel):
            return nullcontext()
        return network.no_sync()

    def _move(self, batch: Batch) -> None:
        recipe, progress = self.recipe, self.progress
        at = (progress.done + 1) / len(self.loader)
        progress.lr = recipe.lr * replace(recipe.schedule, epochs=self.epochs).factor(at, progress.drops)
        rates = self._rates(progress.lr, at)
        for group in self.optimizer.param_groups:
            group["lr"] = rates[group["part"]]
        watcher = self.watcher if self.world.first else None
        if watcher is not None:
            watcher.before_step()  # the gradient as it is, before it is clipped
        if recipe.clip_norm is not None:
            norm = whole(nn.utils.clip_grad_norm_(self.network.parameters(), recipe.clip_norm))
            if not torch.isfinite(norm):
                self._diverged(f"the gradient's norm became {norm.item()}", batch)
        self.optimizer.step()
        if watcher is not None:
            watcher.after_step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(self.network)
        progress.steps += 1

    def _rates(self, rate: float, epoch: float) -> dict[str, float]:
        """What the schedule's rate comes to for each part."""
        parts = (group["part"] for group in self.optimizer.param_groups)
        return {part: rate * self.regime.rate(part, epoch) for part in parts}

    def _end_epoch(self, since: float, rate: float) -> None:
        progress = self.progress
        # "lr" is that of the schedule, the rates are what it came to for each part.
        row = progress.row() | {
            "images_per_second": rate, "rates": self._rates(progress.lr, progress.done / len(self.loader)),
        }  # fmt: skip
        ended = time.monotonic()
        if self.budget is not None:
            self.budget.took(progress.done)
        self._look()
        weights = self._weights()
        self._refuse_infinite(weights)
        learned = {name for name, _ in self.network.named_parameters()}
        # Batch norm's statistics are those of the first process.
        self.world.share(value for name, value in weights.items() if name not in learned)
        found = self._validate(weights)
        if found is not None:
            if not math.isfinite(found["loss"]):
                self._diverged(f"the validation loss became {found['loss']}", None)
            row |= {f"val_{key}": value for key, value in found.items()}
            schedule = self.recipe.schedule
            if progress.validated(found, schedule.step_epochs if schedule.name == "plateau" else None):
                entire = {name: whole(value) for name, value in weights.items()}
                progress.best_file = self.world.agree(lambda: self.checkpoints.save_best(progress.epoch, entire))
        progress.next_epoch(row)
        progress.seconds += time.monotonic() - since
        row["seconds"] = progress.seconds
        self._save()
        self.world.alone(self._write_metrics)
        better = progress.best_epoch == progress.epoch - 1
        self.events.emit("epoch_ended", row=row, epochs=math.ceil(self.epochs), better=better)
        if self.budget is not None and progress.done < progress.planned:
            self.budget.validated(time.monotonic() - ended)
            self._plan(self.budget.plan(progress.done) if not self.budget.is_over() else progress.done)
            if progress.done == progress.planned:
                self._save()  # the state says that this is the end

    def _write_metrics(self) -> None:
        write_json_lines(self.folder / "metrics.jsonl", self.progress.history)

    def _look(self) -> None:
        """One more row of what the first process's watcher sees; the others wait for it."""
        if (watcher := self.watcher) is not None:
            self.world.alone(lambda: add_row(watcher, self.progress, len(self.loader), self.folder))

    def _validate(self, weights: dict[str, Tensor]) -> dict[str, float] | None:
        if self.average is None:
            return self.validate(self.network)
        own = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(weights)
        try:
            return self.validate(self.network)
        finally:
            self.network.load_state_dict(own)

    def _weights(self) -> dict[str, Tensor]:
        """What is evaluated and kept: the average where there is one."""
        return self.average.values if self.average is not None else self.network.state_dict()

    def _best_weights(self) -> dict[str, Tensor]:
        best = {name: whole(value).clone() for name, value in self._weights().items()}
        if self.progress.best_file is not None:
            if self.world.first:
                for name, value in self.checkpoints.load_best(self.progress.best_file).items():
                    best[name].copy_(value)
            self.world.share(best.values())
        return best

    def _refuse_infinite(self, values: Mapping[str, Tensor]) -> None:
        """Before anything is kept: batch norm's statistics can go wrong while every loss is finite."""
        for name, value in values.items():
            if value.is_floating_point() and not bool(whole(value.isfinite().all())):
                self._diverged(f"{name} is no longer finite", None)

    def _diverged(self, what: str, batch: Batch | None) -> None:
        rows: list[int] = []
        if batch is not None:
            rows = [row for part in self.world.gather_rows(batch.indices.cpu()) for row in part.tolist()]
        facts = {
            "epoch": self.progress.epoch + 1, "batch": self.progress.batch + 1, "what": what, "rows": rows,
            "files": [self.names[row] for row in rows if row < len(self.names)],
        }  # fmt: skip
        self.world.alone(lambda: write_atomic(self.folder / "diverged.json", json.dumps(facts, indent=1)))
        self._look()  # how it came to that
        kept = "; the last checkpoint is finite" if self.checkpoints.exist() else ""
        raise DivergedError(
            f"{what} in epoch {self.progress.epoch + 1}, batch {self.progress.batch + 1} "
            f"(its pictures: {self.folder / 'diverged.json'}{kept})",
            f"train again with a smaller --lr than {self.recipe.lr:g}, a longer --warmup-epochs or --clip-norm 1",
        )

    def _save(self) -> None:
        if self.budget is not None:
            self.progress.spent = self.budget.gone()
        tensors = state.tensors_of(self.network, self.optimizer, self.average)
        self._refuse_infinite(tensors)
        if self.watcher is not None:  # what it counted may be infinite, and the run goes on
            tensors |= {f"watch/{name}": value for name, value in self.watcher.tensors().items()}
        facts = state.facts_of(self.progress, self.average, self.identity)
        self.world.alone(lambda: self.checkpoints.save(facts, tensors, self.progress.best_file))
        self.events.emit("checkpoint_written", path=self.checkpoints.pointer)

    def restore(self, *, fall_back: bool = False) -> str:
        """Continues where the folder's checkpoint stands, and returns what a person should know about it.
        ModelFileError where it is damaged, UsageError where it was made with other settings."""
        found = self.checkpoints.load(fall_back=fall_back)
        state.compare(found, self.identity, self.checkpoints.pointer)
        self.progress = state.restore(
            found, self.network, self.optimizer, self.average, self.checkpoints.pointer, self.watcher
        )
        if self.progress.best_file is not None:
            self.checkpoints.check(self.progress.best_file)  # before hours are spent
        if self.recipe.epochs is not None:
            planned = self.recipe.epochs * len(self.loader)
            self.replanned = planned != self.progress.planned
            self.progress.planned = planned
        return found.note

    def autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.bfloat16) if self.recipe.bf16 else nullcontext()
