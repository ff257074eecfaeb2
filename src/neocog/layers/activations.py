"""The bend between two layers. Without one, any number of layers is one linear layer.

step        1 if x > 0 else 0           McCulloch and Pitts 1943: fires or not; no gradient passes
sigmoid     1 / (1 + exp(-x))           slope at most 1/4: through many layers the gradient vanishes
tanh        tanh(x)                     the same around 0
relu        max(0, x)                   Nair and Hinton, ICML 2010
leaky_relu  x, or a x below 0           Maas et al., ICML workshop 2013; a = 0.01
elu         x, or a (exp(x) - 1)        Clevert et al., arXiv:1511.07289; a = 1
selu        s elu(x, a)                 Klambauer et al., arXiv:1706.02515; keeps mean 0 and variance 1
gelu        x P(N(0, 1) <= x)           Hendrycks and Gimpel, arXiv:1606.08415
silu        x sigmoid(x)                the same paper; "swish" of Ramachandran et al., arXiv:1710.05941
hard_swish  x clip(x + 3, 0, 6) / 6     Howard et al. (MobileNetV3), arXiv:1905.02244: silu without exp
softmax     exp(x_i) / sum_j exp(x_j)   over the channels: scores become shares
maxout      max of k channels           Goodfellow et al., ICML 2013, arXiv:1302.4389: a learnt bend
"""

import inspect
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from neocog.core.errors import did_you_mean


class Step(nn.Module):
    """Any shape -> the same shape."""

    def forward(self, x: Tensor) -> Tensor:
        return (x > 0).to(x.dtype)


class Maxout(nn.Module):
    """(B, pieces * C, ...) -> (B, C, ...): the largest of every `pieces` neighbouring channels.

    The layer in front makes `pieces` linear answers for each output; their maximum is a convex bend.
    ValueError where the channels do not divide.
    """

    def __init__(self, pieces: int = 2) -> None:
        super().__init__()
        if pieces < 1:
            raise ValueError(f"pieces = {pieces} must be at least 1")
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] % self.pieces:
            raise ValueError(f"maxout of {self.pieces} pieces cannot share {x.shape[1]} channels evenly")
        return torch.unflatten(x, 1, (-1, self.pieces)).max(dim=2).values

    def extra_repr(self) -> str:
        return f"pieces={self.pieces}"


def softmax(dim: int = 1) -> nn.Softmax:
    return nn.Softmax(dim)


class Activation(NamedTuple):
    build: Callable[..., nn.Module]
    pointwise: bool  # each value by itself, so that the shape stays
    rising: bool  # never falls: then it commutes with a maximum


#                     module        pointwise rising
ACTIVATIONS = {
    "step":       Activation(Step,         True,  True),
    "sigmoid":    Activation(nn.Sigmoid,   True,  True),
    "tanh":       Activation(nn.Tanh,      True,  True),
    "relu":       Activation(nn.ReLU,      True,  True),
    "leaky_relu": Activation(nn.LeakyReLU, True,  True),
    "elu":        Activation(nn.ELU,       True,  True),
    "selu":       Activation(nn.SELU,      True,  True),
    "gelu":       Activation(nn.GELU,      True,  False),
    "silu":       Activation(nn.SiLU,      True,  False),
    "hard_swish": Activation(nn.Hardswish, True,  False),
    "softmax":    Activation(softmax,      False, False),
    "maxout":     Activation(Maxout,       False, False),
}  # fmt: skip
ALIASES = {"swish": "silu"}


def find(name: str) -> Activation:
    """The row of a name or alias; ValueError with the nearest names otherwise."""
    key = ALIASES.get(name, name)
    if key not in ACTIVATIONS:
        known = [*ACTIVATIONS, *ALIASES]
        raise ValueError(
            f"there is no activation {name!r}; {did_you_mean(name, known) or 'one of ' + ', '.join(known)}"
        )
    return ACTIVATIONS[key]


def activation(name: str, **options: object) -> nn.Module:
    """The module of a name: activation("leaky_relu", negative_slope=0.2). ValueError for a name or an option
    that there is not."""
    build, known = find(name).build, options_of(name)
    for option in options:
        if option not in known:
            raise ValueError(f"{name} has no option {option!r}; it has {', '.join(known) or 'none'}")
    return build(**options)


def pointwise(name: str) -> nn.Module:
    """The activation for the inside of a network whose layers keep their widths, in place where it can.
    ValueError for one that mixes channels."""
    if not find(name).pointwise:
        fitting = ", ".join(key for key, row in ACTIVATIONS.items() if row.pointwise)
        raise ValueError(f"{name} joins channels and has no place between these layers; one of {fitting}")
    return activation(name, inplace=True) if "inplace" in options_of(name) else activation(name)


def options_of(name: str) -> list[str]:
    """What `activation(name)` takes besides the name."""
    parameters = inspect.signature(find(name).build).parameters.values()
    # A module without a constructor of its own has nn.Module's *args and **kwargs.
    return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
