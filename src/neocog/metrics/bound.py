"""How well a variational autoencoder explains a picture, in nats: upper bounds of -log p(picture).

The negative evidence lower bound is the reconstruction's cross-entropy plus the divergence of the code from the prior
(Kingma and Welling, ICLR 2014, equation 3). With k importance samples it becomes tighter, and for k without limit the
truth: Burda, Grosse and Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016, arXiv:1509.00519, equation 8.
Pixels are probabilities of black and white, as in these papers: p(x | z) is Bernoulli, x in 0..1.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

ACTIVE = 0.01


def active_units(means: Tensor) -> int:
    """(N, D), the means of the codes of N pictures -> how many of D vary with the picture by a variance of more than
    ACTIVE: the others say nothing (Burda et al. 2016, section 5.2)."""
    return int((means.var(0) > ACTIVE).sum())


class Bounds(NamedTuple):
    """(B,) nats each: the negative evidence lower bound, and the importance-weighted one, which is never higher."""

    plain: Tensor
    tighter: Tensor


def bounds(
    decode: Callable[[Tensor], Tensor], targets: Tensor, mean: Tensor, log_variance: Tensor, samples: int,
    generator: torch.Generator,
) -> Bounds:  # fmt: skip
    """`decode`: (B, D) codes -> (B, C, H, W) logits. `targets` (B, C, H, W) in 0..1. `mean`, `log_variance` (B, D): of
    q(z | x), from which `samples` codes z are drawn. With weights w = p(x | z) p(z) / q(z | x), the bounds are the mean
    of -log w and -log of the mean of w."""
    weights = []
    for _ in range(samples):
        noise = torch.randn(mean.shape, generator=generator).to(mean.device)
        code = mean + (0.5 * log_variance).exp() * noise
        crossed = F.binary_cross_entropy_with_logits(decode(code).float(), targets, reduction="none").flatten(1).sum(1)
        # log p(z) - log q(z | x): the constants of the two normal densities cancel
        ratio = 0.5 * (noise.square() + log_variance - code.square()).sum(1)
        weights.append(ratio - crossed)
    logs = torch.stack(weights)
    return Bounds(-logs.mean(0), math.log(samples) - logs.logsumexp(0))
