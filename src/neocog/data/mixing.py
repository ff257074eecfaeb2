"""MixUp and CutMix: train between the pictures, not only at them.

MixUp (Zhang et al. 2018, arXiv:1710.09412) blends two pictures; CutMix (Yun et al. 2019, arXiv:1905.04899) pastes a
rectangle of one into the other. The target becomes the shares of the two classes. The share is Beta(alpha, alpha),
drawn per picture. A picture's partner is the next one of its batch in an order drawn by (seed, epoch, row): it
depends on which rows are in the batch and on nothing else. With both switched on, each picture gets one of the two.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from neocog.core import seeding


def partners(seed: int, epoch: int, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """(B,) -> the place in the batch of each picture's partner."""
    order = np.argsort(seeding.uniform(seed, epoch, rows, "partner")[:, 0], kind="stable")
    result = np.empty(len(rows), np.int64)
    result[order] = np.roll(order, -1)
    return result


def mix(
    images: Tensor, targets: Tensor, rows: NDArray[np.int64], seed: int, epoch: int, *,
    mixup: float, cutmix: float, num_classes: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(B, C, H, W) float, (B,) class numbers -> mixed pictures and (B, K) class shares, float32."""
    luck = seeding.uniform(seed, epoch, rows, "mix", 4)
    cut = luck[:, 0] < 0.5 if mixup and cutmix else np.full(len(rows), bool(cutmix))
    share = np.where(cut, _beta(cutmix, luck[:, 1]), _beta(mixup, luck[:, 1]))
    height, width = images.shape[2:]
    top, bottom = _span(luck[:, 2], share, height)
    left, right = _span(luck[:, 3], share, width)
    share = np.where(cut, 1 - (bottom - top) * (right - left) / (height * width), share)

    def per_picture(values: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(values).to(images.device)[:, None, None, None]

    y = torch.arange(height, device=images.device)[None, None, :, None]
    x = torch.arange(width, device=images.device)[None, None, None, :]
    inside = (y >= per_picture(top)) & (y < per_picture(bottom)) & (x >= per_picture(left)) & (x < per_picture(right))
    own = torch.where(per_picture(cut), (~inside).float(), per_picture(share.astype(np.float32)))  # (B, 1, H, W)
    other = torch.from_numpy(partners(seed, epoch, rows)).to(images.device)
    mixed = torch.lerp(images[other], images, own.to(images.dtype))
    kinds = F.one_hot(targets, num_classes).float()
    shares = torch.from_numpy(share.astype(np.float32)).to(images.device)[:, None]
    return mixed, torch.lerp(kinds[other], kinds, shares)


def _beta(alpha: float, luck: NDArray[np.float64]) -> NDArray[np.float64]:
    """Uniform numbers -> Beta(alpha, alpha), through the inverse of its distribution function."""
    if alpha == 0:
        return np.ones_like(luck)
    from scipy.special import betaincinv  # type: ignore[import-untyped]  # comes with scikit-learn

    result: NDArray[np.float64] = betaincinv(alpha, alpha, luck)
    return result


def _span(
    luck: NDArray[np.float64], share: NDArray[np.float64], length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last + 1 of a piece of length * sqrt(1 - share) around a random centre, cut off at the edges."""
    half = np.sqrt(1 - share) * length / 2
    centre = luck * length
    first, last = np.rint(centre - half), np.rint(centre + half)
    return np.clip(first, 0, length).astype(np.int64), np.clip(last, 0, length).astype(np.int64)
