"""TensorFlow's "same" padding for pools: windows start where those of SamePadConv2d do, and what lies outside
the picture is neither a candidate for the maximum nor counted in the mean.

Source: https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def _padding(x: Tensor, kernel_size: int, stride: int) -> tuple[int, int, int, int]:
    """Left, right, top, bottom: as many as make the output ceil(size / stride), the odd one at the end."""
    sides: list[int] = []
    for size in (x.shape[3], x.shape[2]):
        total = max((-(-size // stride) - 1) * stride + kernel_size - size, 0)
        sides += [total // 2, total - total // 2]
    return sides[0], sides[1], sides[2], sides[3]


class _SamePool(nn.Module):
    def __init__(self, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}"


class SameMaxPool2d(_SamePool):
    """(B, C, H, W) -> (B, C, ceil(H / stride), ceil(W / stride))"""

    def forward(self, x: Tensor) -> Tensor:
        padding = _padding(x, self.kernel_size, self.stride)
        return F.max_pool2d(F.pad(x, padding, value=float("-inf")), self.kernel_size, self.stride)


class SameAvgPool2d(_SamePool):
    """(B, C, H, W) -> (B, C, ceil(H / stride), ceil(W / stride))"""

    def forward(self, x: Tensor) -> Tensor:
        padding = _padding(x, self.kernel_size, self.stride)
        mean = F.avg_pool2d(F.pad(x, padding), self.kernel_size, self.stride)
        inside = F.pad(torch.ones_like(x[:1, :1]), padding)
        return mean / F.avg_pool2d(inside, self.kernel_size, self.stride)
