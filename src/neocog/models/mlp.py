"""The multilayer perceptron: sums of sums, with a bend in between that makes them more than one sum.

Paper: Rumelhart, Hinton and Williams, "Learning representations by back-propagating errors", Nature 323,
1986, doi:10.1038/323533a0.
Differs from the paper: ReLU (Nair and Hinton, ICML 2010) unless `act` says otherwise; the paper's is the
logistic function, "sigmoid". The sizes 8-32-32-2 are those of the course's third deck, whose table ROWS is.
"""

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from neocog.core.contracts import Network
from neocog.core.registry import register
from neocog.core.spec import Spec
from neocog.layers.activations import pointwise

#       in  out   parameters
ROWS = (
    ( 8,  32),  #   288
    (32,  32),  # 1,056
    (32,   2),  #    66
)  # fmt: skip


class MLP(Network):
    """(B, ...) with `in_features` numbers per row -> (B, K).

    Every hidden layer is a stage of stride 0: after it there is no grid. `features` gives (B, width) each.
    """

    def __init__(
        self, in_features: int, widths: Sequence[int], num_classes: int, in_channels: int, act: str = "relu"
    ) -> None:
        super().__init__()
        self.num_classes, self.in_channels = num_classes, in_channels
        self.stage_channels = tuple(widths)
        self.stage_strides = (0,) * len(widths)
        self.stem = nn.Flatten()  # (B, in_features)
        self.stages = nn.Sequential()
        for number, width in enumerate(widths, start=1):
            layer = OrderedDict(fc=nn.Linear(in_features, width), act=pointwise(act))
            self.stages.add_module(f"dense{number}", nn.Sequential(layer))
            in_features = width
        self.head = nn.Sequential(OrderedDict(fc=nn.Linear(in_features, num_classes)))


@register(
    Spec(
        name="mlp_8_32_32_2",
        idea="Two hidden layers of 32 units for a table of eight numbers.",
        title="Learning representations by back-propagating errors",
        year=1986,
        link="https://doi.org/10.1038/323533a0",
        table="course deck 003, summary of the fully connected network",
        input_shape=(8,),
        num_classes=2,
        params=1_410,
        macs=1_344,
    )
)
def mlp_8_32_32_2(*, num_classes: int = 2, in_channels: int = 8, act: str = "relu") -> MLP:
    """`in_channels` is the number of columns: the input is (B, in_channels). `act`: layers/activations.py."""
    return MLP(in_channels, [width for _, width in ROWS[:-1]], num_classes, in_channels, act)
