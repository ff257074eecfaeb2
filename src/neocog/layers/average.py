"""The mean over all positions."""

from torch import Tensor, nn


class Average(nn.Module):
    """(B, C, H, W) maps, (B, N, C) tokens or (B, C) -> (B, C)."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 4:
            return x.mean(dim=(2, 3))
        return x.mean(dim=1) if x.dim() == 3 else x
