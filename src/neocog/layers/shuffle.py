"""Channel shuffle: deal the channels of every group to all groups of the next layer, like cards.

Behind a grouped convolution each output channel knows only its own group; without the shuffle the groups
would never hear of each other.

Paper: Zhang et al., "ShuffleNet", CVPR 2018, arXiv:1707.01083, section 3.1.
"""

from torch import Tensor, nn


class ChannelShuffle(nn.Module):
    """(B, C, H, W) -> the same shape: output channel i * groups + j is input channel j * C / groups + i."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        return x.reshape(b, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(b, c, h, w)

    def extra_repr(self) -> str:
        return f"groups={self.groups}"
