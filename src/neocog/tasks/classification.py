"""Classification: one class per picture, cross-entropy between its softmax and the truth."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neocog.core.contracts import Batch, Step, WithAuxiliary


class Classification:
    """`label_smoothing` gives that share of each target to all classes alike (Szegedy et al. 2016, section 7).
    `class_weights` (K,) multiplies each class's loss; the mean is taken over the weights, so the size of a
    step does not depend on which classes a batch happens to hold."""

    def __init__(self, label_smoothing: float = 0.0, class_weights: Tensor | None = None) -> None:
        self.label_smoothing = label_smoothing
        self.class_weights = class_weights

    def step(self, network: nn.Module, batch: Batch, generator: torch.Generator | None = None) -> Step:
        outputs = network(batch.images)
        if not isinstance(outputs, WithAuxiliary):
            return Step(self.loss(outputs, batch.targets), outputs)
        loss = self.loss(outputs.scores, batch.targets)
        for scores in outputs.auxiliary:
            loss = loss + outputs.weight * self.loss(scores, batch.targets)
        return Step(loss, outputs.scores)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(B, K) scores, (B,) class numbers or (B, K) class shares -> scalar, in nats."""
        # Softmax in float32 even under autocast: bfloat16 keeps three digits.
        return F.cross_entropy(
            outputs.float(), targets, weight=self.class_weights, label_smoothing=self.label_smoothing
        )

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(B,) bool. After MixUp or CutMix the class with the larger share counts as the truth."""
        truth = targets if targets.ndim == 1 else targets.argmax(1)
        return outputs.argmax(1) == truth


def balanced_weights(counts: Tensor) -> Tensor:
    """(K,) pictures per class -> (K,) weights N / (K * count), so that all classes weigh alike in sum."""
    return counts.sum() / (len(counts) * counts.clamp(min=1))
