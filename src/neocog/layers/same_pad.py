"""TensorFlow's "same" padding: as many zeros as make the output ceil(H / stride), the odd one at the end.

With stride 2 and an even size the zeros stand at the right and the bottom only, where PyTorch's padding=1
puts them on both sides: the filters then look at positions one pixel apart. Weights trained with one lose
ten points of accuracy with the other (tests/test_real_weights.py).
Source: https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2
"""

from torch import Tensor, nn
from torch.nn import functional as F


class SamePadConv2d(nn.Conv2d):
    """(B, C, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride)). Keys as nn.Conv2d."""

    def forward(self, x: Tensor) -> Tensor:
        left, right = self._padding(x.shape[3], axis=1)
        top, bottom = self._padding(x.shape[2], axis=0)
        return super().forward(F.pad(x, (left, right, top, bottom)))

    def _padding(self, size: int, axis: int) -> tuple[int, int]:
        stride, reach = self.stride[axis], (self.kernel_size[axis] - 1) * self.dilation[axis]
        total = max((-(-size // stride) - 1) * stride + reach + 1 - size, 0)
        return total // 2, total - total // 2
