"""How alike two pictures are, in the units of the restoration literature.

SSIM: Wang, Bovik, Sheikh and Simoncelli, "Image Quality Assessment: From Error Visibility to Structural Similarity",
IEEE TIP 13, 2004, with their Gaussian window of 11 pixels, sigma 1.5, K1 = 0.01, K2 = 0.03. The mean is taken over
the places where the whole window lies inside the picture. A picture smaller than the window gets the largest odd one
that fits.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW, SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """(B, C, H, W) twice, in 0..1 -> (B,) decibels; infinite for equal pictures."""
    return -10 * (a - b).double().square().flatten(1).mean(1).log10()


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """(B, C, H, W) twice, in 0..1 -> (B,), 1 for equal pictures; the mean over channels and places."""
    channels = a.shape[1]
    window = gaussian_window(min(WINDOW, *((side - 1) // 2 * 2 + 1 for side in a.shape[-2:])), a)
    kernel = window.expand(channels, 1, *window.shape)

    def local_mean(x: Tensor) -> Tensor:
        return F.conv2d(x, kernel, groups=channels)

    mean_a, mean_b = local_mean(a), local_mean(b)
    # The window's weights sum to 1: these are the weighted moments of equations 14 to 16.
    var_a = local_mean(a * a) - mean_a.square()
    var_b = local_mean(b * b) - mean_b.square()
    covariance = local_mean(a * b) - mean_a * mean_b
    c1, c2 = K1**2, K2**2
    found = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    found = found / ((mean_a.square() + mean_b.square() + c1) * (var_a + var_b + c2))
    return found.flatten(1).mean(1)


def median_filtered(a: Tensor, side: int = 3) -> Tensor:
    """(B, C, H, W) -> the same on the CPU: each number the median of the `side` x `side` around it, mirrored at the
    borders. What a denoiser that learned must beat."""
    from scipy.ndimage import median_filter  # type: ignore[import-untyped]  # comes with scikit-learn

    return torch.from_numpy(median_filter(a.cpu().numpy(), (1, 1, side, side)))


def gaussian_window(side: int, like: Tensor) -> Tensor:
    """(side, side), sum 1."""
    x = torch.arange(side, dtype=like.dtype, device=like.device) - side // 2
    line = (-x.square() / (2 * SIGMA**2)).exp()
    line = line / line.sum()
    return line[:, None] * line
