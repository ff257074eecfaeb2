"""Classification: one class per picture, cross-entropy between its softmax and the truth.

Networks whose scores are lengths in 0..1 learn by the margin loss of their paper: Sabour, Frosst and Hinton, "Dynamic
Routing Between Capsules", NIPS 2017, arXiv:1710.09829, equation 4.

Adversarial training: Goodfellow, Shlens and Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR 2015,
arXiv:1412.6572, section 6. Every picture is learned twice, as it is and after one step of the sign of the gradient
that makes its loss worse; the loss is the mean of both (the paper's alpha of 0.5). What resists one step need not
resist many: `neocog.explaining.adversarial.pgd` tells.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neocog.core.contracts import Batch, Step, WithAuxiliary
from neocog.core.spec import Preprocessing, figures_for

Loss = Literal["cross_entropy", "margin"]

PRESENT, ABSENT, DOWN = 0.9, 0.1, 0.5  # the paper's m+, m- and lambda
PIXELS = Preprocessing(mean=(0.0,), std=(1.0,))  # inputs that are pixels as they are


class Classification:
    """`label_smoothing` gives that share of each target to all classes alike (Szegedy et al. 2016, section 7).
    `class_weights` (K,) multiplies each class's loss; the mean is taken over the weights, so the size of a
    step does not depend on which classes a batch happens to hold. The margin loss has no label smoothing: its two
    margins already ask for less than certainty (ValueError where both are given). `adversarial`: the largest change of
    a pixel on the 0..1 scale in adversarial training, 0 without it; `preprocessing`: by which inputs were normalised,
    which only this needs."""

    def __init__(
        self, label_smoothing: float = 0.0, class_weights: Tensor | None = None, loss: Loss = "cross_entropy", *,
        adversarial: float = 0.0, preprocessing: Preprocessing = PIXELS,
    ) -> None:  # fmt: skip
        if loss == "margin" and label_smoothing:
            raise ValueError("label smoothing does not apply to the margin loss")
        self.label_smoothing = label_smoothing
        self.class_weights = class_weights
        self.kind = loss
        self.adversarial, self.preprocessing = adversarial, preprocessing

    def step(self, network: nn.Module, batch: Batch, generator: torch.Generator | None = None) -> Step:
        if self.adversarial:
            return self.step_twice(network, batch)
        outputs = network(batch.images)
        return Step(self.whole_loss(outputs, batch.targets), scores_of(outputs))

    def step_twice(self, network: nn.Module, batch: Batch) -> Step:
        """On the pictures and on their adversarial twins, in one pass: batch norm learns the statistics of both, and
        processes that exchange gradients do it once. The outputs are those of the pictures as they are."""
        n = len(batch.images)
        outputs = network(torch.cat([batch.images, self.worsened(network, batch.images, batch.targets)]))
        parts = {
            "clean": 0.5 * self.whole_loss(rows_of(outputs, slice(n)), batch.targets),
            "adversarial": 0.5 * self.whole_loss(rows_of(outputs, slice(n, None)), batch.targets),
        }
        return Step(parts["clean"] + parts["adversarial"], scores_of(outputs)[:n], parts)

    def worsened(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """(B, C, H, W) normalised -> the same, each pixel moved by `adversarial` along the sign of the gradient of the
        loss, but never out of 0..1. Asked in eval mode: batch norm's statistics, dropout's luck and every weight's
        gradient stay as they are, and the network answers as it will in use, without auxiliary heads. (Attacks on the
        batch's own statistics made networks no harder to attack: up to 4 points easier on scikit-learn's digits.)"""
        # Gradients of the pictures are nothing that processes exchange.
        inner = network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network
        modes = [(module, module.training) for module in inner.modules()]
        try:
            for module, mode in modes:  # cuDNN's recurrent layers have no way back in eval mode
                module.training = mode and isinstance(module, nn.RNNBase)
            images = images.detach().requires_grad_()
            scores = scores_of(inner(images)).float()
            # The margin loss is flat, and shows no direction, where its margins are kept: ask the odds instead.
            loss = (
                F.cross_entropy(scores.logit(eps=1e-6), targets)
                if self.kind == "margin"
                else self.loss(scores, targets)
            )
            (gradient,) = torch.autograd.grad(loss, images)
        finally:
            for module, mode in modes:
                module.training = mode
        mean, std = (
            torch.tensor(figures_for(images.shape[1], values), device=images.device)[:, None, None]
            for values in (self.preprocessing.mean, self.preprocessing.std)
        )
        moved = images.detach() + self.adversarial / std * gradient.sign()
        return moved.clamp(-mean / std, (1 - mean) / std).to(images.dtype)

    def whole_loss(self, outputs: Tensor | WithAuxiliary, targets: Tensor) -> Tensor:
        """`loss`, with that of auxiliary scores."""
        loss = self.loss(scores_of(outputs), targets)
        if isinstance(outputs, WithAuxiliary):
            for scores in outputs.auxiliary:
                loss = loss + outputs.weight * self.loss(scores, targets)
        return loss

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(B, K) scores, (B,) class numbers or (B, K) class shares -> scalar: nats, or squared lengths (margin)."""
        if self.kind == "margin":
            return margin_loss(outputs.float(), targets, self.class_weights)
        # Softmax in float32 even under autocast: bfloat16 keeps three digits.
        return F.cross_entropy(
            outputs.float(), targets, weight=self.class_weights, label_smoothing=self.label_smoothing
        )

    def weight(self, batch: Batch) -> float:
        """Class shares weigh one a picture in cross-entropy, as torch has it, whatever their classes weigh."""
        targets = batch.targets
        if self.class_weights is None or (targets.ndim == 2 and self.kind == "cross_entropy"):
            return float(len(targets))
        weights = self.class_weights.to(targets.device)
        return float(weights[targets].sum() if targets.ndim == 1 else (targets @ weights.to(targets.dtype)).sum())

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(B,) bool. After MixUp or CutMix the class with the larger share counts as the truth."""
        truth = targets if targets.ndim == 1 else targets.argmax(1)
        return outputs.argmax(1) == truth

    def schedule(self, progress: float) -> None:
        """Nothing changes."""


def scores_of(outputs: Tensor | WithAuxiliary) -> Tensor:
    return outputs.scores if isinstance(outputs, WithAuxiliary) else outputs


def rows_of(outputs: Tensor | WithAuxiliary, rows: slice) -> Tensor | WithAuxiliary:
    if not isinstance(outputs, WithAuxiliary):
        return outputs[rows]
    return WithAuxiliary(outputs.scores[rows], tuple(scores[rows] for scores in outputs.auxiliary), outputs.weight)


def margin_loss(lengths: Tensor, targets: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """(B, K) lengths in 0..1, (B,) class numbers or (B, K) class shares, (K,) weights -> scalar.

    The length of the true class should be at least 0.9, those of the others at most 0.1; what is missing is squared,
    and counts half for the others. Summed over the classes, averaged over the pictures.
    """
    truth = F.one_hot(targets, lengths.shape[1]).to(lengths.dtype) if targets.ndim == 1 else targets
    missing = truth * (PRESENT - lengths).clamp(min=0).square()
    excess = DOWN * (1 - truth) * (lengths - ABSENT).clamp(min=0).square()
    each = (missing + excess).sum(1)
    if class_weights is None:
        return each.mean()
    weights = truth @ class_weights.to(truth.dtype)  # of each picture, by its class
    return (weights * each).sum() / weights.sum()


def balanced_weights(counts: Tensor) -> Tensor:
    """(K,) pictures per class -> (K,) weights N / (K * count), so that all classes weigh alike in sum."""
    return counts.sum() / (len(counts) * counts.clamp(min=1))
