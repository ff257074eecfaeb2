"""What the processes of a run tell each other in a step: one small message."""

from typing import NamedTuple

from neocog.core.contracts import Step
from neocog.training.world import World


class Words(NamedTuple):
    """What all know then. `share`: by what a process's own loss counts in the mean of all. `signal`: of a request to
    stop, 0 without one; `plan`: a new length of the run in batches, 0 without one."""

    loss: float
    correct: float | None
    pictures: int
    share: float
    signal: int
    plan: int
    save: bool
    parts: dict[str, float]


def exchange(
    world: World, step: Step, *, weight: float, correct: float | None, pictures: int, signal: int, plan: int, save: bool
) -> Words:
    """Of this process's step: `weight`, what its loss is a mean over. The plan and the time to save are the first
    one's. The loss and its parts become the means of all."""
    parts = [value.item() for value in step.parts.values()]
    own = [weight, correct or 0.0, pictures, signal, plan, save, step.loss.item(), *parts]
    said = world.gather([float(value) for value in own])
    total = sum(one[0] for one in said)
    loss, *parts = said[0][6:]
    if len(said) > 1:
        loss, *parts = (sum(one[i] * one[0] for one in said) / total for i in range(6, len(own)))
    return Words(
        loss, correct=None if correct is None else sum(one[1] for one in said),
        pictures=int(sum(one[2] for one in said)), signal=int(max(one[3] for one in said)), plan=int(said[0][4]),
        save=bool(said[0][5]), share=weight * len(said) / total, parts=dict(zip(step.parts, parts, strict=True)),
    )  # fmt: skip
