"""The learning rate as a function of progress: a run resumed at any step finds the same rate again."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """`factor(epoch)` times the peak rate. `epoch` is a fraction: 2.5 is the middle of the third pass.

    constant   1
    step       gamma ** (epoch // step_epochs)
    plateau    gamma ** drops; the loop counts a drop after `step_epochs` epochs without a better loss
    cosine     from 1 to 0 along half a cosine (Loshchilov and Hutter 2017, equation 5, without restarts)
    one_cycle  up from 1/25 over the first 30 %, down along a cosine to 0 (Smith 2018)

    `warmup` epochs of linear rise come before all but one_cycle, whose rise is its own.
    """

    name: str
    epochs: float
    warmup: float = 0.0
    step_epochs: int = 10
    gamma: float = 0.1

    def factor(self, epoch: float, drops: int = 0) -> float:
        if self.name == "one_cycle":
            return self._one_cycle(min(epoch / self.epochs, 1.0))
        warmup = min(self.warmup, self.epochs / 2)  # a short run still gets to its peak
        if epoch < warmup:
            return epoch / warmup
        match self.name:
            case "constant":
                return 1.0
            case "step":
                return float(self.gamma ** (epoch // self.step_epochs))
            case "plateau":
                return self.gamma**drops
            case "cosine":
                return _cosine((epoch - warmup) / (self.epochs - warmup))
        raise ValueError(f"no schedule is called {self.name!r}")

    def _one_cycle(self, progress: float, rise: float = 0.3, start: float = 1 / 25) -> float:
        if progress < rise:
            return start + (1 - start) * _cosine(1 - progress / rise)
        return _cosine((progress - rise) / (1 - rise))


def _cosine(progress: float) -> float:
    """1 at progress 0, 0 at progress 1 and beyond."""
    return 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))
