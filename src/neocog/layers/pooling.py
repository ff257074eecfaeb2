"""Pooling: one number for a neighbourhood. What was seen is kept, exactly where it was seen is not.

max      the strongest answer in each window
average  the mean of each window; zeros of the padding count, as everywhere in PyTorch
sum      the sum of each window: LeNet-5's subsampling in front of its coefficient (LeCun et al. 1998)
global   the whole map becomes one number, as a rule its mean: Lin et al., "Network In Network", arXiv:1312.4400

out = (in + 2 padding - kernel_size) // stride + 1     height and width alike; stride is the kernel's size
                                                       unless given
"""

import inspect
from collections.abc import Callable

from torch import Tensor, nn

from neocog.core.errors import did_you_mean


class SumPool2d(nn.AvgPool2d):
    """(B, C, H, W) -> (B, C, H', W')"""

    def __init__(self, kernel_size: int, stride: int | None = None, padding: int = 0) -> None:
        # Divided by 1 instead of the number of pixels, a mean is a sum.
        super().__init__(kernel_size, stride, padding, divisor_override=1)


class GlobalPool2d(nn.Module):
    """(B, C, H, W) -> (B, C, 1, 1), the average, max or sum of each map, whatever its size."""

    def __init__(self, of: str = "average") -> None:
        super().__init__()
        if of not in ("average", "max", "sum"):
            raise ValueError(f"of = {of!r} is none of average, max, sum")
        self.of = of

    def forward(self, x: Tensor) -> Tensor:
        if self.of == "max":
            return x.amax(dim=(2, 3), keepdim=True)
        return x.mean(dim=(2, 3), keepdim=True) if self.of == "average" else x.sum(dim=(2, 3), keepdim=True)

    def extra_repr(self) -> str:
        return f"of={self.of!r}"


POOLINGS: dict[str, Callable[..., nn.Module]] = {
    "max": nn.MaxPool2d,
    "average": nn.AvgPool2d,
    "sum": SumPool2d,
    "global": GlobalPool2d,
}


def pooling(name: str, **options: object) -> nn.Module:
    """The module of a name: pooling("max", kernel_size=3, stride=2), pooling("global", of="max"). ValueError for
    a name or an option that there is not."""
    if name not in POOLINGS:
        raise ValueError(
            f"there is no pooling {name!r}; {did_you_mean(name, POOLINGS) or 'one of ' + ', '.join(POOLINGS)}"
        )
    known = list(inspect.signature(POOLINGS[name]).parameters)
    for option in options:
        if option not in known:
            raise ValueError(f"{name} pooling has no option {option!r}; it has {', '.join(known)}")
    return POOLINGS[name](**options)
