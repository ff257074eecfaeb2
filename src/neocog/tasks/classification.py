"""Classification: one class per picture, cross-entropy between its softmax and the truth.

Networks whose scores are lengths in 0..1 learn by the margin loss of their paper: Sabour, Frosst and Hinton, "Dynamic
Routing Between Capsules", NIPS 2017, arXiv:1710.09829, equation 4.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neocog.core.contracts import Batch, Step, WithAuxiliary

Loss = Literal["cross_entropy", "margin"]

PRESENT, ABSENT, DOWN = 0.9, 0.1, 0.5  # the paper's m+, m- and lambda


class Classification:
    """`label_smoothing` gives that share of each target to all classes alike (Szegedy et al. 2016, section 7).
    `class_weights` (K,) multiplies each class's loss; the mean is taken over the weights, so the size of a
    step does not depend on which classes a batch happens to hold. The margin loss has no label smoothing: its two
    margins already ask for less than certainty (ValueError where both are given)."""

    def __init__(
        self, label_smoothing: float = 0.0, class_weights: Tensor | None = None, loss: Loss = "cross_entropy"
    ) -> None:
        if loss == "margin" and label_smoothing:
            raise ValueError("label smoothing does not apply to the margin loss")
        self.label_smoothing = label_smoothing
        self.class_weights = class_weights
        self.kind = loss

    def step(self, network: nn.Module, batch: Batch, generator: torch.Generator | None = None) -> Step:
        outputs = network(batch.images)
        if not isinstance(outputs, WithAuxiliary):
            return Step(self.loss(outputs, batch.targets), outputs)
        loss = self.loss(outputs.scores, batch.targets)
        for scores in outputs.auxiliary:
            loss = loss + outputs.weight * self.loss(scores, batch.targets)
        return Step(loss, outputs.scores)

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
