"""Residual blocks: learn what to add to the input, so that doing nothing is the easiest thing to learn.

Paper: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385:
equation 1, the two blocks of figure 5, and the shortcuts of section 3.3. Where a block changes the shape, the
shortcut is either a projection (option B, of the ImageNet networks) or copies what there is and fills the new
channels with zeros (option A, of the CIFAR networks), which costs nothing and has nothing to learn.
"""

from collections import OrderedDict
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from neocog.layers.conv import ConvNormAct

EXPANSION = {"basic": 1, "bottleneck": 4}

StrideOn = Literal["3x3", "1x1"]


class Residual(nn.Module):
    """(B, c_in, H, W) -> (B, c_out, H / stride, W / stride): ReLU(body(x) + shortcut(x))"""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.body(x) + self.shortcut(x))
        return out


class ZeroPadShortcut(nn.Module):
    """(B, c_in, H, W) -> (B, c_out, H / stride, W / stride): every `stride`-th pixel, `before` zero channels in
    front of the c_in, zero channels behind them."""

    def __init__(self, c_in: int, c_out: int, stride: int, before: int = 0) -> None:
        super().__init__()
        self.stride, self.before, self.after = stride, before, c_out - c_in - before

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, self.before, self.after))

    def extra_repr(self) -> str:
        return f"stride={self.stride}, before={self.before}, after={self.after}"


def projection(c_in: int, c_out: int, stride: int) -> nn.Module:
    """Option B: a 1x1 convolution where the shape changes, else the input itself."""
    if stride == 1 and c_in == c_out:
        return nn.Identity()
    return ConvNormAct(c_in, c_out, 1, stride, act=None)


def basic_body(c_in: int, width: int, stride: int) -> nn.Sequential:
    """Two 3x3 convolutions."""
    return nn.Sequential(
        OrderedDict(
            conv1=ConvNormAct(c_in, width, 3, stride),
            conv2=ConvNormAct(width, width, 3, act=None),
        )
    )


def basic(c_in: int, width: int, stride: int) -> Residual:
    """(B, c_in, H, W) -> (B, width, H / stride, W / stride)"""
    return Residual(basic_body(c_in, width, stride), projection(c_in, width, stride))


def bottleneck_body(c_in: int, width: int, stride: int, stride_on: StrideOn = "3x3", widen: int = 1) -> nn.Sequential:
    """1x1 down to `width`, 3x3, 1x1 up to 4 * `width`. `widen` multiplies the channels of the 3x3, and of nothing
    else (wide ResNets)."""
    inner = width * widen
    first, second = (stride, 1) if stride_on == "1x1" else (1, stride)
    return nn.Sequential(
        OrderedDict(
            conv1=ConvNormAct(c_in, inner, 1, first),
            conv2=ConvNormAct(inner, inner, 3, second),
            conv3=ConvNormAct(inner, width * EXPANSION["bottleneck"], 1, act=None),
        )
    )


def bottleneck(c_in: int, width: int, stride: int, stride_on: StrideOn = "3x3", widen: int = 1) -> Residual:
    """(B, c_in, H, W) -> (B, 4 * width, H / stride, W / stride)"""
    shortcut = projection(c_in, width * EXPANSION["bottleneck"], stride)
    return Residual(bottleneck_body(c_in, width, stride, stride_on, widen), shortcut)
