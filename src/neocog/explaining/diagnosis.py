"""What the rows of a watched training say, in sentences. Each threshold has a source, or says that it is ours.

    VANISHING   the first layer's gradient below a thousandth of the last one's. That gradients shrink layer by layer:
                Hochreiter 1991; Glorot and Bengio, AISTATS 2010, figure 7. The number is ours
    EXPLODING   gradients ten times those of the first row: Pascanu, Mikolov and Bengio, ICML 2013, arXiv:1211.5063,
                section 3.2, let a step pass up to ten times the mean norm. Or on its way back a thousand times larger
    DEAD        the share of a rectifier's channels from which it is grave: "as much as 40 %" die where the rate is too
                high, CS231n, "Neural Networks Part 1"
    UPDATE      |change of w| / |w| at a step, "somewhere around 1e-3", CS231n, "Neural Networks Part 3"; ten times less
                or more is taken for too small or too large, which is ours

Of a layer that learns over several rows the median counts, so no single row decides. The rows are those of `steps.py`
and `inside.py` as watch.jsonl holds them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from neocog.core.words import counted

VANISHING = 1e-3
EXPLODING = 10.0
GROWING_BACK = 1e3
DEAD = 0.4
UPDATE = 1e-3
UPDATES = UPDATE / 10, UPDATE * 10
NAMED = 4  # layers in a sentence

Row = dict[str, Any]


@dataclass(frozen=True)
class Finding:
    """`grave`: it wants a remedy, which the text names."""

    what: str  # not finite, exploding, vanishing, gradient, dead, update
    grave: bool
    text: str


@dataclass(frozen=True)
class Diagnosis:
    """`main`: the gravest finding. `numbers`: what the sentences are made of; None where it could not be measured."""

    findings: tuple[Finding, ...]
    numbers: dict[str, float | int | None]

    @property
    def main(self) -> Finding:
        return next((one for one in self.findings if one.grave), self.findings[0])

    @property
    def summary(self) -> str:
        """The main finding, and the dead channels where there are some."""
        dead = [one.text for one in self.findings if one.what == "dead" and self.numbers["dead_channels"]]
        return " ".join(dict.fromkeys([self.main.text, *dead]))


def diagnose(rows: Sequence[Row]) -> Diagnosis:
    """`rows`: in their order, at least one."""
    back, growth = first_to_last(rows), growing(rows)
    dead = [(one["rectifier"], one["channels_dead"], one["channels"]) for one in rows[-1]["rectifiers"]]
    update = middle([layer["update_ratio_mean"] for row in rows for layer in row["layers"]])
    broken = not_finite(rows)
    findings = (
        *of_broken(broken), *of_gradients(rows, back, growth), *of_dead(dead, rows[-1]["pictures"], rows[-1]["epoch"]),
        *of_update(update),
    )  # fmt: skip
    numbers: dict[str, float | int | None] = {
        "first_to_last_gradient": back, "gradient_growth": growth, "update_ratio": update,
        "dead_channels": sum(n for _, n, _ in dead), "channels": sum(n for *_, n in dead), "not_finite": len(broken),
    }  # fmt: skip
    return Diagnosis(findings, numbers)


def middle(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def line_of(rows: Sequence[Row]) -> list[str]:
    """The layers that learned in any row, from the picture to the answer; auxiliary heads stand beside the line."""
    learned = {layer["layer"] for row in rows for layer in row["layers"] if layer["gradient_norm_mean"] is not None}
    names = [layer["layer"] for layer in rows[-1]["layers"]]
    return [name for name in names if name in learned and not name.startswith("auxiliary")]


def gradients(rows: Sequence[Row], layer: str) -> list[float | None]:
    return [one["gradient_norm_mean"] for row in rows for one in row["layers"] if one["layer"] == layer]


def to_last(rows: Sequence[Row], layer: str) -> float | None:
    """A layer's gradient by that of the last layer."""
    pairs = zip(gradients(rows, layer), gradients(rows, line_of(rows)[-1]), strict=True)
    return middle([own / last for own, last in pairs if own is not None and last])


def first_to_last(rows: Sequence[Row]) -> float | None:
    """None where fewer than three layers learned."""
    line = line_of(rows)
    return to_last(rows, line[0]) if len(line) > 2 else None


def growing(rows: Sequence[Row]) -> float | None:
    """The largest norm of the whole gradient in a row, by that of the first row with steps."""
    squares = [[v**2 for one in row["layers"] if (v := one["gradient_norm_mean"]) is not None] for row in rows]
    norms = [sum(values) ** 0.5 for values in squares if values]
    return max(norms) / norms[0] if norms and norms[0] else None


def not_finite(rows: Sequence[Row]) -> list[str]:
    """The layers and stages of which something was infinite or no number."""
    layers = (
        one["layer"] for row in rows for one in row["layers"] if one["steps"] and one["gradient_norm_mean"] is None
    )
    stages = (one["stage"] for row in rows for one in row["stages"] if one["not_finite"])
    return list(dict.fromkeys([*layers, *stages]))


def of_broken(names: Sequence[str]) -> Iterator[Finding]:
    if names:
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        text = f"Numbers became infinite in {', '.join(names[:NAMED])}{more}: use a smaller --lr, or --clip-norm 1."
        yield Finding("not finite", True, text)


def of_gradients(rows: Sequence[Row], back: float | None, growth: float | None) -> Iterator[Finding]:
    line = line_of(rows)
    if growth is not None and growth > EXPLODING:
        text = f"The gradient explodes: its norm grew to {short(growth)} times that of the start"
        yield Finding("exploding", True, f"{text} (more than {EXPLODING:g}): use a smaller --lr, or --clip-norm 1.")
    if back is None:
        few = "too few layers learned to compare the first with the last"
        yield Finding("gradient", False, f"Of the gradient's way back nothing can be said: {few}.")
        return
    words = f"its norm in the first layer that learned, {line[0]}, is {short(back)} times that in the last, {line[-1]}"
    if back < VANISHING:
        small = sum((to_last(rows, name) or 0.0) < VANISHING for name in line)
        text = (
            f"The gradient vanishes on its way back: {words}; {small} of {len(line)} layers get less than a thousandth"
        )
        yield Finding("vanishing", True, f"{text}. Shortcuts, batch norm, ReLU or another --init keep it alive.")
    elif back > GROWING_BACK:
        text = f"The gradient grows on its way back: {words}. Batch norm, another --init or --clip-norm 1 hold it"
        yield Finding("exploding", True, f"{text}.")
    else:
        yield Finding("gradient", False, f"The gradient reaches the first layer: {words}.")


def of_dead(dead: Sequence[tuple[str, int, int]], pictures: int, epoch: float) -> Iterator[Finding]:
    if not dead:
        yield Finding("dead", False, "The network has no ReLU, so no unit can be dead.")
        return
    number, channels = sum(n for _, n, _ in dead), sum(n for *_, n in dead)
    when, many = f"After epoch {epoch:.4g},", counted(channels, "channel")
    if not number:
        text = f"{when} none of the {many} behind ReLUs is dead: each gives something for some picture."
        yield Finding("dead", False, text)
        return
    worst = sorted((one for one in dead if one[1]), key=lambda one: -one[1] / one[2])
    named = ", ".join(f"{n} of {count} in {name or 'the network'}" for name, n, count in worst[:NAMED])
    more = f", and some in {len(worst) - NAMED} more" if len(worst) > NAMED else ""
    few, seen = "one" if number == 1 else f"{number:,}", counted(pictures, "picture")
    text = f"{when} {few} of the {many} behind ReLUs {'is' if number == 1 else 'are'} dead, 0 for "
    text += f"{'the one picture' if pictures == 1 else f'all {seen}'}: {named}{more}."
    grave = worst[0][1] / worst[0][2] >= DEAD
    yield Finding("dead", grave, text + (" A smaller --lr, or batch norm, leaves more alive." if grave else ""))


def of_update(update: float | None) -> Iterator[Finding]:
    if update is None:
        return
    low, high = UPDATES
    what = f"A step changes a layer's weights by {short(update)} of their size (median over layers and rows)"
    if update < low:
        text, more = f"{what}, less than {low:g}: they hardly move", "; a larger --lr may learn faster"
    elif update > high:
        text, more = f"{what}, more than {high:g}: large steps", "; a smaller --lr may learn more steadily"
    else:
        text, more = f"{what}, about the {UPDATE:g} that the rule of thumb asks for", ""
    yield Finding("update", False, f"{text}{more}.")


def short(value: float) -> str:
    """0.000012 -> "1.2e-05"; 3.14159 -> "3.1"."""
    return f"{value:.2g}"
