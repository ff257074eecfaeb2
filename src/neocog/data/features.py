"""Batches of embeddings that were computed before, in the order in which `Loader` would give the pictures."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neocog.data.loader import Batch
from neocog.data.mixing import mix
from neocog.data.plan import Plan


class FeatureLoader:
    """`for batch in loader.epoch(n)`; `batch.images` are (B, D) float32."""

    def __init__(
        self, view: Callable[[int], NDArray[np.float16]], labels: NDArray[np.int64], rows: NDArray[np.int64],
        plan: Plan, *, device: torch.device, num_classes: int, mixup: float = 0.0,
    ) -> None:  # fmt: skip
        """`view(epoch)`: the embeddings (N, D) of `rows` that an epoch sees. `labels`: by row of the data set, (N,) for
        the rows. `mixup`: its alpha; embeddings are blended as pictures would be (`mixing.mix`)."""
        self.view, self.rows, self.plan = view, rows, plan
        self.device, self.num_classes, self.mixup = device, num_classes, mixup
        self._labels = torch.from_numpy(labels)

    def __len__(self) -> int:
        return len(self.plan)

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        view = self.view(epoch)
        for places in self.plan.epoch(epoch, skip):
            rows = self.rows[places]
            indices = torch.from_numpy(rows)
            features = torch.from_numpy(view[places]).to(self.device).float()
            targets = self._labels[indices].to(self.device)
            if self.mixup:
                features, targets = self._mixed(features, targets, rows, epoch)
            yield Batch(features, targets, indices)

    def _mixed(self, features: Tensor, targets: Tensor, rows: NDArray[np.int64], epoch: int) -> tuple[Tensor, Tensor]:
        maps, shares = mix(
            features[:, :, None, None], targets, rows, self.plan.seed, epoch, mixup=self.mixup, cutmix=0.0,
            num_classes=self.num_classes,
        )  # fmt: skip
        return maps[:, :, 0, 0], shares
