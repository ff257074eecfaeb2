"""Prints docs/transfer.md from what bench/transfer.py and bench/finetune.py measured; `scripts/docs` writes it. With
`--picture` it prints docs/transfer.svg."""

import json
import sys
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from statistics import mean, median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "docs"), str(ROOT / "bench")]

import finetune  # noqa: E402
from draw_transfer import draw  # noqa: E402
from transfer import CELLS, NETWORKS, REGIMES, SHARED, SIZES, SMALL, TABLES  # noqa: E402

Results = dict[str, dict[str, Any]]
TARGETS = {"clothes": "photographs of clothes", "digits": "MNIST's digits", "characters": "Omniglot's alphabets"}
VIEWS = "features, 10 cached views"
POINT = 0.01
CLOSE = 0.02

HEAD = f"""# Transfer, measured

Written by `scripts/docs` from what `python bench/transfer.py regimes`, `sizes` and `paces` measured (the numbers
themselves are in bench/results/transfer.json). Two cores of an AMD EPYC with AVX512-BF16, torch 2.13; MobileNetV2 with
TensorFlow's weights and padding, SqueezeNet 1.1 with torchvision's.

## Every regime on one set

Clothes, 900 training photographs of 10 classes, judged on 372 others (the set's own split), at
{SHARED["image_size"]} pixels. Test accuracy of each seed and their mean; the 95 % interval of seed 0, so wide that most
neighbours are no different; median seconds on one core from the command to the report, nothing cached before.
"""

PACES = """
## What an epoch takes

The same pictures on two cores, nothing else running: median seconds of an epoch with its validation and checkpoint;
seconds before the first one, reading and embedding included.
"""

EXPECTED = f"""
## What the lectures expect

Means of three seeds. Below {100 * CLOSE:.0f} points a difference is too close to tell: intervals reach twice as far.
SqueezeNet from nothing answers the same for every picture, which neocog says when a training ends so: the ReLU behind
its last convolution shuts in the first steps and no gradient passes it any more.
"""

MODELS = f"""
## The lectures' models A to E

`recipes/transfer.toml`: {SMALL["image_size"]} pixels, {SMALL["time"]} each on one core, every other setting by default.
A is the pretrained network on a thousand pictures of ImageNet, most of which it has learned from. B and C learn
clothes, pictures like ImageNet's; D and E characters of eight alphabets, which are not. B and D keep A's features, C
and E fine-tune.
"""

PICTURES = f"""
## How many pictures

Test accuracy after {SMALL["time"]} on one core (reading, choosing and the report included), from {SIZES[0]} to
{SIZES[-1]} training pictures of each class, half as many for validation. A run of `auto` counts as one of the regime
that it chose, too. Bold: within a point of the best. "Added": of what is above chance, what the last half of the
network adds, by which `auto` calls data similar to the pretraining's.

![Fine-tuning less features in points, by number and kind of pictures](transfer.svg)
"""


def regimes(results: Results) -> Iterator[str]:
    for network in NETWORKS:
        yield from ("", f"### {network}", "")
        yield from ("| regime | mean | seeds | interval of seed 0 | seconds |", "|---|---|---|---|---|")
        for name in REGIMES:
            rows = seeds_of(results, f"regimes/{network}/{name}")
            low, high = rows[0]["interval"]
            each = ", ".join(f"{row['accuracy']:.3f}" for row in rows)
            seconds = median(row["seconds"] for row in rows)
            yield f"| {name} | {average(rows):.3f} | {each} | {low:.3f} to {high:.3f} | {seconds:.0f} |"


def seeds_of(results: Results, start: str) -> list[dict[str, Any]]:
    return [results[key] for key in sorted(results) if key.rpartition("/")[0] == start]


def average(rows: Iterable[dict[str, Any]]) -> float:
    return mean(row["accuracy"] for row in rows)


def epochs(results: Results) -> Iterator[str]:
    yield PACES
    yield "| | " + " | ".join(f"{network}, an epoch | before" for network in NETWORKS) + " |"
    yield "|---" * (2 * len(NETWORKS) + 1) + "|"
    paces = {name: [results.get(f"paces/{network}/{name}") for network in NETWORKS] for name in REGIMES}
    for name, found in paces.items():
        cells = [f"{one['epoch']:.3g} | {one['before']:.0f}" for one in found if one]
        if cells:
            yield f"| {name} | " + " | ".join(cells) + " |"
    one, other = (probe["epoch"] / views["epoch"] for probe, views in zip(paces["probe"], paces[VIEWS], strict=True))
    yield ""
    yield f"An epoch on cached views takes 1/{one:.0f} and 1/{other:.0f} of one of `probe`, whose pictures are"
    yield "augmented in the same way."


def lectures(results: Results) -> Iterator[str]:
    """What deck 001 expects, each beside what came."""
    yield EXPECTED
    yield from ("| deck 001 | " + " | ".join(NETWORKS) + " |", "|---|---|---|")
    for claim, one, other, sign in (
        ("from nothing is far below transfer (scratch; features)", "scratch", "features", -1),
        ("regularising helps from nothing (regularised; not)", "scratch, regularised", "scratch", 1),
        ("a random network's features are poor (they; features)", "features of a random network", "features", -1),
        ("augmentation helps features (10 cached views; none)", VIEWS, "features", 1),
        ("cached views do no less than augmentation on the fly (they; `probe`)", VIEWS, "probe", 0),
        ("fine-tuning helps further (`full`; 10 cached views)", "full", VIEWS, 1),
    ):
        cells = []
        for network in NETWORKS:
            a, b = (average(seeds_of(results, f"regimes/{network}/{name}")) for name in (one, other))
            cells.append(f"{a:.3f} and {b:.3f}: {verdict(a - b, sign)}")
        yield f"| {claim} | " + " | ".join(cells) + " |"


def verdict(gain: float, sign: int) -> str:
    """`sign`: what is expected of the gain; 0: nothing worse than too close."""
    if sign == 0:
        return "yes" if gain > -CLOSE else "no"
    return "too close to tell" if abs(gain) < CLOSE else "yes" if gain * sign > 0 else "no"


def models(results: Results) -> Iterator[str]:
    columns = list(product(NETWORKS, (SIZES[0], SIZES[-1])))
    yield MODELS
    yield (
        "| model | the deck says | " + " | ".join(f"{network}, {number} a class" for network, number in columns) + " |"
    )
    yield "|---" * (2 + len(columns)) + "|"
    shown = " | | ".join(f"{results[f'models/A/{network}']['accuracy']:.3f}" for network in NETWORKS)
    yield f"| A | | {shown} | |"
    for letter, said, target, name in (
        ("B", "good; fast; less data needed", "clothes", "features"),
        ("C", "good; slower; more data needed", "clothes", "full"),
        ("D", "worse", "characters", "features"),
        ("E", "good; slow; more data needed", "characters", "full"),
    ):
        cells = [f"{cell(results, target, number, network, name):.3f}" for network, number in columns]
        yield f"| {letter} | {said} | " + " | ".join(cells) + " |"


def cell(results: Results, target: str, number: int, network: str, name: str) -> float:
    """The mean accuracy of a regime; a run of auto that chose it is one of its runs."""
    start = f"sizes/{target}/{number}/{network}"
    rows = [row for row in seeds_of(results, f"{start}/auto") if name in ("auto", row["regime"])]
    return average(rows if name == "auto" else rows + seeds_of(results, f"{start}/{name}"))


def sizes(results: Results) -> Iterator[str]:
    yield PICTURES
    for network in NETWORKS:
        names = [name for name in CELLS if seeds_of(results, f"sizes/clothes/{SIZES[0]}/{network}/{name}")]
        yield from ("", f"### {network}", "", f"| | a class | {' | '.join(names)} | auto chose | added |")
        yield "|---" * (len(names) + 4) + "|"
        for target, number in product(TABLES, SIZES):
            found = [cell(results, target, number, network, name) for name in names]
            cells = [f"**{value:.3f}**" if value > max(found) - POINT - 1e-9 else f"{value:.3f}" for value in found]
            chosen = seeds_of(results, f"sizes/{target}/{number}/{network}/auto")[0]
            yield f"| {TARGETS[target]} | {number} | {' | '.join(cells)} | {chosen['regime']} | {added(chosen):.0%} |"


def added(run: dict[str, Any]) -> float:
    """As `neocog.app.choosing.Evidence.added`, of what a run recorded."""
    evidence = run["chosen"]["regime"]
    above = evidence["accuracy"] - 1 / evidence["classes"]
    return max(0.0, (evidence["accuracy"] - evidence["halfway"]) / max(above, 0.01))


def choice(results: Results) -> Iterator[str]:
    """How often the regime that auto chose was as good as any."""
    losses, apart, late = [], [], 0.0
    for network, target, number in product(NETWORKS, TABLES, SIZES):
        found = {name: cell(results, target, number, network, name) for name in ("features", "partial", "full")}
        for run in seeds_of(results, f"sizes/{target}/{number}/{network}/auto"):
            losses.append(max(found.values()) - found[run["regime"]])
            again = seeds_of(results, f"sizes/{target}/{number}/{network}/{run['regime']}")
            apart.append(abs(run["accuracy"] - average(again)))
            late = max(late, run["seconds"])
    good = sum(loss <= POINT + 1e-9 for loss in losses)
    yield from ("", "## What `auto` chose", "")
    share, usual, most = good / len(losses), 100 * mean(losses), 100 * max(losses)
    number = len(NETWORKS) * len(TABLES) * len(SIZES)
    yield f"In {good} of {len(losses)} runs ({share:.0%}), {len(losses) // number} seeds of {number} cells, the regime"
    yield f"that `auto` chose was within a point of the best of features, partial and full; it lost {usual:.1f} points"
    yield f"on average, {most:.1f} at most. The longest of its runs took {late:.1f} s of {SMALL['time']}. Two runs of"
    yield f"one regime in one cell differ by {100 * mean(apart):.1f} points on average, because the clock ends them."
    yield "The limits by which it chooses, passes that the time suffices for, were set on these cells: on others it may"
    yield "be right less often."


RACE = """
## Beside fastai and PyTorch's tutorial

`python bench/finetune.py`: accuracy on the same test pictures after the same time on the wall, each with its own
defaults, one after the other on an idle machine. What is counted, and how fastai comes to run beside this torch, stands
at the top of that file.

![Accuracy over seconds of wall time](finetune.svg)
"""


def race(results: Results) -> Iterator[str]:
    yield RACE
    yield finetune.table(finetune.cells_of(finetune.Results(ROOT / "bench" / "results" / "finetune.json")))


def page(results: Results) -> str:
    parts = (regimes, epochs, lectures, models, sizes, choice, race)
    return HEAD + "\n".join(line for part in parts for line in part(results)) + "\n"


def picture(results: Results) -> str:
    def gain(*where: Any) -> float:
        return 100 * (cell(results, *where, "full") - cell(results, *where, "features"))

    panels = {
        network: {name: [gain(target, number, network) for number in SIZES] for target, name in TARGETS.items()}
        for network in NETWORKS
    }
    return draw(panels, SIZES)


def read() -> Results:
    found: Results = json.loads((ROOT / "bench" / "results" / "transfer.json").read_text())
    return found


if __name__ == "__main__":
    print(picture(read()) if "--picture" in sys.argv else page(read()), end="")
