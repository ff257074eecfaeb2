"""What a page can say of a training that was looked at from inside, as plain data."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerCourse:
    """One number of a layer for each row in which there were steps; None where it did not learn."""

    name: str
    gradients: tuple[float | None, ...]  # mean norm
    largest: tuple[float | None, ...]  # norm
    updates: tuple[float | None, ...]  # mean |change of w| / |w|


@dataclass(frozen=True)
class Spread:
    """How the values of a stage were spread at one time: `counts` of bins of equal width from `low` to `high`."""

    epoch: float
    mean: float
    std: float
    low: float
    high: float
    counts: tuple[int, ...]


@dataclass(frozen=True)
class StageCourse:
    """`not_finite`: values that were infinite or no number, at any time."""

    name: str
    spreads: tuple[Spread, ...]  # first, middle, last
    not_finite: int = 0


@dataclass(frozen=True)
class RectifierCourse:
    """Dead at the start and at the end, with the weights that the network had then."""

    name: str
    channels: int
    dead_channels: tuple[int, int]
    units: int
    dead_units: tuple[int, int]


@dataclass(frozen=True)
class LossPlane:
    """Around the weights that were kept. `losses[i][j]`: at `places[j]` along the first direction and `places[i]` along
    the second; None: not finite."""

    places: tuple[float, ...]
    losses: tuple[tuple[float | None, ...], ...]
    pictures: int


@dataclass(frozen=True)
class WatchFacts:
    """`findings`: sentences, and whether each wants a remedy. `epochs`: where the rows with steps end;
    `last`: where the last row does."""

    findings: tuple[tuple[str, bool], ...]
    pictures: int
    epochs: tuple[float, ...]
    layers: tuple[LayerCourse, ...]
    stages: tuple[StageCourse, ...]
    rectifiers: tuple[RectifierCourse, ...]
    plane: LossPlane | None = None
    last: float = 0.0
