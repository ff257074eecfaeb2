"""Separable convolution: one filter per channel looks at places, then a 1x1 convolution mixes the channels.

Nothing stands between the two: that they are two small steps instead of one large one is the whole idea, and
Xception's paper (figure 10) found a bend between them to hurt. (MobileNet normalises and bends there, too; it
writes the two steps out.)

Papers: Sifre, "Rigid-Motion Scattering for Image Classification", PhD thesis 2014; Chollet, "Xception", CVPR
2017, arXiv:1610.02357.
"""

from torch import nn

from neocog.layers.same_pad import SamePadConv2d


class SeparableConv(nn.Sequential):
    """(B, c_in, H, W) -> (B, c_out, H / stride, W / stride), children `depthwise` and `pointwise`, no biases.

    Padding is half the kernel, or TensorFlow's with `same`.
    """

    def __init__(self, c_in: int, c_out: int, kernel_size: int = 3, stride: int = 1, *, same: bool = False) -> None:
        super().__init__()
        # Only strides tell the two paddings apart.
        if same and stride > 1:
            self.depthwise: nn.Conv2d = SamePadConv2d(c_in, c_in, kernel_size, stride, groups=c_in, bias=False)
        else:
            self.depthwise = nn.Conv2d(c_in, c_in, kernel_size, stride, kernel_size // 2, groups=c_in, bias=False)
        self.pointwise = nn.Conv2d(c_in, c_out, 1, bias=False)
