"""AlexNet: the convnet made deep and wide enough for photographs, with ReLU and dropout to make it learn.

Paper: Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural Networks",
NIPS 2012. ROWS below is the one-GPU network of its sequel, Krizhevsky, "One weird trick for parallelizing
convolutional neural networks", 2014, arXiv:1404.5997, with 64 filters in front where 2012 has 96.
Differs from the paper: no local response normalisation (it does not help; VGG, section 4.1), as in the
published weights; an adaptive pool in front of the dense layers accepts other sizes than 224.

    image    3 x 224 x 224
    conv1   64 x  55 x  55   -> pool
    conv2  192 x  27 x  27   -> pool
    conv3-5     13 x  13     -> pool 256 x 6 x 6 -> 4096 -> 4096 -> classes
"""

from collections import OrderedDict

from torch import nn

from neocog.core.contracts import Network
from neocog.core.registry import register
from neocog.core.spec import Spec, Weights
from neocog.layers.dropout import Dropout
from neocog.models.keys import rename

#           filters  kernel  stride  pad  pool in front  first bias
ROWS = {
    "conv1": ( 64,     11,     4,     2,  False,          0),
    "conv2": (192,      5,     1,     2,  True,           1),
    "conv3": (384,      3,     1,     1,  True,           0),
    "conv4": (256,      3,     1,     1,  False,          1),
    "conv5": (256,      3,     1,     1,  False,          1),
}  # fmt: skip
GRID, WIDTH, DROPOUT = 6, 4096, 0.5


class AlexNet(Network):
    """(B, C, H, W) -> (B, K)"""

    stage_channels = (64, 192, 384, 256, 256)
    stage_strides = (4, 8, 16, 16, 16)
    min_size = 63
    classifier = "fc8"

    def __init__(self, num_classes: int, in_channels: int, dropout: float) -> None:
        super().__init__()
        self.num_classes, self.in_channels = num_classes, in_channels
        self.stem = nn.Identity()
        self.stages = nn.Sequential()
        c = in_channels
        for name, (filters, kernel, stride, pad, pool, _) in ROWS.items():
            stage = nn.Sequential()
            if pool:
                # A pool opens the next stage, so that a stage's output is the finer map.
                stage.add_module("pool", nn.MaxPool2d(3, stride=2))
            stage.add_module("conv", nn.Conv2d(c, filters, kernel, stride, pad))
            stage.add_module("act", nn.ReLU(inplace=True))
            self.stages.add_module(name, stage)
            c = filters
        self.head = nn.Sequential(
            OrderedDict(
                pool5=nn.MaxPool2d(3, stride=2),
                grid=nn.AdaptiveAvgPool2d(GRID),  # identity at 224
                flatten=nn.Flatten(),  # (B, 256 * 6 * 6)
                drop6=Dropout(dropout),
                fc6=nn.Linear(c * GRID**2, WIDTH),
                act6=nn.ReLU(inplace=True),
                drop7=Dropout(dropout),
                fc7=nn.Linear(WIDTH, WIDTH),
                act7=nn.ReLU(inplace=True),
                fc8=nn.Linear(WIDTH, num_classes),
            )
        )
        self._initialise()

    def _initialise(self) -> None:
        # Section 5 of 2012: N(0, 0.01^2); biases 1 where that feeds ReLUs positive numbers early, else 0.
        ones = [f"stages.{name}.conv" for name, row in ROWS.items() if row[-1]] + ["head.fc6", "head.fc7"]
        for name, layer in self.named_modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.normal_(layer.weight, std=0.01)
                assert layer.bias is not None
                nn.init.constant_(layer.bias, float(name in ones))


# torchvision numbers the layers of one Sequential: conv, ReLU, pool, conv, ReLU, pool, conv, ReLU, ...
FROM_TORCHVISION = rename(
    *((rf"features\.{index}\.", f"stages.{name}.conv.") for name, index in zip(ROWS, (0, 3, 6, 8, 10), strict=True)),
    (r"classifier\.1\.", "head.fc6."),
    (r"classifier\.4\.", "head.fc7."),
    (r"classifier\.6\.", "head.fc8."),
)


@register(
    Spec(
        name="alexnet",
        idea="Five convolutions and three dense layers: the network that started deep learning on photographs.",
        title="One weird trick for parallelizing convolutional neural networks",
        year=2014,
        link="https://arxiv.org/abs/1404.5997",
        table="course decks 003 and 004, AlexNet layer by layer",
        input_shape=(3, 224, 224),
        params=61_100_840,
        macs=714_188_480,
        weights=(
            Weights(
                tag="imagenet1k_v1",
                url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
                sha256="7be5be79",
                top1=56.522,
                top5=79.066,
            ),
        ),
    ),
    key_maps={"torchvision": FROM_TORCHVISION},
)
def alexnet(*, num_classes: int = 1000, in_channels: int = 3, dropout: float | None = None) -> AlexNet:
    """`dropout` (0.5) stands in front of both hidden dense layers."""
    return AlexNet(num_classes, in_channels, DROPOUT if dropout is None else dropout)
