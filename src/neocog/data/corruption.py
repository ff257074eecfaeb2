"""Pictures made worse on purpose, for autoencoders that learn to give back what was there.

Vincent et al., "Stacked Denoising Autoencoders", JMLR 11, 2010 (Gaussian, salt-and-pepper and masking noise); He et
al., "Masked Autoencoders", CVPR 2022, arXiv:2111.06377 (patches). The course's first deck adds colour and restoration.
Every number is keyed by (seed, epoch, row), as in augment.py. What is worse is still a picture: values stay in 0..255.
The adversarial step needs the network and is therefore made by the task. "binary" is no damage: what must come back is
drawn with the picture, as in Burda et al., ICLR 2016, arXiv:1509.00519, so that bounds can be compared with theirs.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from neocog.core import seeding
from neocog.core.noise import Noise
from neocog.data.augment import LUMA, gaussian

Rows = NDArray[np.int64]
GRID = 7  # patches on a side
MIDDLE = 127.5


def corrupt(values: Tensor, rows: Rows, seed: int, epoch: int, noise: Noise) -> Tensor:
    """(B, C, S, S) float, 0..255 -> the same shape and range; `values` stay as they are."""
    match noise.kind:
        case "gaussian":
            return (values + 255 * noise.strength * gaussian(values, rows, seed, epoch)).clamp_(0, 255)
        case "salt_pepper":
            luck = per_pixel(values, rows, seed, epoch)
            worse = torch.where(luck < noise.strength / 2, torch.zeros_like(luck), torch.full_like(luck, 255.0))
            return torch.where(luck < noise.strength, worse, values)
        case "mask":
            return torch.where(per_pixel(values, rows, seed, epoch) < noise.strength, MIDDLE, values)
        case "patches":
            return torch.where(hidden_patches(values, rows, seed, epoch, noise.strength), MIDDLE, values)
        case "low_resolution":
            side = max(1, round(values.shape[-1] / noise.strength))
            small = F.interpolate(values, size=(side, side), mode="bilinear", antialias=True)
            return F.interpolate(small, size=values.shape[-2:], mode="bilinear").clamp_(0, 255)
        case "binary":
            drawn = per_value(values, rows, seed, epoch, "binary") < values / 255
            return 255 * drawn.to(values.dtype)
        case "grey":
            bands = values.shape[1]
            weights = torch.tensor(LUMA if bands == 3 else (1 / bands,) * bands, device=values.device)
            grey = torch.einsum("bchw,c->bhw", values, weights)[:, None]
            return torch.lerp(values, grey.expand_as(values), noise.strength)
        case _:
            return values


def per_pixel(values: Tensor, rows: Rows, seed: int, epoch: int) -> Tensor:
    """(B, 1, S, S) in 0..1: all channels of a pixel share its luck."""
    return per_value(values[:, :1], rows, seed, epoch, "corruption")


def per_value(values: Tensor, rows: Rows, seed: int, epoch: int, purpose: str) -> Tensor:
    """The shape of `values`, in 0..1."""
    luck = torch.empty_like(values)
    generator = torch.Generator(device=values.device)
    for place, key in enumerate(seeding.keys(seed, epoch, rows, purpose)):
        generator.manual_seed(int(key >> np.uint64(1)))
        luck[place].uniform_(generator=generator)
    return luck


def hidden_patches(values: Tensor, rows: Rows, seed: int, epoch: int, share: float) -> Tensor:
    """(B, 1, S, S) bool: exactly round(share * GRID^2) patches of each picture."""
    luck = seeding.uniform(seed, epoch, rows, "patches", GRID**2)
    hidden = luck.argsort(1, kind="stable").argsort(1, kind="stable") < round(share * GRID**2)
    coarse = torch.from_numpy(hidden.reshape(-1, 1, GRID, GRID).astype(np.float32)).to(values.device)
    return F.interpolate(coarse, size=values.shape[-2:], mode="nearest") > 0.5
