"""How well a linear classifier on a network's embeddings names pictures that it has not seen."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neocog.core.contracts import Network
from neocog.layers.average import Average
from neocog.transfer.closed import parts_of, quiet
from neocog.transfer.heads import Backbone

DECAY = 0.01  # scikit-learn's C on standardised features: a firm hand, as there are few pictures and many numbers


class Depths(nn.Module):
    """(B, C, H, W) -> (B, D' + D): the mean of the maps at half depth, then the embedding. It shares the network's
    modules. `width`: D'."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        whole = Backbone(network)
        self.place = (len(network.stages) + 1) // 2
        self.stem, self.stages, self.neck, self.average = whole.stem, whole.stages, whole.neck, Average()
        self.width = network.stage_channels[self.place - 1]

    @staticmethod
    def stage_of(network: Network) -> str:
        """The name of the stage at half depth."""
        return [name for name, _ in network.stages.named_children()][(len(network.stages) + 1) // 2 - 1]

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for place, stage in enumerate(self.stages, 1):
            x = stage(x)
            if place == self.place:
                half = self.average(x)
        return torch.cat([half, self.average(self.neck(x))], dim=1)


def cross_validated(features: NDArray[np.float32], labels: NDArray[np.int64], seed: int) -> float | None:
    """(N, D), (N,) -> the share of rows named rightly by softmax regression on the other parts of up to five. Classes
    with a single row are left out; None where fewer than two others remain."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    several = np.bincount(labels)[labels] > 1
    features, labels = features[several], labels[several]
    if len(np.unique(labels)) < 2:
        return None
    labels = np.unique(labels, return_inverse=True)[1]
    right = np.zeros(len(labels), bool)
    for learn, judge in parts_of(labels, seed):
        with quiet():
            model = make_pipeline(StandardScaler(), LogisticRegression(C=DECAY, max_iter=200))
            model.fit(features[learn], labels[learn])
            right[judge] = model.predict(features[judge]) == labels[judge]
    return float(right.mean())
