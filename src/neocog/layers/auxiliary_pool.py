"""The pool of Inception's auxiliary heads: means over 5x5 with stride 3 bring a map of any size to a small grid.

Paper: Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, arXiv:1409.4842, section 5 (14 x 14 becomes
4 x 4); Inception v3 has the same (17 x 17 becomes 5 x 5).
"""

from torch import Tensor, nn
from torch.nn import functional as F


class AuxiliaryPool(nn.Module):
    """(B, C, H, W) -> (B, C, grid, grid)

    Maps that do not end at the grid by themselves are averaged to it, and those smaller than the 5x5 window are
    only that: the papers know one input size, training on small pictures needs the rest.
    """

    def __init__(self, grid: int) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, x: Tensor) -> Tensor:
        if min(x.shape[2:]) >= 5:
            x = F.avg_pool2d(x, 5, stride=3)
        return F.adaptive_avg_pool2d(x, self.grid)

    def extra_repr(self) -> str:
        return f"grid={self.grid}"
