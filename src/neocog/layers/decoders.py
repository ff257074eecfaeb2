"""From a code back to a picture: the encoder's way, mirrored.

A step takes maps to the size that the encoder had before it, by one of

    transposed   a transposed convolution of twice the step's width (no uneven overlap: Odena et al., "Deconvolution
                 and Checkerboard Artifacts", Distill 2016)
    resize       nearest neighbours, then a convolution, which has no such pattern at all (the same article)
    unpool       each number goes back to where the encoder's pool took it from; Badrinarayanan et al., "SegNet",
                 TPAMI 2017, arXiv:1511.00561, section 3.1
"""

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from neocog.layers.activations import pointwise

Size = tuple[int, int]
Up = Literal["transposed", "resize", "unpool"]


def fit(maps: Tensor, size: Size) -> Tensor:
    """(B, C, H, W) -> (B, C, *size): cut at the bottom and the right, or the last row and column repeated there."""
    height, width = size
    maps = maps[..., :height, :width]
    below, right = height - maps.shape[-2], width - maps.shape[-1]
    return F.pad(maps, (0, right, 0, below), "replicate") if below or right else maps


class Upward(nn.Module):
    """(B, c_in, h, w) -> (B, c_out, *size): one step, norm and ReLU included."""

    def __init__(self, c_in: int, c_out: int, scale: int, kind: Up) -> None:
        super().__init__()
        self.scale, self.kind = scale, kind
        if kind == "transposed" and scale > 1:
            width = scale + 2 * (scale // 2)  # 4 for 2, 7 for 3, 8 for 4
            self.conv: nn.Module = nn.ConvTranspose2d(c_in, c_out, width, scale, scale // 2, bias=False)
        else:
            self.conv = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
        self.norm, self.act = nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)

    def forward(self, maps: Tensor, size: Size, switches: Tensor | None = None) -> Tensor:
        if self.kind == "unpool":
            if switches is None:
                raise ValueError("this decoder puts numbers back where the encoder's pools took them: it needs both")
            maps = F.max_unpool2d(maps, switches, [self.scale] * 2, [self.scale] * 2, output_size=size)
        elif self.kind == "resize" and self.scale > 1:
            maps = F.interpolate(maps, scale_factor=self.scale, mode="nearest")
        return self.act(self.norm(fit(self.conv(maps), size)))  # type: ignore[no-any-return]


class MapDecoder(nn.Module):
    """A code -> the logits of pictures, step by step through maps.

    `enter` makes the first maps of the code. `channels`: of the maps before each step and after the last one;
    `scales`: of each step; `sizes`: (H, W) after each step where the picture has the network's own size, the last
    being the picture's. The last convolution sees what the steps made and is not bent.
    """

    def __init__(
        self, enter: nn.Module, channels: Sequence[int], scales: Sequence[int], sizes: Sequence[Size],
        out_channels: int, kind: Up,
    ) -> None:  # fmt: skip
        super().__init__()
        self.enter, self.sizes, self.scales = enter, tuple(sizes), tuple(scales)
        pairs = zip(channels[:-1], channels[1:], scales, strict=True)
        self.steps = nn.ModuleList(Upward(c_in, c_out, scale, kind) for c_in, c_out, scale in pairs)
        self.last = nn.Conv2d(channels[-1], out_channels, 3, padding=1)

    def forward(self, code: Tensor, size: Size | None = None, switches: Sequence[Tensor] = ()) -> Tensor:
        maps = self.enter(code)
        for place, (step, size_after) in enumerate(zip(self.steps, self.sizes_for(size), strict=True)):
            maps = step(maps, size_after, switches[-1 - place] if switches else None)
        return self.last(maps)  # type: ignore[no-any-return]

    def sizes_for(self, size: Size | None) -> Sequence[Size]:
        """(H, W) after each step for pictures of `size`: each step of the encoder rounds up."""
        if size is None or size == self.sizes[-1]:
            return self.sizes
        found, stride = [], 1
        for scale in reversed(self.scales):
            found.append((-(-size[0] // stride), -(-size[1] // stride)))
            stride *= scale
        return found[::-1]


class DenseDecoder(nn.Module):
    """(B, D) -> (B, C, H, W) logits, through fully connected layers of `widths`, ReLU between them."""

    def __init__(self, latent: int, widths: Sequence[int], shape: tuple[int, int, int], act: str = "relu") -> None:
        super().__init__()
        self.shape = shape
        layers: list[nn.Module] = []
        for c_in, c_out in zip((latent, *widths[:-1]), widths, strict=True):
            layers += [nn.Linear(c_in, c_out), pointwise(act)]
        channels, height, width = shape
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1] if widths else latent, channels * height * width))

    def forward(self, code: Tensor, size: Size | None = None, switches: Sequence[Tensor] = ()) -> Tensor:
        return self.layers(code).view(-1, *self.shape)  # type: ignore[no-any-return]
