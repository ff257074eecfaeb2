"""Three ways to read a digit: all pixels at once, through small windows, and through windows alone.

The course's third deck compares them: a dense network, a small convnet that is seven times lighter and
better, and one whose dense layer gives way to a 1x1 convolution and an average, so that any size fits.

Networks: the deck's three Keras summaries, restated below. Data: LeCun et al., "Gradient-based learning
applied to document recognition", Proc. IEEE 86, 1998, doi:10.1109/5.726791. Weights start as Keras starts them.

    dense     784 -> 256 -> 128 -> 64 -> 10                                           242,762 parameters
    convnet   28 -> conv 26 -> pool 13 -> conv 11 -> pool 5 -> 1600 -> 10              34,826
    fcn       28 -> conv 26 -> pool 13 -> conv 11 -> pool 5 -> conv1x1 -> mean -> 10   19,466
"""

from collections import OrderedDict

from torch import Tensor, nn

from neocog.core.contracts import Network
from neocog.core.registry import register
from neocog.core.spec import Spec
from neocog.layers.activations import find, pointwise
from neocog.layers.conv import replace_conv_classifier
from neocog.layers.dropout import Dropout
from neocog.layers.init import initialise
from neocog.models.mlp import MLP

DENSE = (256, 128, 64)
CONV = (32, 64)  # 3x3 without padding, each followed by a 2x2 max pool

TITLE = "Gradient-based learning applied to document recognition"
LINK = "https://doi.org/10.1109/5.726791"


def conv_pool(c_in: int, c_out: int, act: str) -> nn.Sequential:
    """(B, c_in, H, W) -> (B, c_out, (H - 2) // 2, (W - 2) // 2)"""
    # The deck's order is conv, ReLU, pool. Max and ReLU commute bit for bit (both keep the order of
    # numbers), and behind the pool ReLU touches a quarter of the values: a sixth more pictures per second.
    # So does whatever never falls; GELU and its kin do, and stay in front.
    conv, pool, bend = nn.Conv2d(c_in, c_out, 3), nn.MaxPool2d(2), pointwise(act)
    if find(act).rising:
        return nn.Sequential(OrderedDict(conv=conv, pool=pool, act=bend))
    return nn.Sequential(OrderedDict(conv=conv, act=bend, pool=pool))


class DigitConvNet(Network):
    """(B, C, H, W) -> (B, K). With `image_size` its head is dense and the size fixed, without it convolutional."""

    stage_channels = CONV
    stage_strides = (2, 4)
    min_size = 10

    def __init__(
        self, num_classes: int, in_channels: int, image_size: int | None, dropout: float, act: str = "relu"
    ) -> None:
        super().__init__()
        self.num_classes, self.in_channels, self.fixed_size = num_classes, in_channels, image_size
        self.stem = nn.Identity()
        self.stages = nn.Sequential()
        c = in_channels
        for number, width in enumerate(CONV, start=1):
            self.stages.add_module(f"conv{number}", conv_pool(c, width, act))
            c = width
        if image_size is None:
            self.classifier = "conv"
            layers: OrderedDict[str, nn.Module] = OrderedDict(
                conv=nn.Conv2d(c, num_classes, 1),
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
            )
        else:
            if image_size < self.min_size:
                raise ValueError(f"image_size = {image_size} leaves nothing after two pools; at least {self.min_size}")
            grid = ((image_size - 2) // 2 - 2) // 2
            layers = OrderedDict(
                flatten=nn.Flatten(),
                dropout=Dropout(dropout),
                fc=nn.Linear(c * grid**2, num_classes),
            )
        self.head = nn.Sequential(layers)
        initialise(self, "xavier_uniform")

    def embed(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 64) means of the last maps for the convolutional head, (B, 1600) for the dense one."""
        if self.fixed_size is not None:
            return super().embed(x)
        # A 1x1 convolution and a mean commute: the classifier's view of the picture is the mean itself.
        return self.stages(self.stem(x)).mean(dim=(2, 3))  # type: ignore[no-any-return]

    def reset_head(self, num_classes: int) -> None:
        if self.fixed_size is not None:
            super().reset_head(num_classes)
            return
        replace_conv_classifier(self.head, "conv", num_classes)
        self.num_classes = num_classes


@register(
    Spec(
        name="mnist_dense",
        idea="Three hidden layers that see all pixels at once.",
        title=TITLE,
        year=1998,
        link=LINK,
        table="course deck 003, fully connected version",
        input_shape=(1, 28, 28),
        num_classes=10,
        params=242_762,
        macs=242_304,
    )
)
def mnist_dense(*, num_classes: int = 10, in_channels: int = 1, image_size: int = 28, act: str = "relu") -> MLP:
    """`act`: layers/activations.py."""
    network = MLP(in_channels * image_size**2, DENSE, num_classes, in_channels, act)
    network.fixed_size = image_size
    initialise(network, "xavier_uniform")
    return network


@register(
    Spec(
        name="mnist_convnet",
        idea="Two small convolutions and one dense layer read digits.",
        title=TITLE,
        year=1998,
        link=LINK,
        table="course deck 003, convnet version",
        input_shape=(1, 28, 28),
        num_classes=10,
        params=34_826,
        macs=2_440_960,
    )
)
def mnist_convnet(
    *,
    num_classes: int = 10,
    in_channels: int = 1,
    image_size: int = 28,
    dropout: float | None = None,
    act: str = "relu",
) -> DigitConvNet:
    """`dropout` stands before the dense layer; the deck has none. `act`: layers/activations.py."""
    return DigitConvNet(num_classes, in_channels, image_size, dropout or 0.0, act)


@register(
    Spec(
        name="mnist_fcn",
        idea="No dense layer: a 1x1 convolution and an average read digits of any size.",
        title=TITLE,
        year=1998,
        link=LINK,
        table="course deck 003, fully convolutional version",
        input_shape=(1, 28, 28),
        num_classes=10,
        params=19_466,
        macs=2_440_960,
    )
)
def mnist_fcn(*, num_classes: int = 10, in_channels: int = 1, act: str = "relu") -> DigitConvNet:
    """`act`: layers/activations.py."""
    return DigitConvNet(num_classes, in_channels, None, 0.0, act)
