"""Reconstruction: give the picture back, through a code that is narrow, sparse, noisy or drawn from a distribution.

The loss is a mean over all values of a batch, in the units of one value (squared on the 0..1 scale, or nats), plus

    l1            Olshausen and Field 1996: weight * mean |code|
    kl            Ng, "Sparse autoencoder", 2011: 0.1 * the mean divergence of each unit's mean activation from `target`
    contractive   Rifai et al., "Contractive Auto-Encoders", ICML 2011: weight * mean |d code / d picture|^2 (Frobenius)
    beta          Kingma and Welling 2014; Higgins et al., "beta-VAE", ICLR 2017: beta * KL(q(code | picture) |
                  N(0, 1)), divided by the number of a picture's values, so that the sum is the negative bound per value

and what a quantised code asks for itself. Denoising is not here: the batch holds pictures made worse, and as targets
what they were. Only the adversarial step is, which needs the network.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neocog.core.autoencoder import Reconstruction
from neocog.core.contracts import Batch, Step
from neocog.metrics.similarity import ssim

Distance = Literal["squared", "absolute", "cross_entropy", "ssim"]
DIVERGENCE = 0.1  # weight of the kl penalty


@dataclass
class Reconstruct:
    """`sparse`: ("l1", weight), ("kl", target) or none. `std`: (C,) by which inputs were divided, for the adversarial
    step of `adversarial` on the 0..1 scale. `annealed`: over this share of the training beta grows from 0 to what it
    is, so that a code says something before it is punished for it (Bowman et al., CoNLL 2016, arXiv:1511.06349)."""

    distance: Distance = "squared"
    sparse: tuple[str, float] | None = None
    contractive: float = 0.0
    beta: float = 1.0
    annealed: float = 0.0
    adversarial: float = 0.0
    std: Tensor | None = None

    def __post_init__(self) -> None:
        self.schedule(0.0)

    def schedule(self, progress: float) -> None:
        self.now = self.beta * (min(1.0, progress / self.annealed) if self.annealed else 1.0)

    def step(self, network: nn.Module, batch: Batch, generator: torch.Generator | None = None) -> Step:
        images = batch.images
        if self.adversarial:
            images = self.worsened(network, images, batch.targets)
        if self.contractive:
            images = images.detach().requires_grad_()
        found = network(images)
        assert isinstance(found, Reconstruction)
        parts = {self.distance: distance(found.logits, batch.targets, self.distance)} | self.penalties(found, images)
        return Step(torch.stack(list(parts.values())).sum(), found.logits, parts)

    def penalties(self, found: Reconstruction, images: Tensor) -> dict[str, Tensor]:
        coded, parts = found.coded, dict[str, Tensor]()
        if coded.mean is not None and coded.log_variance is not None:
            each = divergence(coded.mean, coded.log_variance).mean()
            parts["divergence"] = self.now * each / found.logits[0].numel()
        if coded.penalty is not None:
            parts["quantisation"] = coded.penalty
        match self.sparse:
            case ("l1", weight):
                parts["sparsity"] = weight * coded.code.float().abs().mean()
            case ("kl", target):
                parts["sparsity"] = DIVERGENCE * bernoulli_divergence(target, coded.code.float().mean(0)).mean()
        if self.contractive:
            parts["contraction"] = self.contractive * slope(coded.code, images)
        return parts

    def worsened(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """One step of the gradient's sign that makes the reconstruction worse: Goodfellow et al., "Explaining and
        Harnessing Adversarial Examples", ICLR 2015, arXiv:1412.6572."""
        images = images.detach().requires_grad_()
        loss = distance(network(images).logits, targets, self.distance)
        (gradient,) = torch.autograd.grad(loss, images)
        std = self.std if self.std is not None else torch.ones(1)
        return (images + self.adversarial * gradient.sign() / std.to(images.device)[:, None, None]).detach()

    def weight(self, batch: Batch) -> float:
        return float(len(batch.images))

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        """Nothing is right or wrong here."""
        return None


def distance(logits: Tensor, targets: Tensor, kind: Distance) -> Tensor:
    """(B, C, H, W) logits, pictures in 0..1 -> scalar: the mean over all values, float32."""
    logits = logits.float()
    match kind:
        case "squared":
            return F.mse_loss(logits.sigmoid(), targets)
        case "absolute":
            return F.l1_loss(logits.sigmoid(), targets)
        case "cross_entropy":  # nats; least, but not 0, where the two agree
            return F.binary_cross_entropy_with_logits(logits, targets)
        case "ssim":
            return 1 - ssim(logits.sigmoid(), targets).mean()


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """(B, D), (B, D) -> (B,) nats: KL(N(mean, variance) | N(0, 1)), Kingma and Welling 2014, appendix B."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


def bernoulli_divergence(target: float, activation: Tensor) -> Tensor:
    """KL of a unit that is on with probability `target` from one with `activation`, in nats, elementwise."""
    activation = activation.clamp(1e-6, 1 - 1e-6)
    return target * (target / activation).log() + (1 - target) * ((1 - target) / (1 - activation)).log()


def slope(code: Tensor, images: Tensor) -> Tensor:
    """The mean over pictures of |d code / d picture|^2, estimated: for signs s drawn at random, the mean of
    |d (s . code) / d picture|^2 is the squared Frobenius norm (Hutchinson 1989)."""
    signs = torch.randint(0, 2, code.shape, device=code.device).to(code.dtype) * 2 - 1
    (gradient,) = torch.autograd.grad((code * signs).sum(), images, create_graph=True)
    return gradient.float().square().flatten(1).sum(1).mean()
