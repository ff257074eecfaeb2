"""Stochastic depth: while training, leave out a residual branch for some pictures, so that the network in front
of and behind it learns to do without.

Paper: Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016, arXiv:1603.09382. There a block is
dropped for a whole batch and scaled down when predicting; here, as in everything published since, each
picture draws for itself, and the branches that stay are scaled up while training.
"""

from torch import Tensor, nn


class DropPath(nn.Module):
    """(B, ...) -> the same shape: in training each row is 0 with probability `p`, else divided by 1 - p."""

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"drop_path = {p} must be at least 0 and below 1")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        # One draw per row, which broadcasts over whatever axes follow.
        keep = x.new_empty((x.shape[0], *[1] * (x.dim() - 1))).bernoulli_(1 - self.p)
        return x * (keep / (1 - self.p))

    def extra_repr(self) -> str:
        return f"p={self.p}"
