"""The rungs of a comparison, one after the other, within its time: each candidate's next stretch, then who stays.

Ending in time comes first. A candidate that is slower than it was measured is paused after an epoch when its share is
used up, but may take from what is kept for those that need not get on: with less time fewer stay. Only when two are
left does a lack of time shorten what they learn, and that is said.
"""

from collections.abc import Sequence
from dataclasses import asdict
from math import ceil
from pathlib import Path
from typing import Any

from neocog.app import records
from neocog.app.announcing import duration
from neocog.app.compare_folder import Row, State
from neocog.app.compare_plan import FINALISTS, Plan, dearest, least, make_plan, ranked, stretch
from neocog.app.compare_run import LEEWAY, Clock, Limit, Stretch, facts_of, measure, train_until
from neocog.app.folding import quieter
from neocog.app.machine import choose_machine
from neocog.app.session import is_out_of_memory
from neocog.core.config import TrainConfig, seconds
from neocog.core.errors import DataError, Interrupted, ModelFileError, NeocogError, ResourceError, UsageError
from neocog.core.events import Events
from neocog.core.head import CLOSED

AFTERWARDS = 1.5  # seconds for each candidate's row of the table, most of it the measurement of its latency
BEAT = 10.0  # seconds between two notes of how much time is gone


class Comparing:
    """`config`: the settings that all candidates share. `gone()`: seconds of the budget that are over."""

    def __init__(
        self, folder: Path, config: TrainConfig, state: State, events: Events, *, time: str | None, clock: Clock,
        fall_back: bool,
    ) -> None:  # fmt: skip
        self.folder, self.config, self.state, self.events = folder, config, state, events
        self.time, self.clock, self.fall_back = time, clock, fall_back
        self.total = None if time is None else seconds(time)
        self._began = clock() - state.seconds
        self._heard: set[str] = set()
        self._beat = clock()
        self._taken = self._expected = 0.0  # seconds of the stretches so far, and as they were planned

    def gone(self) -> float:
        return self.clock() - self._began

    def left(self) -> float:
        """Seconds for the candidates; what comes after them is kept."""
        assert self.total is not None
        return self.total - self.gone() - AFTERWARDS * len(self.state.rows)

    def write(self) -> None:
        self.state.seconds = self.gone()
        self.state.write(self.folder)

    def say(self, label: str, text: str) -> None:
        self.events.emit("note", label=label, text=text)

    def warn(self, text: str) -> None:
        self.state.notes.append(text)
        self.say("warning", text)

    # The plan

    def plan(self) -> None:
        """Measures every candidate and decides how far each is trained. UsageError where the time is not enough for
        one epoch of each; the first candidate's own error where none can be trained."""
        rows, errors = self.state.rows, []
        if self.total is None:
            self.state.sizes = [len(rows)]
            return
        for number, row in enumerate(rows):
            self.events.emit("progress", what="measuring", done=number + 1, total=len(rows))
            try:
                share = max(self.left(), 1e-3) / len(rows)
                measured, facts = measure(row.config(self.config), self.folder / row.name, self.total, share)
            except BaseException as error:
                errors.append(self._failed(row, error))
                continue
            row.measured = asdict(measured)
            row.params, row.macs, row.memory, row.settings = (
                facts[key] for key in ("params", "macs", "memory", "settings")
            )
            row.regime = row.settings.get("regime", row.regime)
            if "note" in facts:
                self.state.facts[row.name] = facts["note"]
                self.say("candidate", f"{row.name}: {facts['note']}")
        living = [row for row in rows if row.alive]
        if not living:
            raise errors[0]
        paces = [row.pace for row in living]
        left = self.left()
        found = make_plan(paces, left, self.config.epochs)
        if found is None:
            enough = ceil(self.total - left + least(paces))
            candidates = f"{len(living)} candidates" if len(living) > 1 else "1 candidate"
            raise UsageError(
                f"{self.time} is not enough for {candidates}: at least {enough} s would do", f"give --time {enough}s"
            )
        self._adopt(found, living)

    def _adopt(self, found: Plan, living: Sequence[Row]) -> None:
        self.state.sizes, self.state.shares = found.sizes, found.seconds
        for row, targets in zip(living, found.targets, strict=True):
            row.targets = targets
            if not row.pace.epochs_at_once:
                row.settings["epochs"] = targets[-1]
        self.say("plan", f"{len(living)} candidates in {duration(self.total or 0)}, of which "
                         f"{duration(self.gone())} are gone; rungs of "
                         + ", then ".join(f"{size} x {duration(share)}"
                                          for size, share in zip(found.sizes, found.seconds, strict=True)))  # fmt: skip
        for row in living:
            steps = ", then ".join(f"{target}" for target in dict.fromkeys(row.targets))
            self.say("candidate", f"{title(row)}: {epochs(steps)} of {row.planned} planned; {row.params:,} parameters")
            if row.regime in ("partial", "full", "gradual") and row.planned <= self.config.head_epochs:
                self.warn(f"{title(row)}: the time is enough for its new classifier only")

    # The rungs

    def run(self) -> None:
        """All that has not been done. Errors of a candidate end up in its row; Interrupted goes on to the caller."""
        state = self.state
        while state.rung < len(state.sizes):
            alive = [row for row in state.rows if row.alive]
            for row in alive:
                if len(row.rungs) <= state.rung:
                    self._stretch(row, [other for other in alive if other.alive and len(other.rungs) <= state.rung])
            if state.rung + 1 == len(state.sizes):
                self._use_the_rest()
            self._halve()
        if not any(row.alive for row in state.rows):
            self.write()
            first = next(row for row in state.rows if row.state == "failed")
            kind = {3: DataError, 6: ResourceError}.get(first.error_code, UsageError)
            raise kind(f"no candidate could be trained; {first.name}: {first.error}", f"see {self.folder}/compare.json")

    def _stretch(self, row: Row, waiting: Sequence[Row]) -> None:
        """One candidate in this rung; `waiting`: it and the others that have still to come."""
        state, rung = self.state, self.state.rung
        target = row.targets[rung] if row.targets else None
        if row.state == "finished" or (target is not None and row.epochs >= target):
            row.rungs.append(row.rungs[-1] | {"seconds": 0.0})
            return
        own = quieter(self.events, self._heard, whole=False)
        own.on("step_ended", self._on_beat)
        own.on("epoch_ended", self._on_beat)
        limit, began = self._limit(row, waiting), self.clock()
        try:
            found = train_until(
                row.config(self.config), self.folder / row.name, target, own, name=row.name, command=state.command,
                limit=limit, fall_back=self.fall_back, clock=self.clock,
            )  # fmt: skip
            self._note(row, found, self.clock() - began)
        except BaseException as error:
            self._failed(row, error)
        finally:
            self.write()

    def _use_the_rest(self) -> None:
        """Time that the others left goes to those that were paused for the lack of it, the best first."""
        if self.total is None:  # nobody was paused
            return
        paused = [row for row in self.state.rows if row.alive and row.state == "paused"]
        for place in ranked([standing(row) for row in paused]):
            row, rung = paused[place], self.state.rung
            done = int(row.epochs)
            if done < row.targets[rung] and self._slower() * stretch(row.pace, done, done + 1) < self.left():
                before = row.rungs.pop()
                self._stretch(row, [row])
                if row.alive:
                    row.rungs[-1]["seconds"] += before["seconds"]
                else:
                    row.rungs.append(before)

    def _on_beat(self, **_: Any) -> None:
        if self.clock() - self._beat > BEAT:
            self._beat = self.clock()
            self.write()

    def _limit(self, row: Row, waiting: Sequence[Row]) -> Limit | None:
        """The candidate's share of what is left, if afterwards only two go on."""
        if self.total is None:
            return None
        rung, left = self.state.rung, self.left()
        slower = self._slower()
        costs = {one.name: slower * stretch(one.pace, int(one.epochs), one.targets[rung]) for one in waiting}
        own = costs.pop(row.name)
        others = sum(costs.values())
        alive = [one for one in self.state.rows if one.alive]
        others += slower * self._need(alive, [min(FINALISTS, size) for size in self.state.sizes], rung + 1)
        share, ending = left * own / max(own + others, 1e-9), slower * row.pace.ending
        now = self.clock()
        return Limit(now + share - ending, now + min(LEEWAY * share, left) - ending)

    def _slower(self) -> float:
        """Seconds as they are, by those that were planned."""
        return max(1.0, self._taken / self._expected) if self._expected else 1.0

    def _need(self, rows: Sequence[Row], sizes: Sequence[int], rung: int) -> float:
        """Seconds from `rung` on, as they were planned."""
        return dearest([row.pace for row in rows], [row.targets for row in rows], sizes, rung)

    def _is_too_much(self, rows: Sequence[Row]) -> bool:
        """There is no time to go on with all of these."""
        if self.total is None:
            return False
        return self._slower() * self._need(rows, self.state.sizes, self.state.rung + 1) > self.left()

    def _note(self, row: Row, found: Stretch, took: float) -> None:
        """What a stretch says of its candidate."""
        state, run, last = self.state, found.run, found.history[-1]
        manifest = records.manifest_of(run.folder)
        if state.manifest not in ("", manifest):
            raise DataError(
                f"{row.name} was split in another way: the pictures changed", "compare anew, with another --out"
            )
        state.manifest = manifest
        if row.measured is not None:
            first, last_one = int(row.epochs), ceil(found.epochs)
            share = (found.epochs - row.epochs) / max(last_one - first, 1)  # it may have been stopped within an epoch
            self._taken += took
            self._expected += row.pace.setup + share * row.pace.seconds(first, last_one) + row.pace.ending
        else:
            size, machine = run.card.preprocessing.size, choose_machine(run.config)
            facts = facts_of(run.network(), size, run.config, machine)
            row.params, row.macs, row.memory = (facts[key] for key in ("params", "macs", "memory"))
            row.regime = run.config.regime
            row.targets = [1 if run.config.head in CLOSED else run.config.epochs or 1]
        row.epochs = found.epochs
        row.seconds = max(last["seconds"], 0.0) + found.embedding
        if row.regime == "features" and not found.embedding:
            row.note = "its embeddings were at hand, so its seconds leave them out"
        kept = run.metrics("val")
        row.val, row.val_loss = kept["top1"], kept["nll"]
        if run.has("test"):
            numbers = run.metrics("test")
            row.test, row.test_interval, row.test_pictures = (
                numbers[key] for key in ("top1", "top1_interval", "pictures")
            )
        row.state = "paused" if found.paused else "finished"
        row.rungs.append({"epochs": found.epochs, "seconds": took, "val_accuracy": last["val_accuracy"],
                          "val_loss": last["val_loss"]})  # fmt: skip
        self.say(f"rung {state.rung + 1}", f"{title(row)}  val {last['val_accuracy']:.4f}  "
                 f"{row.epochs:.1f} of {row.planned} epochs  {duration(took)}")  # fmt: skip
        if row.state == "finished" and row.note.startswith("slower"):
            row.note = ""  # it caught up
        if found.cut:
            row.note = f"slower than measured: paused after {row.epochs:.1f} epochs in rung {state.rung + 1}"
            self.say("warning", f"{title(row)}: {row.note}")

    def _halve(self) -> None:
        """Who goes on: the better half by validation accuracy, or fewer where the time has run short."""
        state = self.state
        alive = [row for row in state.rows if row.alive]
        order = [alive[i] for i in ranked([standing(row) for row in alive])]
        if all(row.state == "finished" for row in alive):  # nobody has anything left to learn
            state.rung = len(state.sizes) - 1
        last = state.rung + 1 == len(state.sizes)
        if not last:
            keep = wanted = min(len(order), state.sizes[state.rung + 1])
            while keep > FINALISTS and self._is_too_much(order[:keep]):
                keep -= 1
            if keep < wanted:
                self.warn(f"after rung {state.rung + 1} only {keep} of {wanted} went on: this machine was slower than "
                          "measured")  # fmt: skip
            for row in order[keep:]:
                row.dropped = state.rung
                if row.state == "paused":
                    row.state = "dropped"
            out = [title(row) for row in order[keep:] if row.state == "dropped"]
            if out:
                self.say(f"rung {state.rung + 1}", "dropped " + ", ".join(out))
        for row in alive if last else ():
            if row.state == "paused":
                row.state = "shortened"
                state.notes.append(f"{title(row)}: {row.note}")
        state.rung += 1
        self.write()

    def _failed(self, row: Row, error: BaseException) -> NeocogError:
        """A candidate's own error stays in its row. Everything else is raised."""
        if isinstance(error, Interrupted):
            error.cause = f"{row.name}: {error.cause}"
            error.hint = f"the same command with --out {self.folder} goes on"
            raise error
        if not isinstance(error, NeocogError):
            if not is_out_of_memory(error):
                raise error
            error = ResourceError("the memory does not suffice", "use a smaller --batch-size")
        if isinstance(error, ModelFileError) and row.epochs:  # what it has learned may be mended
            error.hint = f"the same command with --out {self.folder} --resume auto goes on from the state before"
            raise error
        row.state, row.error, row.error_code = "failed", str(error), error.exit_code
        self.say("warning", f"{title(row)} failed: {error}")
        return error


def standing(row: Row) -> tuple[float, float]:
    """Validation accuracy and loss after its last rung."""
    return row.rungs[-1]["val_accuracy"], row.rungs[-1]["val_loss"]


def title(row: Row) -> str:
    return f"{row.model} {row.way}"


def epochs(number: str) -> str:
    return f"{number} epoch" if number == "1" else f"{number} epochs"
