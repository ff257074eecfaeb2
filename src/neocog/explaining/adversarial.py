"""Adversarial examples: changes of pixels, too small to matter to a person, that change the answer.

    fgsm   one step along the sign of the loss's gradient: Goodfellow, Shlens and Szegedy, "Explaining and Harnessing
           Adversarial Examples", ICLR 2015, arXiv:1412.6572, section 4
    pgd    many small ones from a random start, each brought back to within epsilon: Madry et al., "Towards Deep
           Learning Models Resistant to Adversarial Attacks", ICLR 2018, arXiv:1706.06083, section 2.1

All take pictures (B, C, H, W) and an epsilon on the 0..1 scale, labels (B,), and the `mean` and `std` (one figure per
channel, one for all, or those of colour) by which the network wants its input normalised. They ask it in eval mode and
in its parameters' own type, at most `at_once` pictures at a time, and leave it as it was; pixels come back as float32
(float64 where they were that). UsageError for what is no picture, label or epsilon; DivergedError where a network
answers with numbers that are not finite.

An attack that fails proves nothing: another one may succeed, and where the gradient is exactly 0, as in a network
whose answer is certain to the last bit, these have no direction to go in.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from neocog.core.errors import UsageError
from neocog.explaining.seen import Figures, Seen, floats, numbers_of
from neocog.explaining.taps import untouched

AT_ONCE = 64  # pictures
STEPS, REACH = 10, 2.5  # of pgd; its steps together are so many times epsilon (Madry et al., section 5)
DOUBLINGS, HALVINGS = 9, 6  # of the search for the smallest epsilon: from limit / 512, to within a sixty-fourth


class Attack(Protocol):
    """`fgsm`, or `functools.partial(pgd, generator=...)`. `epsilon`: one for all, or (B,)."""

    def __call__(
        self, network: nn.Module, pixels: Tensor, labels: Tensor, epsilon: float | Tensor, mean: Figures, std: Figures
    ) -> Tensor: ...


def fgsm(
    network: nn.Module, pixels: Tensor, labels: Tensor, epsilon: float | Tensor, mean: Figures, std: Figures,
    target: Tensor | None = None, *, at_once: int = AT_ONCE,
) -> Tensor:  # fmt: skip
    """The pictures with each pixel moved by `epsilon` (one for all, or (B,)) so that the loss of the label rises, or,
    with `target` (B,), that the target's falls; cut to 0..1."""
    x = floats(pixels)
    by = _changes(epsilon, x)
    return _stepped(x, by, _directions(Seen(network, mean, std, at_once), x, labels, target))


def pgd(
    network: nn.Module, pixels: Tensor, labels: Tensor, epsilon: float | Tensor, mean: Figures, std: Figures,
    target: Tensor | None = None, *, generator: torch.Generator, steps: int = STEPS, step_size: float | None = None,
    at_once: int = AT_ONCE,
) -> Tensor:  # fmt: skip
    """`fgsm` in `steps` steps of `step_size` (default: 2.5 * epsilon / steps) that begin anywhere within `epsilon`, as
    `generator` draws it. What comes back is where the last step ended."""
    if steps < 1:
        raise UsageError(f"{steps} steps lead nowhere", "give at least 1")
    if step_size is not None and not 0 < step_size <= 1:
        raise UsageError(f"a step of {step_size} cannot be taken on the 0..1 scale", "give one above 0, up to 1")

    x, seen = floats(pixels), Seen(network, mean, std, at_once)
    by, (aim, sign) = _changes(epsilon, x), _aim(x, labels, target)
    step = REACH * by / steps if step_size is None else torch.full_like(by, step_size)

    def walked(part: slice) -> Tensor:
        start, within = x[part], by[part]
        luck = torch.rand(start.shape, generator=generator, device=generator.device).to(x)
        at = (start + within * (2 * luck - 1)).clamp(0, 1)
        for _ in range(steps):
            at = at + step[part] * sign * seen.uphill(at, aim[part]).to(x.device)
            at = at.clamp(start - within, start + within).clamp(0, 1)
        return at

    with untouched(network):
        return torch.cat([walked(part) for part in seen.parts(len(x))]).detach()


class Smallest(NamedTuple):
    """By picture. `epsilon`: the smallest one found with which the attack changes the answer, 0 where it was not the
    label to begin with, NaN where none up to the limit does. `below`: the largest smaller one tried, with which it did
    not. `pixels`: the picture changed by `epsilon`, and `answers` what the network says of it."""

    epsilon: Tensor  # (B,)
    below: Tensor  # (B,)
    pixels: Tensor  # (B, C, H, W)
    answers: Tensor  # (B,)


def smallest_epsilon(
    network: nn.Module, pixels: Tensor, labels: Tensor, mean: Figures, std: Figures, *, attack: Attack = fgsm,
    limit: float = 0.5,
) -> Smallest:  # fmt: skip
    """The attack is tried with limit / 512, / 256, ..., `limit`; between the first of them that succeeds and the one
    before, by halves. Success is not monotone in epsilon, nor is pgd's luck the same twice: a smaller epsilon than the
    one found may succeed too, and one between it and the limit may fail."""
    if not 0 < limit <= 1:
        raise UsageError(f"no change can be looked for up to {limit}", "give a limit above 0, up to 1")
    found, said = floats(pixels).clone(), answers(network, pixels, mean, std)
    labels = numbers_of(labels, pixels)
    epsilon = torch.where(said == labels, math.nan, 0.0).to(found)
    below = torch.zeros_like(epsilon)

    attacked = _attacked(attack, network, pixels, labels, mean, std)

    def attempt(rows: Tensor, by: Tensor) -> None:
        changed = attacked(rows, by)
        new = answers(network, changed, mean, std)
        hit = new != labels[rows]
        below[rows[~hit]] = by[~hit]
        won = rows[hit]
        epsilon[won], found[won], said[won] = by[hit], changed[hit], new[hit]

    for doubling in range(DOUBLINGS, -1, -1):
        rows = epsilon.isnan().nonzero()[:, 0]
        if len(rows):
            attempt(rows, torch.full_like(epsilon[rows], limit / 2**doubling))
    rows = (epsilon > 0).nonzero()[:, 0]
    for _ in range(HALVINGS if len(rows) else 0):
        attempt(rows, (below[rows] + epsilon[rows]) / 2)
    return Smallest(epsilon, below, found, said)


def accuracy_against(
    network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], epsilons: Sequence[float], mean: Figures,
    std: Figures, attack: Attack = fgsm,
) -> list[tuple[float, float]]:  # fmt: skip
    """(epsilon, share of the pictures still answered rightly) of each; with 0 that of the pictures as they are.
    `batches`: of (pixels, labels), gone through once."""
    right, count = [0] * len(epsilons), 0
    for pixels, classes in batches:
        labels = numbers_of(classes, pixels)
        attacked, rows = _attacked(attack, network, pixels, labels, mean, std), torch.arange(len(pixels))
        for place, epsilon in enumerate(epsilons):
            changed = attacked(rows, epsilon) if epsilon else pixels
            right[place] += int((answers(network, changed, mean, std) == labels).sum())
        count += len(labels)
    if not count:
        raise UsageError("there are no pictures to attack", "give at least one batch")
    return [(epsilon, n / count) for epsilon, n in zip(epsilons, right, strict=True)]


def answers(network: nn.Module, pixels: Tensor, mean: Figures, std: Figures, *, at_once: int = AT_ONCE) -> Tensor:
    """(B, C, H, W) in 0..1 -> (B,) class numbers, on the pixels' device."""
    seen, x = Seen(network, mean, std, at_once), floats(pixels)
    with untouched(network), torch.no_grad():
        found = [seen.beliefs(x[part]).argmax(1).to(x.device) for part in seen.parts(len(x))]
    return torch.cat(found)


def _attacked(
    attack: Attack, network: nn.Module, pixels: Tensor, labels: Tensor, mean: Figures, std: Figures
) -> Callable[[Tensor, float | Tensor], Tensor]:
    """The attack as a function of rows (b,) and epsilon. fgsm goes in one direction, whatever epsilon is: it is asked
    once for all, which a picture's page and an accuracy against epsilon need ten times and more."""
    if attack is not fgsm:
        return lambda rows, epsilon: attack(network, pixels[rows], labels[rows], epsilon, mean, std)
    x = floats(pixels)
    directions = _directions(Seen(network, mean, std, AT_ONCE), x, labels, None)
    return lambda rows, epsilon: _stepped(x[rows], _changes(epsilon, x[rows]), directions[rows])


def _directions(seen: Seen, x: Tensor, labels: Tensor, target: Tensor | None) -> Tensor:
    """(B, C, H, W) -> -1, 0 or 1 of each pixel: where the loss of the label rises, or that of `target` falls."""
    aim, sign = _aim(x, labels, target)
    with untouched(seen.network):
        return torch.cat([sign * seen.uphill(x[part], aim[part]).to(x.device) for part in seen.parts(len(x))])


def _aim(x: Tensor, labels: Tensor, target: Tensor | None) -> tuple[Tensor, int]:
    """The classes whose loss counts, and whether it shall rise or fall."""
    aim, sign = (labels, 1) if target is None else (target, -1)
    return numbers_of(aim, x), sign


def _stepped(x: Tensor, by: Tensor, directions: Tensor) -> Tensor:
    return (x + by * directions).clamp(0, 1).detach()


def _changes(epsilon: float | Tensor, x: Tensor) -> Tensor:
    """(B, 1, 1, 1)"""
    given = torch.as_tensor(epsilon, dtype=x.dtype, device=x.device)
    if given.shape not in ((), (1,), (len(x),)):
        raise UsageError(f"epsilon is {tuple(given.shape)} for {len(x)} pictures", "give one for all, or one for each")
    by = given.expand(len(x))[:, None, None, None]
    if not bool(((by >= 0) & (by <= 1)).all()):
        raise UsageError(f"epsilon {epsilon} is no change on the 0..1 scale", "give one from 0 to 1")
    return by
