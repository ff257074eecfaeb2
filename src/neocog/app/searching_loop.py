"""The trials of one process, one after the other, until there are enough or the time is nearly over.

With a time budget no trial is begun that would not fit, judged by the median of those that were whole; one that turns
out slower is stopped, and the place waits for whoever goes on.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from neocog.app.announcing import duration
from neocog.app.compare_folder import Row as Named
from neocog.app.compare_plan import SLACK
from neocog.app.compare_run import Clock
from neocog.app.folding import quieter
from neocog.app.searching_plan import Lengths, config_of, decide
from neocog.app.searching_study import Claim, SharedStudy, create
from neocog.app.searching_table import Found, Row, best_of, conclude, importance_of, on_test, rows_of, said
from neocog.app.searching_trial import attempt, name_of
from neocog.core.config import TrainConfig, seconds
from neocog.core.errors import DivergedError, UsageError
from neocog.core.events import Events

RESERVE = 3.0  # seconds of a time budget for the table and the page
FAILURES = 5  # without a whole trial, after which more would only fail


class Searching:
    """`path`: of the study. `asked`: what others must agree on. `given`: settings that a person chose. `began`: on the
    clock, when the time budget began."""

    def __init__(
        self, folder: Path, path: Path, config: TrainConfig, rows: Sequence[Named], given: Mapping[str, Any],
        events: Events, *, asked: Mapping[str, Any], facts: Mapping[str, Any], trials: int | None, command: str,
        began: float, fall_back: bool, clock: Clock,
    ) -> None:  # fmt: skip
        self.folder, self.config, self.events, self.facts, self.trials = folder, config, events, dict(facts), trials
        self.named = {row.name: row for row in rows}
        self.command, self.began, self.fall_back, self.clock = command, began, fall_back, clock
        self.until = math.inf if config.time is None else began + seconds(config.time) - RESERVE
        self.lengths: Lengths | None = None
        self.notes: list[str] = []
        self._heard: set[str] = set()
        self.study = self._open(path, asked, given)

    def _open(self, path: Path, asked: Mapping[str, Any], given: Mapping[str, Any]) -> SharedStudy:
        rows, new = list(self.named.values()), not path.exists()
        if new:
            self._measure(rows)
            found = decide(rows, self.config, given, self.folder, self.lengths, self.events)
            if self.lengths is not None:
                self.lengths.check(found, self.config.time or "", self.clock() - self.began)
            create(path, asked, found)
        study = SharedStudy(path)
        try:
            study.compare(asked)
            self.say("search", f"{self.folder}, study {path}")
            self.say("pictures", self.facts["pictures"])
            if not new:
                known = study.candidates
                self._measure([
                    replace(row, regime=known[row.name]["regime"], settings=known[row.name]["settings"])
                    for row in rows
                ])  # fmt: skip
            for name, one in study.candidates.items():
                self.say("candidate", f"{name}: {one['epochs']} epochs a trial; defaults {said(one['defaults'])}")
            if self.lengths is not None:
                self.say("time", f"{self.config.time}, of which {duration(self.clock() - self.began)} are gone and "
                                 f"{duration(RESERVE)} are kept for the page")  # fmt: skip
        except BaseException:
            study.close()
            raise
        return study

    def _measure(self, rows: Sequence[Named]) -> None:
        """What a trial takes here, where the time is limited."""
        if self.until == math.inf:
            return
        left = self.until - self.clock()
        if left <= 0:
            cause = f"{self.config.time} is not enough: the pictures alone took {duration(self.clock() - self.began)}"
            raise UsageError(cause, "give a longer --time")
        self.lengths = Lengths(rows, self.config, self.folder, left, self.trials)

    def close(self) -> None:
        self.study.close()

    def say(self, label: str, text: str) -> None:
        self.events.emit("note", label=label, text=text)

    def run(self) -> None:
        """Until nothing is left to begin. DivergedError where every trial fails."""
        while self._has_time():
            claim = self.study.next(self.trials)
            if claim is None:
                return
            self._attempt(claim)
            rows = rows_of(self.study)
            failed = [row for row in rows if row.state == "failed"]
            if len(failed) >= FAILURES and best_of(rows) is None:
                self._refuse_failures(failed)

    def _has_time(self) -> bool:
        """Whether a whole trial is expected to fit."""
        if self.lengths is None:
            return True
        took = [row.seconds for row in rows_of(self.study) if row.state == "finished" and row.seconds is not None]
        candidates = self.study.candidates.items()
        expected = median(took) if took else max(self.lengths.seconds(name, one["epochs"]) for name, one in candidates)
        left = self.until - self.clock()
        fits = expected * (1 + SLACK) <= left
        if not fits:
            self.say("time", f"no further trial is begun: one takes about {duration(expected)}, and "
                             f"{duration(max(left, 0.0))} are left")  # fmt: skip
        return fits

    def _attempt(self, claim: Claim) -> None:
        name, began = name_of(claim.place), self.clock()
        one, row = self.study.candidates[claim.candidate], self.named[claim.candidate]
        config = config_of(row, one, self.config, claim.settings)
        if claim.before:
            self.say(name, f"goes on, the {claim.before + 1}. time it is begun")
        ending = self.lengths.measured[claim.candidate].ending if self.lengths is not None else 0.0
        state = attempt(
            self.study, claim, config, self.folder, quieter(self.events, self._heard, whole=False),
            command=self.command, until=self.until - ending, fall_back=self.fall_back, clock=self.clock,
        )  # fmt: skip
        self._tell(claim, state, self.clock() - began)

    def _tell(self, claim: Claim, state: str, took: float) -> None:
        name = name_of(claim.place)
        if state == "lost":
            self.say("warning", f"{name}: another process had taken it for dead, and this attempt does not count")
            return
        rows = rows_of(self.study)
        row, best = next(row for row in rows if row.trial == claim.place), best_of(rows)
        score = "" if row.val is None else f"val {row.val:.4f}  "
        so_far = "" if best is None else f"  best {best.val:.4f} ({best.name})"
        tried = (f"{claim.candidate}: " if len(self.named) > 1 else "") + said(claim.settings)
        word = "paused early" if state == "pruned" else state
        self.say(name, f"{score}{word}{so_far}  {duration(took)}  {tried}")
        if row.note and state == "failed":
            self.say("warning", f"{name} failed: {row.note}")

    def _refuse_failures(self, failed: Sequence[Row]) -> None:
        raise DivergedError(f"none of {len(failed)} trials could be trained; {failed[-1].name}: {failed[-1].note}",
                            f"give a smaller --lr; see {self.folder}")  # fmt: skip

    def conclude(self) -> None:
        """Writes what all processes have found so far. Errors where nothing was, and nobody is still at it."""
        rows = rows_of(self.study)
        best, elsewhere = best_of(rows), [row.name for row in rows if row.state == "running"]
        open_ones = [row.name for row in rows if row.state in ("stopped", "waiting")]
        if best is None and not elsewhere:
            if open_ones:
                cause = f"{self.config.time} was not enough for one trial"
                raise UsageError(cause, "the same command goes on with it; or give a longer --time")
            self._refuse_failures([row for row in rows if row.state == "failed"])
        if elsewhere:
            self.notes.append(f"{len(elsewhere)} more still with another process: {', '.join(elsewhere)}")
        if open_ones:
            self.notes.append(f"{', '.join(open_ones)}: begun and not ended; the same command goes on")
        for note in self.notes:
            self.say("note", note)
        found = Found(
            dict(self.study.asked), self.study.candidates, rows, str(self.study.path), self.command,
            self.clock() - self.began, facts=self.facts, notes=self.notes,
        )  # fmt: skip
        replay = None
        if best is not None:
            found.best, found.test = best.trial, on_test(best)
            found.importance = importance_of(self.study, rows)
            one, row = self.study.candidates[best.candidate], self.named[best.candidate]
            replay = config_of(row, one, self.config, best.settings)
        conclude(self.folder, found, self.config, replay)
