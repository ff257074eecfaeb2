"""Pre-activation: normalise and bend in front of the convolution, so that the sum behind it stays untouched.

A residual block that ends in its sum lets signal and gradient pass from any block to any other as they are.

Paper: He, Zhang, Ren and Sun, "Identity Mappings in Deep Residual Networks", ECCV 2016, arXiv:1603.05027,
figure 4e. Where the shape changes, the shortcut is a bare 1x1 convolution of the activated input (the authors'
code and the appendix: the activation stands in front of the fork).
"""

from collections import OrderedDict

from torch import Tensor, nn

from neocog.layers.dropout import Dropout


class NormActConv(nn.Sequential):
    """(B, c_in, H, W) -> (B, c_out, H / stride, W / stride), children `norm`, `act`, `conv`; with `dropout`, one
    of that name in front of the convolution."""

    def __init__(
        self, c_in: int, c_out: int, kernel_size: int, stride: int = 1, *, dropout: float | None = None
    ) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(c_in)
        self.act = nn.ReLU(inplace=True)
        if dropout is not None:
            self.dropout = Dropout(dropout)
        self.conv = nn.Conv2d(c_in, c_out, kernel_size, stride, kernel_size // 2, bias=False)


class PreactResidual(nn.Module):
    """(B, c_in, H, W) -> (B, c_out, H / stride, W / stride): body(y) + x with y = ReLU(norm(x)), or
    body(y) + shortcut(y) where the shape changes. `body` begins with a bare convolution."""

    def __init__(self, body: nn.Module, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(c_in)
        self.act = nn.ReLU(inplace=True)
        self.body = body
        self.shortcut: nn.Conv2d | None = None
        if stride != 1 or c_in != c_out:
            self.shortcut = nn.Conv2d(c_in, c_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.norm(x))
        out: Tensor = self.body(y) + (x if self.shortcut is None else self.shortcut(y))
        return out


def preact_basic(c_in: int, width: int, stride: int, dropout: float | None = None) -> PreactResidual:
    """(B, c_in, H, W) -> (B, width, H / stride, W / stride): two 3x3, `dropout` between them."""
    body: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(c_in, width, 3, stride, 1, bias=False),
        conv2=NormActConv(width, width, 3, dropout=dropout),
    )
    return PreactResidual(nn.Sequential(body), c_in, width, stride)


def preact_bottleneck(c_in: int, width: int, stride: int) -> PreactResidual:
    """(B, c_in, H, W) -> (B, 4 * width, H / stride, W / stride): 1x1 down, 3x3 with the stride, 1x1 up."""
    body: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(c_in, width, 1, bias=False),
        conv2=NormActConv(width, width, 3, stride),
        conv3=NormActConv(width, 4 * width, 1),
    )
    return PreactResidual(nn.Sequential(body), c_in, 4 * width, stride)
