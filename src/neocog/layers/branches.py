"""Branches: several paths look at the same input, and what they found is stacked along the channels.

Paper: Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, arXiv:1409.4842, figure 2.
"""

import torch
from torch import Tensor, nn


class Branches(nn.Sequential):
    """(B, c_in, H, W) -> (B, the sum of the branches' channels, H', W'), in the children's order.

    Every branch gets the input, none the output of another, and all must end at the same H' and W'.
    """

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self], dim=1)
