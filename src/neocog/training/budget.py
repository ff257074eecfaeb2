"""A time budget that holds: the training is planned to end in time for what comes after it, and planned again as
it goes, because no measurement of a few steps knows what else this machine will be asked to do."""

import time
from collections.abc import Callable
from dataclasses import dataclass

REPLAN_SHARE = 0.02  # of the budget, between one plan and the next
SLACK = 0.03  # of the time left, kept for what no measurement foresaw
MEMORY = 0.8  # of earlier experience, at each new plan


@dataclass
class Pace:
    """Seconds of a batch, measured before the training: `first` while only the head learns (`head_batches` of them),
    `later` after that."""

    first: float
    later: float
    head_batches: int = 0

    def seconds(self, done: int, until: int) -> float:
        """Of the batches from `done` to `until`."""
        head = max(0, min(until, self.head_batches) - done)
        return head * self.first + max(0, until - done - head) * self.later

    def batches(self, done: int, seconds: float) -> int:
        """How many more fit into so many seconds."""
        head = max(0, self.head_batches - done)
        if seconds < head * self.first:
            return int(max(seconds, 0.0) / self.first)
        return head + int((seconds - head * self.first) / self.later)


@dataclass
class Budget:
    """`seconds` for the whole run, of which `spent` were gone when this object was made. Measured beforehand and
    corrected as the run goes: `pace`, and `validation`, the seconds of what follows each epoch. What comes after the
    training takes `evaluation` and `report` seconds."""

    seconds: float
    spent: float
    pace: Pace
    validation: float
    evaluation: float
    report: float
    batches_per_epoch: int
    most: int | None = None  # batches, where the number of epochs is given as well
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self.started = self.planned = self.clock()
        # The measurement counts for so much experience.
        self._taken = self._expected = REPLAN_SHARE * max(self.seconds, 1e-3)
        self._mark = 0, self.started

    @property
    def factor(self) -> float:
        """Seconds of a batch as they are, by those that were measured before."""
        return self._taken / self._expected

    @property
    def ending(self) -> float:
        """Seconds from the last validation to the finished report."""
        return self.evaluation * self.factor + self.report

    def gone(self) -> float:
        """Seconds of the budget that are over."""
        return self.spent + self.clock() - self.started

    def left(self) -> float:
        """Seconds for training and validating."""
        return self.seconds - self.gone() - self.ending

    def plan(self, done: int) -> int:
        """The number of batches, of the whole run, that fits: at least one more than is done."""
        self.planned = self.clock()
        share = self.validation / self.batches_per_epoch  # each epoch is followed by a validation
        left = self.left() * (1 - SLACK) - self.validation  # and so is the last piece of one
        slower = Pace(
            self.pace.first * self.factor + share, self.pace.later * self.factor + share, self.pace.head_batches
        )
        until = done + max(1, slower.batches(done, left))
        return until if self.most is None else min(until, self.most)

    def is_due(self) -> bool:
        """It is time to plan again."""
        return self.clock() - self.planned > REPLAN_SHARE * self.seconds or self.is_over()

    def is_over(self) -> bool:
        """There is no time for one more batch."""
        return self.left() < self.validation + self.pace.later * self.factor

    def begin(self, done: int) -> None:
        """Batches are learned from here on, without a break until the next `took`."""
        self._mark = done, self.clock()

    def took(self, done: int) -> None:
        """Compares what the batches since `begin` took with what had been measured; the latest count most."""
        before, started = self._mark
        if done > before:
            self._taken = MEMORY * self._taken + self.clock() - started
            self._expected = MEMORY * self._expected + self.pace.seconds(before, done)
            self.begin(done)

    def validated(self, seconds: float) -> None:
        """What followed an epoch took so long; one time alone may have waited for a disk."""
        self.validation = (self.validation + seconds) / 2
