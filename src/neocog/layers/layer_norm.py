"""Layer norm over the channels of every pixel: each position of each picture is normalised by itself.

Paper: Ba, Kiros and Hinton, "Layer Normalization", 2016, arXiv:1607.06450; over channels alone, as ConvNeXt
(Liu et al., CVPR 2022, arXiv:2201.03545) and transformers have it. No statistics of a batch: training and
predicting are the same.
"""

from torch import Tensor, nn


class LayerNorm2d(nn.LayerNorm):
    """(B, C, H, W) -> the same shape. Parameters and keys as nn.LayerNorm(C)."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__(channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        # nn.LayerNorm normalises the last axis; in channels_last memory turning the axes moves no number.
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
