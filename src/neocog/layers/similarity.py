"""Classifiers that compare an embedding with known ones instead of learning weights.

They answer with logarithms of probabilities, so a softmax gives the probabilities back. Similarity is the cosine.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOST = 50  # neighbours that may vote


class Prototypes(nn.Module):
    """(B, D) -> (B, K): `scale` times the cosine to each class's mean direction.

    Snell, Swersky and Zemel, "Prototypical Networks for Few-shot Learning", NeurIPS 2017, with the cosine in place of
    the Euclidean distance.
    """

    means: Tensor  # (K, D) unit vectors
    scale: Tensor

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("means", torch.zeros(num_classes, width))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * F.normalize(x.float(), dim=1) @ self.means.T


class Neighbours(nn.Module):
    """(B, D) -> (B, K): the classes of the nearest known pictures. The N known embeddings are unit vectors.

    Each of the `count` nearest votes for its class with exp(cosine / temperature) (Wu et al., "Unsupervised Feature
    Learning via Non-Parametric Instance Discrimination", CVPR 2018, section 3.4); the share `doubt` of the belief is
    spread over all classes, because no class is impossible only for having no neighbour here.
    """

    known: Tensor  # (N, D)
    labels: Tensor  # (N,)
    count: Tensor
    temperature: Tensor
    doubt: Tensor

    def __init__(self, width: int, num_classes: int, pictures: int) -> None:
        super().__init__()
        self.width, self.num_classes = width, num_classes
        self.register_buffer("known", torch.zeros(pictures, width))
        self.register_buffer("labels", torch.zeros(pictures, dtype=torch.int64))
        self.register_buffer("count", torch.ones((), dtype=torch.int64))
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("doubt", torch.full((), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        return self.vote(F.normalize(x.float(), dim=1) @ self.known.T)

    def vote(self, cosines: Tensor) -> Tensor:
        """(B, N) similarities to the known pictures -> (B, K) logarithms of beliefs."""
        nearest, which = cosines.topk(min(MOST, cosines.shape[1]), dim=1)
        late = torch.arange(nearest.shape[1], device=nearest.device) >= self.count
        votes = (nearest / self.temperature).masked_fill(late, float("-inf")).softmax(dim=1)
        beliefs = votes.new_zeros(len(cosines), self.num_classes).scatter_add_(1, self.labels[which], votes)
        return ((1 - self.doubt) * beliefs + self.doubt / self.num_classes).log()
