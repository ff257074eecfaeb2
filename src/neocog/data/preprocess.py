"""From decoded pixels to a network's input: the one path of training, evaluation, prediction and serving.

`shrink` is what the cache keeps, `view` is what evaluation looks at, `normalise` makes it float. `view` gives
the same pixels with and without `shrink` before it. Sizes and rounding are torchvision's: the short side
becomes `resize`, the long one int(resize * long / short), and the centre crop begins at round((H - size) / 2).
Resizing is always antialiased and works on 8 bits.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from neocog.core.spec import Preprocessing, figures_for
from neocog.data.decode import EXTREME_ASPECT

CACHED_VALUES = 2**19  # 2 MB of float32


def shrink(pixels: Tensor, resize: int, interpolation: str = "bilinear") -> Tensor:
    """uint8 (C, H, W) -> the same picture with a short side of at most `resize`."""
    pixels = limit_aspect(pixels[None])
    if min(pixels.shape[2:]) > resize:
        pixels = resize_short(pixels, resize, interpolation)
    return pixels[0]


def view(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """uint8 (C, H, W), or (B, C, H, W) of equal sizes -> uint8 (..., size, size): short side to `resize`, centre crop.

    A picture that already has the size comes back unchanged when resize == size.
    """
    size = preprocessing.size
    if preprocessing.resize < size:
        raise ValueError(f"resize {preprocessing.resize} is smaller than the crop of {size}")
    batch = pixels if pixels.dim() == 4 else pixels[None]
    batch = resize_short(limit_aspect(batch), preprocessing.resize, preprocessing.interpolation)
    height, width = batch.shape[2:]
    top, left = round((height - size) / 2), round((width - size) / 2)
    batch = batch[..., top : top + size, left : left + size]
    return batch if pixels.dim() == 4 else batch[0]


def limit_aspect(batch: Tensor) -> Tensor:
    """(B, C, H, W) -> its middle part, at most four times as long as wide. Without this, 1 x 5000 pixels would
    become 224 x 1,120,000 before the centre crop throws nearly all of it away; the crop hardly notices."""
    height, width = batch.shape[2:]
    longest = int(EXTREME_ASPECT * min(height, width))
    top, left = max(0, round((height - longest) / 2)), max(0, round((width - longest) / 2))
    return batch[..., top : top + longest, left : left + longest]


def resize_short(batch: Tensor, resize: int, interpolation: str) -> Tensor:
    """uint8 (B, C, H, W) -> short side `resize`, keeping the aspect ratio."""
    height, width = batch.shape[2:]
    short = min(height, width)
    return resize_to(batch, (int(resize * height / short), int(resize * width / short)), interpolation)


def resize_to(batch: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    """uint8 (B, C, H, W) -> uint8 (B, C, *size), antialiased, channels_last in memory."""
    if tuple(batch.shape[2:]) == size:
        return batch
    return F.interpolate(nhwc(batch), size=size, mode=interpolation, antialias=True, align_corners=False)


def nhwc(batch: Tensor) -> Tensor:
    """(B, C, H, W) in channels_last memory: the layout in which 8-bit pixels resize, crop and normalise fastest."""
    n, channels, height, width = batch.shape
    memory = batch.permute(0, 2, 3, 1).contiguous()
    # A batch of one picture may have any first stride, which would hide its layout: state the strides anew.
    return memory.view(n * height, width, channels).view(n, height, width, channels).permute(0, 3, 1, 2)


def normalise(
    batch: Tensor,
    preprocessing: Preprocessing,
    *,
    dtype: torch.dtype = torch.float32,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Tensor:
    """Values 0..255, uint8 or float (B, C, H, W) -> (x / 255 - mean) / std as `dtype` in `memory_format`."""
    out = torch.empty(batch.shape, dtype=dtype, device=batch.device, memory_format=memory_format)
    for part in parts(batch):
        normalise_into(out[part], batch[part], preprocessing)
    return out


def denormalise(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """(..., C, H, W), what `normalise` made -> float32 in 0..1."""
    mean, std = (
        per_channel(values, images.shape[-3], images.device)[:, None, None]
        for values in (preprocessing.mean, preprocessing.std)
    )
    return images.float() * std + mean


def parts(batch: Tensor) -> list[slice]:
    """Slices of a batch whose floats stay in a core's cache; on other devices the batch as a whole."""
    n = len(batch)
    step = max(1, CACHED_VALUES // max(1, batch[:1].numel())) if batch.device.type == "cpu" else max(1, n)
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def normalise_into(out: Tensor, batch: Tensor, preprocessing: Preprocessing) -> None:
    """One multiplication and one addition per value. They run over whole rows of memory, because broadcasting over
    the three innermost channels of channels_last takes five times as long."""
    _, channels, height, width = batch.shape
    mean = per_channel(preprocessing.mean, channels, batch.device)
    std = per_channel(preprocessing.std, channels, batch.device)
    scale, shift = 1 / (255 * std), -mean / std
    if out.is_contiguous():
        target, source = out, batch.contiguous()
        scale, shift = scale[:, None, None], shift[:, None, None]
    else:
        target = out.permute(0, 2, 3, 1).view(-1, height, width * channels)
        source = batch.permute(0, 2, 3, 1).contiguous().view(-1, height, width * channels)
        scale, shift = scale.repeat(width), shift.repeat(width)
    if out.dtype == torch.float32:
        target.copy_(source).mul_(scale).add_(shift)
    else:
        target.copy_(source.to(torch.float32, copy=True).mul_(scale).add_(shift))


def per_channel(values: tuple[float, ...], channels: int, device: torch.device) -> Tensor:
    """(channels,) float32, also from a tuple for other channels."""
    return torch.tensor(figures_for(channels, values), dtype=torch.float32, device=device)
