"""The bottleneck of an autoencoder: what the encoder found becomes a code.

vector      a linear map of all features            (B, D)
spatial     a 1x1 convolution of the last maps      (B, D, h, w)
gaussian    a mean and a variance for each number, of which one value is drawn while the network trains
            Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, arXiv:1312.6114, section 3
quantised   each place of the maps gets the nearest of a book of vectors
            van den Oord et al., "Neural Discrete Representation Learning", NIPS 2017, arXiv:1711.00937
"""

import torch
from torch import Tensor, nn

from neocog.core.autoencoder import Coded
from neocog.layers.activations import pointwise

COMMITMENT = 0.25  # van den Oord et al., section 3.2: beta, at which any value from 0.1 to 2.0 did
STEEPEST = 10.0  # |log variance|: beyond it an exponential says no more than 0 or infinity in lower precision


class KeepHighest(nn.Module):
    """Of each picture's code the k highest activations stay, the others become 0.

    Makhzani and Frey, "k-Sparse Autoencoders", ICLR 2014, arXiv:1312.5663, algorithm 1. (The paper keeps somewhat more
    of them once it has learned; here k are k, always.) Of equal values those that come first are kept.
    """

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(self, code: Tensor) -> Tensor:
        """(B, ...) -> the same shape, at most k numbers of each picture other than 0."""
        flat = code.flatten(1)
        places = flat.argsort(dim=1, descending=True, stable=True)[:, : self.k]
        return torch.zeros_like(flat).scatter(1, places, flat.gather(1, places)).view_as(code)

    def extra_repr(self) -> str:
        return f"k={self.k}"


class PlainCode(nn.Module):
    """(B, ...) features -> a code by `project`, bent by `act`, of which `keep` entries stay (0: all)."""

    def __init__(self, project: nn.Module, act: str, keep: int = 0) -> None:
        super().__init__()
        self.project, self.act = project, pointwise(act) if act != "linear" else nn.Identity()
        self.keep = KeepHighest(keep) if keep else nn.Identity()

    def forward(self, features: Tensor) -> Coded:
        return Coded(self.keep(self.act(self.project(features))))


class GaussianCode(nn.Module):
    """(B, ...) features -> a normal distribution of independent numbers for each picture.

    `project` gives 2D numbers, means then log variances. In training the code is mean + deviation * noise, the noise
    drawn from PyTorch's generator (the reparametrisation of section 2.4); in eval mode it is the mean.
    """

    def __init__(self, project: nn.Module) -> None:
        super().__init__()
        self.project = project

    def forward(self, features: Tensor) -> Coded:
        mean, log_variance = self.project(features).float().chunk(2, dim=1)
        log_variance = log_variance.clamp(-STEEPEST, STEEPEST)
        if not self.training:
            return Coded(mean, mean, log_variance)
        return Coded(mean + (0.5 * log_variance).exp() * torch.randn_like(mean), mean, log_variance)


class QuantisedCode(nn.Module):
    """(B, C, h, w) maps -> the same places, each the nearest of `book` vectors of D numbers.

    The gradient passes the choice as if it were not there (equation 2's straight-through estimator); the penalty is
    the second and third term of equation 3: the book moves to what it stands for, and the encoder commits to it.
    """

    def __init__(self, project: nn.Module, dim: int, book: int) -> None:
        super().__init__()
        self.project = project
        self.book = nn.Parameter(torch.empty(book, dim).uniform_(-1 / book, 1 / book))

    def forward(self, features: Tensor) -> Coded:
        found = self.project(features).float()
        nearest = self.lookup(self.indices(found))
        penalty = (nearest - found.detach()).square().mean() + COMMITMENT * (found - nearest.detach()).square().mean()
        return Coded(found + (nearest - found).detach(), penalty=penalty)

    def indices(self, found: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, h, w) int64, the number of the nearest vector."""
        places = found.permute(0, 2, 3, 1)
        # |a - b|^2 without the term that all candidates share
        return (self.book.square().sum(1) - 2 * places @ self.book.T).argmin(-1)

    def lookup(self, indices: Tensor) -> Tensor:
        """(B, h, w) -> (B, D, h, w)."""
        return self.book[indices].permute(0, 3, 1, 2)
