"""Local response normalisation: a strong answer quiets the neighbouring channels at the same position.

    b[c] = a[c] / (k + alpha * sum of a[j]^2 over the n channels around c) ^ beta

Paper: Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural Networks",
NIPS 2012, section 3.3, whose constants are the defaults here. Networks of 2013 and 2014 carried it on; VGG
(arXiv:1409.1556, section 4.1) found that it does not help, and batch norm took its place.
"""

from torch import Tensor, nn
from torch.nn import functional as F


class LocalResponseNorm(nn.Module):
    """(B, C, H, W) -> the same shape. Nothing to learn; the same in training and eval."""

    def __init__(self, n: int = 5, k: float = 2.0, alpha: float = 1e-4, beta: float = 0.75) -> None:
        super().__init__()
        if n < 1 or n % 2 == 0:
            raise ValueError(f"n = {n} must be odd: as many channels on either side")
        self.n, self.k, self.alpha, self.beta = n, k, alpha, beta

    def forward(self, x: Tensor) -> Tensor:
        # PyTorch takes the mean of the n squares where the paper takes their sum: alpha times n makes up for it.
        return F.local_response_norm(x, self.n, self.alpha * self.n, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"n={self.n}, k={self.k}, alpha={self.alpha}, beta={self.beta}"
