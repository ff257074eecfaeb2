"""Contrastive divergence: what is seen should have less free energy than what the machine makes of it.

The gradient of F(picture) - F(what k steps of Gibbs sampling make of it), averaged over a batch, is that of CD-k
(Hinton, Neural Computation 14, 2002, equation 5, in the form of Bengio, "Learning Deep Architectures for AI", 2009,
section 5.4). Persistent: the steps go on from where the chains of the last batch ended (Tieleman, ICML 2008). It is
divided by the number of seen values, as the loss is that follows when all machines learn together: an optimizer that
remembers how large gradients were would else hardly move for thousands of steps.
"""

import torch
from torch import nn

from neocog.core.autoencoder import Layered
from neocog.core.contracts import Batch, Step
from neocog.tasks.reconstruction import Reconstruct


class ContrastiveDivergence:
    """`rest` is the task once all machines learn together."""

    def __init__(self, rest: Reconstruct, steps: int = 1, persistent: bool = False) -> None:
        self.rest, self.steps, self.persistent = rest, steps, persistent

    def step(self, network: nn.Module, batch: Batch, generator: torch.Generator | None = None) -> Step:
        assert isinstance(network, Layered)
        learning = network.learning(batch.images)
        if learning is None:
            return self.rest.step(network, batch, generator)
        layer, seen = learning
        with torch.autocast(seen.device.type, enabled=False):  # energies are sums of many units
            seen = seen.float()
            if self.persistent:
                made = layer.chains.copy_(layer.gibbs(layer.chains, self.steps)).clone()
            else:
                made = layer.gibbs(seen, self.steps)
            loss = (layer.free_energy(seen).mean() - layer.free_energy(made).mean()) / seen.shape[1]
        return Step(loss, batch.images)

    def weight(self, batch: Batch) -> float:
        return self.rest.weight(batch)

    def correct(self, outputs: torch.Tensor, targets: torch.Tensor) -> None:
        """Nothing is right or wrong here."""

    def schedule(self, progress: float) -> None:
        self.rest.schedule(progress)
