"""Squeeze and excitation: look at the whole picture once, then turn every channel up or down.

The mean of each channel over all positions goes through a small bottleneck of two dense layers; the gate at
its end gives one factor between 0 and 1 per channel.

Paper: Hu, Shen and Sun, "Squeeze-and-Excitation Networks", CVPR 2018, arXiv:1709.01507. The dense layers are
written as 1x1 convolutions on the one position that is left, which is the same.
"""

from collections.abc import Callable

from torch import Tensor, nn


class SqueezeExcite(nn.Module):
    """(B, channels, H, W) -> the same shape: x * gate(expand(act(reduce(mean(x)))))

    `squeezed`: channels of the bottleneck (the paper's C / r).
    """

    def __init__(
        self,
        channels: int,
        squeezed: int,
        act: Callable[[], nn.Module] = nn.ReLU,
        gate: Callable[[], nn.Module] = nn.Sigmoid,
    ) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.act = act()
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.gate = gate()

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=(2, 3), keepdim=True)  # (B, C, 1, 1)
        factors: Tensor = self.gate(self.expand(self.act(self.reduce(mean))))
        return x * factors
