"""The perceptron: one layer of weights, each class a weighted sum of the pixels.

It separates what a plane can separate and nothing more; everything else in the zoo is measured against it.

Paper: Rosenblatt, "The perceptron: a probabilistic model for information storage and organization in the
brain", Psychological Review 65, 1958, doi:10.1037/h0042519.
Differs from the paper: the units give scores for a softmax instead of firing at a threshold, and learn by
gradient instead of Rosenblatt's rule, which has no loss to follow; the random, fixed layer of association
units before them is left out.
"""

from collections import OrderedDict

from torch import nn

from neocog.core.contracts import Network
from neocog.core.registry import register
from neocog.core.spec import Spec


class Perceptron(Network):
    """(B, C, S, S) -> (B, K), S the image size. No stages: `embed` is the picture itself, flattened."""

    stage_channels = ()
    stage_strides = ()

    def __init__(self, num_classes: int, in_channels: int, image_size: int) -> None:
        super().__init__()
        self.num_classes, self.in_channels, self.fixed_size = num_classes, in_channels, image_size
        self.stem = nn.Flatten()  # (B, C * S * S)
        self.stages = nn.Sequential()
        fc = nn.Linear(in_channels * image_size**2, num_classes)
        # The loss of one layer has a single valley: where the weights start does not matter, so at zero.
        nn.init.zeros_(fc.weight)
        nn.init.zeros_(fc.bias)
        self.head = nn.Sequential(OrderedDict(fc=fc))


@register(
    Spec(
        name="perceptron",
        idea="One weighted sum of the pixels per class.",
        title="The perceptron: a probabilistic model for information storage and organization in the brain",
        year=1958,
        link="https://doi.org/10.1037/h0042519",
        table="Figure 1",
        input_shape=(1, 28, 28),
        num_classes=10,
        params=7_850,
        macs=7_840,
    )
)
def perceptron(*, num_classes: int = 10, in_channels: int = 1, image_size: int = 28) -> Perceptron:
    return Perceptron(num_classes, in_channels, image_size)
