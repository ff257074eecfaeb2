"""How weights start: names to distributions, so that the schemes of the literature can be compared.

    paper           as the network's own paper says; the network is left as it was built
    pytorch         each layer's own default (uniform, bound 1 / sqrt(fan_in))
    uniform         U(-0.05, 0.05)      one width for all layers, whatever their size: signals fade or explode
    normal          N(0, 0.05^2)        the same with a bell curve
    constant        0.01                every unit of a layer starts, and stays, the same: for demonstration
    xavier_uniform  Glorot and Bengio, AISTATS 2010: variance 2 / (fan_in + fan_out), made for tanh
    xavier_normal
    he_uniform      He et al., ICCV 2015, arXiv:1502.01852: variance 2 / fan_in, made for ReLU
    he_normal

In every scheme but `paper` and `pytorch` biases start at 0. Norms start at scale 1 and shift 0 with fresh
statistics in every scheme but `paper`; they are no weights in the sense of these papers.
"""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import init

UNIFORM_BOUND = 0.05
NORMAL_STD = 0.05
CONSTANT = 0.01

SCHEMES: dict[str, Callable[[Tensor], object]] = {
    "uniform": lambda w: init.uniform_(w, -UNIFORM_BOUND, UNIFORM_BOUND),
    "normal": lambda w: init.normal_(w, std=NORMAL_STD),
    "constant": lambda w: init.constant_(w, CONSTANT),
    "xavier_uniform": init.xavier_uniform_,
    "xavier_normal": init.xavier_normal_,
    "he_uniform": lambda w: init.kaiming_uniform_(w, nonlinearity="relu"),
    "he_normal": lambda w: init.kaiming_normal_(w, nonlinearity="relu"),
}


def initialise(module: nn.Module, scheme: str) -> None:
    """Draws the weights of every layer in `module` anew, in place, from PyTorch's global generator.

    ValueError for a scheme that is not in the table above.
    """
    if scheme == "paper":
        return
    if scheme not in SCHEMES and scheme != "pytorch":
        raise ValueError(f"init = {scheme!r} is none of paper, pytorch, {', '.join(SCHEMES)}")
    for layer in module.modules():
        reset = getattr(layer, "reset_parameters", None)
        if callable(reset):
            reset()
        if scheme != "pytorch" and isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear):
            SCHEMES[scheme](layer.weight)
            if layer.bias is not None:
                init.zeros_(layer.bias)


def he_fan_out(module: nn.Module) -> None:
    """N(0, 2 / fan_out) for convolutions, in place, biases 0: keeps the gradient's size on the way back.

    PyTorch's fan-out counts all filters of a grouped convolution, so a depthwise one starts smaller than that;
    as published recipes have it. The batch norm behind it restores the scale.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                init.zeros_(layer.bias)
