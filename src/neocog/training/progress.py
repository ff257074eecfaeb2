"""Where a run stands, and what adds up to an epoch's row."""

import math
from dataclasses import dataclass, field
from typing import Any

from neocog.training.exchange import Words


@dataclass
class Progress:
    """With the weights and the optimizer, all that a resumed run needs to know."""

    epoch: int = 0
    batch: int = 0  # batches of this epoch already learned from
    done: int = 0  # batches of all epochs
    planned: int = 0  # batches after which the run ends
    steps: int = 0  # times the weights moved
    lr: float = 0.0  # of the last step
    seconds: float = 0.0  # spent training, over all sittings
    spent: float = 0.0  # of a time budget, over all sittings, from the first look at the pictures
    loss_sum: float = 0.0  # of this epoch so far, over pictures
    correct: float | None = 0.0  # None: nothing is right or wrong
    seen: int = 0
    parts: dict[str, float] = field(default_factory=dict)  # of the loss, summed as it is
    best_epoch: int = -1
    best_file: str | None = None  # of its weights
    best_score: tuple[float, float] = (-math.inf, -math.inf)  # validation accuracy, then minus the loss
    lowest_loss: float = math.inf
    epochs_without_better: int = 0
    since_drop: int = 0
    drops: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    watched: list[dict[str, Any]] = field(default_factory=list)  # rows of a Watcher

    @property
    def mean_loss(self) -> float:
        """Of this epoch so far, as the accuracy."""
        return self.loss_sum / self.seen

    @property
    def accuracy(self) -> float | None:
        return None if self.correct is None else self.correct / self.seen

    def learned(self, words: Words) -> None:
        """One batch more."""
        self.loss_sum += words.loss * words.pictures
        self.correct = None if words.correct is None else (self.correct or 0.0) + words.correct
        self.seen += words.pictures
        for name, value in words.parts.items():
            self.parts[name] = self.parts.get(name, 0.0) + value * words.pictures
        self.batch, self.done = self.batch + 1, self.done + 1
        if words.plan:
            self.planned = words.plan

    def row(self) -> dict[str, Any]:
        """Of the epoch that ends, without what validation finds."""
        return {
            "epoch": self.epoch + 1, "steps": self.steps, "lr": self.lr, "train_loss": self.mean_loss,
            **({} if self.correct is None else {"train_accuracy": self.accuracy}),
            **{f"train_{name}": value / self.seen for name, value in self.parts.items()},
        }  # fmt: skip

    def validated(self, found: dict[str, float], patience: int | None) -> bool:
        """Whether these weights are the best so far: by accuracy, where there is one, ties by loss. The loss, which
        moves more finely, says how long nothing became better; after `patience` epochs of it the rate drops."""
        score = (found.get("accuracy", 0.0), -found["loss"])
        best = score > tuple(self.best_score)
        if best:
            self.best_score, self.best_epoch = score, self.epoch
        if found["loss"] < self.lowest_loss:
            self.lowest_loss = found["loss"]
            self.epochs_without_better = self.since_drop = 0
            return best
        self.epochs_without_better += 1
        self.since_drop += 1
        if patience is not None and self.since_drop >= patience:
            self.drops += 1
            self.since_drop = 0
        return best

    def next_epoch(self, row: dict[str, Any]) -> None:
        """`row`: of the epoch that ends."""
        self.history.append(row)
        self.epoch, self.batch = self.epoch + 1, 0
        self.loss_sum = self.correct = 0.0
        self.parts = {}
        self.seen = 0
