"""A head that is fitted at once, with the face of `training.loop.Trainer`: a run need not know how its head learned.

There is nothing to resume: a fit that was stopped begins again, on embeddings that are at hand.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neocog.core.events import Events
from neocog.core.files import write_json_lines
from neocog.layers.similarity import Neighbours, Prototypes
from neocog.training.contracts import Recipe
from neocog.training.progress import Progress
from neocog.training.world import World
from neocog.transfer.closed import Chosen, fit_neighbours, fit_prototypes, fit_svm
from neocog.transfer.regimes import Scratch


class Fit:
    """`network`: the tail, whose classifier `head` is to be fitted to the rows of `features` (N, D) with `labels`
    (N,); rows of the same number in `pictures` (N,) are views of one picture. `validate`: as in `Trainer`."""

    def __init__(
        self, network: nn.Module, head: nn.Module, features: NDArray[np.float16], labels: NDArray[np.int64],
        pictures: NDArray[np.int64], recipe: Recipe, *, folder: Path,
        validate: Callable[[nn.Module], dict[str, float] | None], events: Events, world: World,
    ) -> None:  # fmt: skip
        self.network, self.head, self.recipe, self.regime = network, head, recipe, Scratch()
        self.features, self.labels, self.pictures = features, labels, pictures
        self.folder, self.validate, self.events, self.world = folder, validate, events, world
        self.progress = Progress()
        self.loader: tuple[()] = ()  # no batches
        self.replanned = False

    def stop(self, signal_number: int) -> None:
        """A fit has no steps between which it could stop: it ends as any other program does."""
        if signal_number == 2:
            raise KeyboardInterrupt
        raise SystemExit(128 + signal_number)

    def finished(self) -> bool:
        return True

    def restore(self, *, fall_back: bool = False) -> str:
        return ""

    def fit(self) -> dict[str, Tensor]:
        """Fits the head, notes how well, and returns its weights. Every process does the same."""
        self.events.emit("run_started", progress=self.progress, batches=0)
        started = time.monotonic()
        chosen = self._fit()
        self.progress.seconds = time.monotonic() - started
        found = self.validate(self.network)
        self.progress.epoch, self.progress.best_epoch = 1, 0
        row: dict[str, Any] = {
            "epoch": 1, "steps": 0, "lr": None, "train_loss": None, "train_accuracy": chosen.accuracy,
            "images_per_second": len(self.labels) / max(self.progress.seconds, 1e-9),
            "seconds": self.progress.seconds, "fitted": chosen.words,
        } | {f"val_{key}": value for key, value in (found or {}).items()}  # fmt: skip
        self.progress.history = [row]
        self.world.alone(lambda: write_json_lines(self.folder / "metrics.jsonl", [row]))
        words = f"{chosen.words}: {chosen.accuracy:.4f} of the training pictures right unseen"
        self.events.emit("note", label="fitted", text=words)
        self.events.emit("run_ended", progress=self.progress)
        return {name: value.clone() for name, value in self.network.state_dict().items()}

    def _tell(self, done: int, total: int) -> None:
        self.events.emit("progress", what="machines", done=done, total=total)

    def _fit(self) -> Chosen:
        device = next(iter(self.network.state_dict().values())).device
        self.head.cpu()
        features, labels = torch.from_numpy(self.features.astype(np.float32)), torch.from_numpy(self.labels)
        pictures = torch.from_numpy(self.pictures)
        try:
            with torch.no_grad():
                if isinstance(self.head, Prototypes):
                    return fit_prototypes(self.head, features, labels, pictures)
                if isinstance(self.head, Neighbours):
                    return fit_neighbours(self.head, features, labels, pictures)
                assert isinstance(self.head, nn.Linear)
                return fit_svm(self.head, features, labels, pictures, self.recipe.seed, self._tell)
        finally:
            self.head.to(device)
