"""The learning rate, looked for: a short training in which it rises at every step, until the loss explodes.

Below some rate nothing happens, above another the weights fly apart, and a good rate lies between the two. Source:
Smith 2017, "Cyclical Learning Rates for Training Neural Networks", https://arxiv.org/abs/1506.01186, section 3.3
(the range test). There the rate rises linearly and the accuracy is watched; here, as fastai made it popular, it rises
by the same factor at every step and the loss is watched.

The search is a rehearsal: a copy of the network takes the loop's own steps with an optimizer of its own. So what a
step is (accumulation, clipping, L1, autocast, several processes) is the same by construction, and the run knows
nothing of it, however the rehearsal ends: the run that follows is bit for bit the one without it.
"""

import copy
import itertools
import math
import random
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from neocog.core.contracts import Batch, Network
from neocog.core.errors import Interrupted, UsageError
from neocog.training.contracts import Regime
from neocog.training.loop import Trainer
from neocog.training.schedule import Schedule

HIGHEST = {"sgd": 10.0}  # the others scale their steps themselves: at a rate of 1 every weight moves by about 1
FEWEST = 20  # steps that make a curve
EXPLODED = 4.0  # times the lowest smoothed loss, where the search ends (fastai)
MEMORY = 0.7  # the weight of a loss in the smoothed curve, beside that of its neighbour
SAFE = 10.0  # a suggestion stays below the rate of the lowest loss by this factor


@dataclass(frozen=True)
class Found:
    """`losses[i]`: the task's mean loss over the batches of step i, before the weights moved by `rates[i]`; all are
    finite. `smoothed`: the same with less noise, and nothing above twice the start. `suggestion`: the `lr` to train
    with, None where there is none to make; `why` says how it came about. `ended`: what ended the search."""

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    suggestion: float | None
    why: str
    ended: str


def find_rate(
    trainer: Trainer, *, lowest: float = 1e-7, highest: float | None = None, steps: int = 100, epoch: int = 0
) -> Found:
    """Looks for the peak rate with which this trainer's recipe learns well, from the weights it has now.

    `highest`: 1 by default, for sgd 10. `steps`: movements of the weights, over as many epochs of the loader as they
    take; with twice as many each rate has twice the time, and the suggestion is about 0.6 times as high. `epoch`:
    what learns is what the regime lets learn then, each part at the share of the rate it has at that epoch's end. The
    default is what learns first; a later phase starts from weights that do not exist yet.

    The trainer stays as it is, and so do the random generators of torch, NumPy and Python, also where an error passes
    through. (Loader, task and regime are the trainer's own, which keep no state.) The same trainer gives the same
    result again. Of several processes all must call, and all get the same result. It costs `steps` steps, and the
    memory of one more network with its optimizer.

    UsageError where the limits make no sense or the network is divided between processes, Interrupted after
    `trainer.stop`. A loss that is no longer finite is no error: many a search ends that way.
    """
    if highest is None:
        highest = HIGHEST.get(trainer.recipe.optimizer, 1.0)
    if not 0 < lowest < highest < math.inf:
        raise UsageError(
            f"no rate can be looked for between {lowest:g} and {highest:g}", "give two rates above 0, the lower first"
        )
    if steps < FEWEST:
        raise UsageError(f"a rate cannot be looked for in {steps} steps", f"give at least {FEWEST}")
    if len(trainer.loader) == 0:
        raise UsageError("a rate cannot be looked for without pictures", "give at least one batch to learn from")
    if trainer.world.size > 1 and trainer.recipe.shard:
        raise UsageError(
            "a rate cannot be looked for with a network that is divided between processes",
            "look for it without --shard, then give it as --lr",
        )
    rates = [lowest * (highest / lowest) ** (i / (steps - 1)) for i in range(steps)]
    ended = f"the highest rate ({highest:g}) was reached"
    beginning = steps // 10  # the first losses say from where it falls
    losses: list[float] = []
    total = count = 0.0
    least = math.inf
    with randomness_kept():
        try:
            for rate, loss in zip(rates, _Rehearsal(trainer, epoch).losses(rates), strict=True):
                losses.append(loss)
                trainer.events.emit("progress", what="rates", done=len(losses), total=steps)
                total, count = MEMORY * total + loss, MEMORY * count + 1
                if len(losses) > beginning:
                    least = min(least, total / count)
                    if total / count > EXPLODED * least:
                        ended = f"the loss rose above {EXPLODED:g} times its lowest (at a rate of {rate:.2g})"
                        break
        except _Diverged as error:
            ended = f"{error} ({f'after a rate of {rates[len(losses) - 1]:.2g}' if losses else 'at the first step'})"
    rates = rates[: len(losses)]
    smoothed = smooth(losses, beginning)
    suggestion, why = suggest(rates, losses, smoothed, beginning)
    return Found(rates, losses, smoothed, suggestion, why, ended)


def smooth(losses: Sequence[float], beginning: int) -> list[float]:
    """Means over both sides, in which each step away counts MEMORY times less. (A mean over the past alone, which is
    what decides when to stop, shows everything at a higher rate than where it happened.) Nothing counts more than
    twice the mean of the `beginning`: what explodes would drown its neighbours."""
    if not losses:
        return []
    values = np.minimum(losses, 2 * abs(np.mean(losses[:beginning])))
    places = np.arange(len(values))
    weights = MEMORY ** np.abs(places[:, None] - places)
    return [float(value) for value in weights @ values / weights.sum(1)]


def suggest(
    rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], beginning: int
) -> tuple[float | None, str]:
    """The rate at which half of the fall to the lowest loss was done, at most a tenth of that loss's rate, to two
    digits; None where nothing fell by more than the noise. And why.

    In the middle of its fall a loss falls fastest, and a level is found more surely than a slope. With six small
    problems and twelve seeds each the suggestions had a standard deviation of 0.06 to 0.16 decades, and a mean 2 to 5
    times below the best rate of a grid. The steepest slope varied by 0.16 to 0.43 decades, a tenth of the lowest loss's
    rate by 0.04 to 0.32, the "valley" of fastai by 0.11 to 0.32.
    """
    if len(losses) <= beginning:
        return None, f"the search ended after {len(losses)} steps, which is too early to compare rates"
    curve = np.array(smoothed)
    start = float(np.mean(losses[:beginning]))
    bottom = int(curve.argmin())
    fall = start - float(curve[bottom])
    noise = _noise(losses[: max(bottom, beginning) + 1])
    if fall <= max(2 * noise, 0.01 * abs(start)):
        return None, (
            f"the loss, {start:.3g} at the start, never fell by more than it differs from step to step ({noise:.2g})"
        )
    half = rates[int(np.flatnonzero(curve[: bottom + 1] >= start - fall / 2).max(initial=0))]
    why = f"half of the fall was done at a rate of {half:.2g}, the loss was lowest at {rates[bottom]:.2g}"
    return float(f"{min(half, rates[bottom] / SAFE):.1e}"), why


def _noise(losses: Sequence[float]) -> float:
    """Standard deviation of one loss, from the median size of the differences between neighbours: a slow fall and
    single outliers do not count. 1.4826 turns the median size of normal numbers into their standard deviation."""
    return float(1.4826 * np.median(np.abs(np.diff(losses))) / math.sqrt(2))


class _Diverged(Exception):
    """What is no longer finite."""


class _Rehearsal(Trainer):
    """Trains a copy of another trainer's network, writes nothing and tells nobody."""

    def __init__(self, trainer: Trainer, epoch: int) -> None:
        network = copy.deepcopy(trainer.network)
        # Batch norm that learns from all processes has been put in already.
        recipe = replace(trainer.recipe, schedule=Schedule("constant", 1), ema=None, sync_batch_norm=False)
        super().__init__(
            network, trainer.task, trainer.loader, _Held(trainer.regime, epoch), recipe,
            folder=trainer.folder, validate=trainer.validate, world=trainer.world,
        )  # fmt: skip
        self.original, self.first = trainer, epoch
        self.regime.enter(network, epoch)
        if isinstance(network, Network):
            planned = trainer.progress.planned
            network.schedule(min(epoch * len(self.loader) / planned, 1.0) if planned else 0.0)

    def losses(self, rates: Sequence[float]) -> Iterator[float]:
        """Before the weights move by each rate in turn: the mean loss of the batches they learn from."""
        with closing(self._batches()) as batches:
            for rate in rates:
                self.recipe = replace(self.recipe, lr=rate)
                total, pictures, moved = 0.0, 0, self.progress.steps
                while self.progress.steps == moved:
                    self._stop_signal = self.original._stop_signal
                    words = self._step(next(batches), save=False)
                    if words.signal:
                        raise Interrupted(
                            "stopped while a learning rate was looked for; nothing has been changed",
                            "give --lr to train without looking for one", words.signal,
                        )  # fmt: skip
                    total, pictures = total + words.loss * words.pictures, pictures + words.pictures
                yield total / pictures

    def _batches(self) -> Generator[Batch]:
        for number in itertools.count(self.first):
            self.progress.epoch, self.progress.batch = number, 0
            yield from self.loader.epoch(number)

    def _diverged(self, what: str, batch: Batch | None) -> None:
        raise _Diverged(what)


@dataclass(frozen=True)
class _Held:
    """A regime that stays at the end of one epoch, however many the rehearsal takes."""

    regime: Regime
    epoch: int

    def parts(self, network: nn.Module) -> list[tuple[str, list[nn.Parameter]]]:
        return self.regime.parts(network)

    def enter(self, network: nn.Module, epoch: int) -> None:
        self.regime.enter(network, self.epoch)

    def rate(self, part: str, epoch: float) -> float:
        return self.regime.rate(part, self.epoch + 1.0)


@contextmanager
def randomness_kept() -> Iterator[None]:
    """Leaves the global generators of torch (on every device), NumPy and Python as they were."""
    python, numpy, host = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(host)
        torch.cuda.set_rng_state_all(cuda)
        if mps is not None:
            torch.mps.set_rng_state(mps)
