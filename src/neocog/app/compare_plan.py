"""What a comparison plans before it trains: how far each candidate gets until which of them are dropped.

Successive halving (Karnin, Koren and Somekh, "Almost optimal exploration in multi-armed bandits", ICML 2013; Jamieson
and Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", AISTATS 2016): the rungs get
equal shares of the time, divided equally between those that are left, and after each rung the better half stays, until
two are left, which are both trained to the end. Each candidate learns from the start under the schedule of the length
that it has if it is never dropped. Lengths are whole epochs, planned once from the measured pace: so the run of the
winner is an ordinary one, which the same settings repeat bit for bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from neocog.training.budget import Pace

SLACK = 0.1  # of the time left, kept for what no measurement of a few steps foresaw
FINALISTS = 2  # whom the paired test compares
STEP = 0.98  # from a plan that is too long to the next shorter one


@dataclass(frozen=True)
class Measured:
    """Seconds of one candidate: `setup` before the first step of each sitting, `pace` of its batches, `validation`
    after each epoch, `ending` for the evaluation and the report. With `embedding` seconds its head learns from
    embeddings, in next to no time, and is trained to its end (`epochs_at_once`) in the first rung."""

    setup: float
    pace: Pace
    validation: float
    ending: float
    batches: int  # of an epoch
    embedding: float = 0.0
    epochs_at_once: int = 0

    def seconds(self, done: int, until: int) -> float:
        """Of the training from epoch `done` to `until`."""
        if self.epochs_at_once:
            return self.embedding if done < until else 0.0
        return self.pace.seconds(done * self.batches, until * self.batches) + (until - done) * self.validation

    def epochs(self, seconds: float) -> int:
        """How many fit into so many seconds."""
        share = self.validation / self.batches
        whole = Pace(self.pace.first + share, self.pace.later + share, self.pace.head_batches)
        return whole.batches(0, seconds) // self.batches


@dataclass(frozen=True)
class Plan:
    """R rungs. `sizes`: candidates in each; `seconds`: of training for each of them; `targets`: for every candidate the
    epochs it has learned after each rung."""

    sizes: list[int]
    seconds: list[float]
    targets: list[list[int]]


def halving(number: int) -> list[int]:
    """How many are left in each rung: 5 -> [5, 3, 2]."""
    sizes = [number]
    while sizes[-1] > FINALISTS:
        sizes.append(ceil(sizes[-1] / 2))
    return sizes


def make_plan(measured: Sequence[Measured], left: float, most: int | None = None) -> Plan | None:
    """The longest plan that ends within `left` seconds whoever stays; None where not even one epoch each does. `most`:
    epochs, where their number is given as well. Without rungs where their sittings would cost more than they save."""
    number = len(measured)
    plans = (_plan(measured, left * (1 - SLACK), most, sizes) for sizes in (halving(number), [number]))
    return max((plan for plan in plans if plan), key=lambda plan: sum(plan.seconds), default=None)


def _plan(measured: Sequence[Measured], available: float, most: int | None, sizes: list[int]) -> Plan | None:
    slow = [one for one in measured if not one.epochs_at_once]  # the others' time goes back to these
    counts = [min(size, len(slow)) for size in sizes]
    fixed = sum(one.setup + one.ending + one.embedding for one in measured if one.epochs_at_once)
    fixed += sum(sum(sorted((one.setup + one.ending for one in slow), reverse=True)[:count]) for count in counts)
    training = max(available - fixed, 0.0)
    scale = 1.0
    while True:
        shares = [scale * training / len(sizes) / count if count else 0.0 for count in counts]
        targets = [_targets(one, shares, most) for one in measured]
        if dearest(measured, targets, sizes) <= available:
            return Plan(sizes, shares, targets)
        if all(target[-1] == 1 for one, target in zip(measured, targets, strict=True) if not one.epochs_at_once):
            return None
        scale *= STEP  # an epoch is not divided, so the first rung may need more than its share


def _targets(one: Measured, shares: Sequence[float], most: int | None) -> list[int]:
    if one.epochs_at_once:
        return [one.epochs_at_once] * len(shares)
    sums = [sum(shares[: rung + 1]) for rung in range(len(shares))]
    return [max(1, min(one.epochs(seconds), most or one.epochs(seconds))) for seconds in sums]


def least(measured: Sequence[Measured]) -> float:
    """Seconds in which every candidate learns for one epoch."""
    targets = [[one.epochs_at_once or 1] for one in measured]
    return dearest(measured, targets, [len(measured)]) / (1 - SLACK)


def stretch(one: Measured, done: int, until: int) -> float:
    """Seconds of one candidate in one rung; 0 where it has nothing left to learn."""
    return one.setup + one.seconds(done, until) + one.ending if done < until else 0.0


def dearest(measured: Sequence[Measured], targets: Sequence[list[int]], sizes: Sequence[int], rung: int = 0) -> float:
    """Seconds from `rung` on if in each rung those stay that take the longest."""
    costs = ([stretch(one, ([0] + target)[at], target[at]) for one, target in zip(measured, targets, strict=True)]
             for at in range(rung, len(sizes)))  # fmt: skip
    return sum(sum(sorted(each, reverse=True)[:size]) for each, size in zip(costs, sizes[rung:], strict=True))


def ranked(scores: Sequence[tuple[float, float]]) -> list[int]:
    """Places by validation accuracy, the best first; ties by loss; then as they were given."""
    return sorted(range(len(scores)), key=lambda i: (-scores[i][0], scores[i][1]))
