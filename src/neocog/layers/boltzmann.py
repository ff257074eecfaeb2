"""The restricted Boltzmann machine: units that are seen, units that are not, and weights between the two kinds only.

    E(v, h) = - visible . v - hidden . h - h . W v          p(v, h) is proportional to exp(-E)
    F(v)    = - visible . v - sum log(1 + exp(hidden + W v))    so that p(v) is proportional to exp(-F)

Hidden units are on or off, or, `linear`, numbers with Gaussian noise of variance 1 around hidden + W v, as in the code
of Hinton and Salakhutdinov, Science 313, 2006 (note 15); then E has h . h / 2 more, and
F(v) = - visible . v - |hidden + W v|^2 / 2.

Source: Hinton, "Training Products of Experts by Minimizing Contrastive Divergence", Neural Computation 14, 2002, and "A
Practical Guide to Training Restricted Boltzmann Machines", 2010; persistent chains: Tieleman, ICML 2008.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHAINS = 128


class Boltzmann(nn.Module):
    """(B, V) in 0..1 -> (B, H), what is expected of each hidden unit: the probability that it is on, or its mean."""

    chains: Tensor

    def __init__(self, visible: int, hidden: int, linear: bool = False) -> None:
        super().__init__()
        self.linear = linear
        self.weight = nn.Parameter(0.01 * torch.randn(hidden, visible))  # section 8 of the guide
        self.visible = nn.Parameter(torch.zeros(visible))
        self.hidden = nn.Parameter(torch.zeros(hidden))
        self.register_buffer("chains", torch.zeros(CHAINS, visible))  # of persistent contrastive divergence

    def up(self, v: Tensor) -> Tensor:
        """(B, V) -> (B, H) logits, or means."""
        return F.linear(v, self.weight, self.hidden)

    def down(self, h: Tensor) -> Tensor:
        """(B, H) -> (B, V) logits."""
        return F.linear(h, self.weight.T, self.visible)

    def forward(self, v: Tensor) -> Tensor:
        return self.up(v) if self.linear else self.up(v).sigmoid()

    def free_energy(self, v: Tensor) -> Tensor:
        """(B, V) -> (B,)"""
        up = self.up(v)
        hidden = 0.5 * up.square() if self.linear else F.softplus(up)
        return -(v @ self.visible) - hidden.sum(1)

    @torch.no_grad()
    def gibbs(self, v: Tensor, steps: int) -> Tensor:
        """(B, V) -> (B, V): the visible units after so many times down and up, drawn from PyTorch's generator."""
        for _ in range(steps):
            up = self.up(v)
            h = up + torch.randn_like(up) if self.linear else up.sigmoid().bernoulli()
            v = self.down(h).sigmoid().bernoulli()
        return v
