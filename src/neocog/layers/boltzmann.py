"""The restricted Boltzmann machine: units that are seen, units that are not, and weights between the two kinds only.

    E(v, h) = - visible . v - hidden . h - h . W v          p(v, h) is proportional to exp(-E)
    F(v)    = - visible . v - sum log(1 + exp(hidden + W v))    so that p(v) is proportional to exp(-F)

Source: Hinton, "Training Products of Experts by Minimizing Contrastive Divergence", Neural Computation 14, 2002, and "A
Practical Guide to Training Restricted Boltzmann Machines", 2010; persistent chains: Tieleman, ICML 2008.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHAINS = 128


class Boltzmann(nn.Module):
    """(B, V) in 0..1 -> (B, H), the probability that each hidden unit is on."""

    chains: Tensor

    def __init__(self, visible: int, hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.01 * torch.randn(hidden, visible))  # section 8 of the guide
        self.visible = nn.Parameter(torch.zeros(visible))
        self.hidden = nn.Parameter(torch.zeros(hidden))
        self.register_buffer("chains", torch.zeros(CHAINS, visible))  # of persistent contrastive divergence

    def up(self, v: Tensor) -> Tensor:
        """(B, V) -> (B, H) logits."""
        return F.linear(v, self.weight, self.hidden)

    def down(self, h: Tensor) -> Tensor:
        """(B, H) -> (B, V) logits."""
        return F.linear(h, self.weight.T, self.visible)

    def forward(self, v: Tensor) -> Tensor:
        return self.up(v).sigmoid()

    def free_energy(self, v: Tensor) -> Tensor:
        """(B, V) -> (B,)"""
        return -(v @ self.visible) - F.softplus(self.up(v)).sum(1)

    @torch.no_grad()
    def gibbs(self, v: Tensor, steps: int) -> Tensor:
        """(B, V) -> (B, V): the visible units after so many times down and up, drawn from PyTorch's generator."""
        for _ in range(steps):
            v = self.down(self.up(v).sigmoid().bernoulli()).sigmoid().bernoulli()
        return v
