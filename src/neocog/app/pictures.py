"""Tensors as picture files."""

import io

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neocog.data.colour import to_image

PIXELS = 64


def mosaic(pictures: Tensor, columns: int, *, limit: int | None = 1200) -> bytes:
    """(N, C, H, W) in 0..1 -> one PNG of rows of `columns` pictures, at most `limit` pixels a side (None: as
    many as it has)."""
    n, channels, height, width = pictures.shape
    rows = -(-n // columns)
    sheet = torch.ones(channels, rows * height, columns * width)
    for i, picture in enumerate(pictures):
        top, left = i // columns * height, i % columns * width
        sheet[:, top : top + height, left : left + width] = picture
    return png(sheet, limit)


def thumbnail(picture: Tensor, limit: int) -> bytes:
    """(C, H, W) in 0..1 -> a picture of at most `limit` pixels a side: PNG where it is so small that each pixel is
    seen, else JPEG, which takes a fifth of the bytes."""
    image = to_image(to_bytes(picture))
    image.thumbnail((limit, limit))
    out = io.BytesIO()
    if max(image.size) <= PIXELS:
        image.save(out, "PNG", optimize=True)
    else:
        image.save(out, "JPEG", quality=88, optimize=True)
    return out.getvalue()


def png(picture: Tensor, limit: int | None) -> bytes:
    """(C, H, W) in 0..1 -> PNG bytes, at most `limit` pixels a side; of more than three channels the first three."""
    image = to_image(to_bytes(picture))
    if limit is not None:
        image.thumbnail((limit, limit))
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def to_bytes(picture: Tensor) -> NDArray[np.uint8]:
    """(C, H, W) in 0..1 -> (H, W, C)"""
    pixels: NDArray[np.uint8] = (picture * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    return pixels
