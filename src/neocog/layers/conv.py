"""Convolution, normalisation, activation: the sentence that most networks of the zoo repeat."""

from collections.abc import Callable

from torch import nn

from neocog.layers.same_pad import SamePadConv2d

Pair = tuple[int, int]  # height, width


class ConvNormAct(nn.Sequential):
    """(B, c_in, H, W) -> (B, c_out, H / stride, W / stride), children `conv`, `norm`, `act`.

    `padding`: half the kernel unless given (0 is the papers' "valid"), or TensorFlow's with `same`.
    `norm=None` and `act=None` leave that child out. A bias in front of batch norm does nothing (the norm
    subtracts it): there is one only where it is asked for.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel_size: int | Pair,
        stride: int = 1,
        *,
        padding: int | Pair | None = None,
        groups: int = 1,
        bias: bool = False,
        norm: Callable[[int], nn.Module] | None = nn.BatchNorm2d,
        act: Callable[..., nn.Module] | None = nn.ReLU,
        same: bool = False,
    ) -> None:
        super().__init__()
        kernel = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        # Only stride 2 tells the two paddings apart.
        if same and stride > 1:
            self.conv: nn.Conv2d = SamePadConv2d(c_in, c_out, kernel, stride, groups=groups, bias=bias)
        else:
            if padding is None:
                padding = (kernel[0] // 2, kernel[1] // 2)
            self.conv = nn.Conv2d(c_in, c_out, kernel, stride, padding, groups=groups, bias=bias)
        if norm is not None:
            self.norm = norm(c_out)
        if act is not None:
            self.act = act(inplace=True)


def replace_conv_classifier(head: nn.Sequential, name: str, num_classes: int) -> None:
    """Puts a new 1x1 convolution with `num_classes` maps in the place of the one called `name`."""
    old = head.get_submodule(name)
    assert isinstance(old, nn.Conv2d)
    new = nn.Conv2d(old.in_channels, num_classes, 1)
    nn.init.normal_(new.weight, std=0.01)
    assert new.bias is not None
    nn.init.zeros_(new.bias)
    head.set_submodule(name, new.to(old.weight.device, old.weight.dtype))
