"""Adversarial examples: changes of pixels, too small to matter to a person, that change the answer.

    fgsm   one step along the sign of the loss's gradient: Goodfellow, Shlens and Szegedy, "Explaining and Harnessing
           Adversarial Examples", ICLR 2015, arXiv:1412.6572, section 4
    pgd    many small ones from a random start, each brought back to within epsilon: Madry et al., "Towards Deep
           Learning Models Resistant to Adversarial Attacks", ICLR 2018, arXiv:1706.06083, section 2.1

All take pictures (B, C, H, W) and an epsilon on the 0..1 scale, labels (B,), and the `mean` and `std` (one figure per
channel, or those of colour for grey) by which the network wants its input normalised. They ask it in eval mode and
float32 (float64 where the pixels are), at most `at_once` pictures at a time, and leave it as it was. UsageError for
what is no picture, label or epsilon; DivergedError where a network answers with numbers that are not finite.

An attack that fails proves nothing: another one may succeed, and where the gradient is exactly 0, as in a network
whose answer is certain to the last bit, these have no direction to go in.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from neocog.core.errors import UsageError
from neocog.explaining.seen import Figures, Seen, check_labels, floats
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

    def change(x: Tensor, epsilon: Tensor, direction: Callable[[Tensor], Tensor]) -> Tensor:
        return (x + epsilon * direction(x)).clamp(0, 1)

    return _changed(Seen(network, mean, std, at_once), pixels, labels, epsilon, target, change)


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

    def change(x: Tensor, epsilon: Tensor, direction: Callable[[Tensor], Tensor]) -> Tensor:
        luck = torch.rand(x.shape, generator=generator, device=generator.device).to(x)
        at = (x + epsilon * (2 * luck - 1)).clamp(0, 1)
        for _ in range(steps):
            at = at + (REACH * epsilon / steps if step_size is None else step_size) * direction(at)
            at = at.clamp(x - epsilon, x + epsilon).clamp(0, 1)
        return at

    return _changed(Seen(network, mean, std, at_once), pixels, labels, epsilon, target, change)


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
    check_labels(labels, pixels)
    epsilon = torch.where(said == labels, math.nan, 0.0).to(found)
    below = torch.zeros_like(epsilon)

    def attempt(rows: Tensor, by: Tensor) -> None:
        changed = attack(network, pixels[rows], labels[rows], by, mean, std)
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
    for pixels, labels in batches:
        for place, epsilon in enumerate(epsilons):
            changed = attack(network, pixels, labels, epsilon, mean, std) if epsilon else pixels
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


def _changed(
    seen: Seen, pixels: Tensor, labels: Tensor, epsilon: float | Tensor, target: Tensor | None,
    change: Callable[[Tensor, Tensor, Callable[[Tensor], Tensor]], Tensor],
) -> Tensor:  # fmt: skip
    """`change(x, epsilon, direction)` of all pictures: x (B, C, H, W), epsilon (B, 1, 1, 1)."""
    x = floats(pixels)
    aim, sign = (labels, 1) if target is None else (target, -1)
    check_labels(aim, x)
    by = torch.as_tensor(epsilon, dtype=x.dtype, device=x.device).expand(len(x))[:, None, None, None]
    if not bool(((by >= 0) & (by <= 1)).all()):
        raise UsageError(f"epsilon {epsilon} is no change on the 0..1 scale", "give one from 0 to 1")

    def of(part: slice) -> Tensor:
        return change(x[part], by[part], lambda at: sign * seen.uphill(at, aim[part]).to(at.device))

    with untouched(seen.network):
        return torch.cat([of(part) for part in seen.parts(len(x))]).detach()
