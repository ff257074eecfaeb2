"""The inverted residual block: wide inside, narrow at the ends, where the shortcut joins.

A 1x1 convolution expands to `wide` channels, a depthwise one filters each of them by itself, a second 1x1
projects back without a bend, which in so narrow a place would destroy information.

Papers: Sandler et al., MobileNetV2, CVPR 2018, arXiv:1801.04381; with squeeze and excitation behind the
depthwise filters Tan et al., MnasNet, CVPR 2019, arXiv:1807.11626 (there called MBConv).
"""

from collections.abc import Callable

from torch import Tensor, nn

from neocog.layers.conv import ConvNormAct
from neocog.layers.drop_path import DropPath


class InvertedResidual(nn.Module):
    """(B, c_in, H, W) -> (B, c_out, H / stride, W / stride)

    `body` has the children `expand` (left out where there is nothing to expand), `depthwise`,
    `squeeze_excite` (where one is given) and `project`. The shortcut stands where input and output fit.
    """

    def __init__(
        self,
        c_in: int,
        wide: int,
        c_out: int,
        kernel_size: int = 3,
        stride: int = 1,
        *,
        act: Callable[..., nn.Module] = nn.ReLU6,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
        squeeze_excite: nn.Module | None = None,
        drop_path: float = 0.0,
        same: bool = False,
    ) -> None:
        super().__init__()
        self.body = nn.Sequential()
        if wide != c_in:
            self.body.add_module("expand", ConvNormAct(c_in, wide, 1, act=act, norm=norm))
        depthwise = ConvNormAct(wide, wide, kernel_size, stride, groups=wide, act=act, norm=norm, same=same)
        self.body.add_module("depthwise", depthwise)
        if squeeze_excite is not None:
            self.body.add_module("squeeze_excite", squeeze_excite)
        self.body.add_module("project", ConvNormAct(wide, c_out, 1, act=None, norm=norm))
        self.residual = stride == 1 and c_in == c_out
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return x + self.drop_path(out) if self.residual else out
