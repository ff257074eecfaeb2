"""What the loop asks of its parts, what steers it, and what it must remember."""

from collections.abc import Iterator, Mapping, Sized
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from neocog.core.contracts import Batch
from neocog.training.schedule import Schedule


class Loader(Sized, Protocol):
    """`epoch(e, skip)` gives the batches of pass `e`, without computing the first `skip` of them."""

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Batch]: ...


class Regime(Protocol):
    """Which parts of a network learn, when, and how fast."""

    def parts(self, network: nn.Module) -> list[tuple[str, list[nn.Parameter]]]: ...

    def enter(self, network: nn.Module, epoch: int) -> None:
        """Sets requires_grad and train or eval mode of every part for this epoch."""
        ...

    def rate(self, part: str, epoch: float) -> float:
        """The part's learning rate as a share of the schedule's, at a fractional epoch."""
        ...


class Watcher(Protocol):
    """Looks at a training from inside and changes nothing of it. Of several processes only the first one's is asked,
    except for `due`, on which all must agree."""

    def before_step(self) -> None:
        """The gradients are whole: added up, and averaged over all processes. The weights have not moved yet."""
        ...

    def after_step(self) -> None:
        """The weights have moved."""
        ...

    def due(self, before: int, after: int, batches: int) -> bool:
        """Whether a row is to be written within an epoch of so many batches, when `after` of them are done and the last
        time to ask was at `before`. Each epoch ends with one anyway."""
        ...

    def row(self) -> dict[str, Any]:
        """What was seen since the last row, as JSON can hold it; what is counted begins anew."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """What has been counted since the last row, for a checkpoint."""
        ...

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Goes on from what `tensors` gave. KeyError where it is not there."""
        ...


@dataclass(frozen=True)
class Recipe:
    """The numbers that steer the loop, a subset of the run's settings with `auto` resolved."""

    epochs: int | None  # None: a Budget plans them
    optimizer: str
    lr: float
    schedule: Schedule
    momentum: float = 0.9
    weight_decay: float = 0.01
    accumulate: int = 1
    clip_norm: float | None = None
    l1: float = 0.0
    ema: float | None = None
    patience: int | None = None
    seed: int = 0
    bf16: bool = False
    sync_batch_norm: bool = False
    shard: bool = False
