"""Prints docs/explaining.md from what bench/explain.py measured; `scripts/docs` writes it."""

import json
from collections.abc import Iterable
from pathlib import Path
from statistics import mean, median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "explaining.json"

Results = dict[str, dict[str, Any]]
LUCK = "a random order"
NETWORKS = {"mobilenet_v2": "MobileNetV2", "squeezenet1_1": "SqueezeNet 1.1"}

HEAD = """# Where it looked, measured

Written by `scripts/docs` from what `python bench/explain.py areas`, `pointing` and `complete` measured (the numbers
themselves are in bench/results/explaining.json), on ImageNet pictures of 224 x 224 pixels with published weights. No
map is the truth; these are three questions that have an answer. captum 0.9 and grad-cam 1.5 are given the very same
networks, pictures and layers.

## What happens when pixels go

{pictures} pictures, the network's own answer. Deletion: the area under the answer's probability while pixels become the
mean colour, those of most heat first: small is good. Insertion: while they come back to a blurred picture: large is
good. Petsiuk, Das and Saenko, BMVC 2018, arXiv:1806.07421. Means; last, on how many pictures a map does better than a
random order in both.
"""

POINTING = """
## Pointing

Four pictures that were named rightly, with more than 0.8, are put into one of 448 x 448 pixels, and the map is asked
for one of the four classes: how much of it lies on that picture (by luck a quarter), and how often its largest value
does. {grids} grids, so that luck itself can have its largest value right in one of ten or in four. Occlusion and
captum's integrated gradients are left out: of so many pixels they take minutes a map. Boehle, Fritz and Schiele,
CVPR 2021, arXiv:2104.00032, section 4.3.
"""

COMPLETE = """
## Integrated gradients that add up

They should sum to the difference between the picture's score and that of the mean colour. By how much they miss it,
{pictures} pictures: median and most. captum takes its Gauss-Legendre steps; neocog spends as many gradients where the
score tells that they are needed.

| network | gradients | neocog: median | most | captum: median | most |
|---|---:|---:|---:|---:|---:|
"""

NOTE = """
captum's guided backpropagation changes `nn.ReLU` modules only. MobileNetV2 has ReLU6, so that there it is the plain
gradient; neocog's changes every ReLU on its way into torch, however it is spelled. grad-cam's Grad-CAM++ adds 1e-6 to a
denominator that is often smaller than that; neocog's has equation 19 as it stands.
"""


def page(results: Results) -> str:
    lines = [HEAD.format(pictures=len(rows(results, "areas/mobilenet_v2")))]
    for name, shown in NETWORKS.items():
        lines += [f"\n### {shown}\n", *areas(rows(results, f"areas/{name}"))]
    lines += [NOTE, POINTING.format(grids=len(rows(results, "pointing/mobilenet_v2")))]
    lines += pointing(results)
    lines.append(COMPLETE.format(pictures=len(rows(results, "complete/mobilenet_v2"))).rstrip("\n"))
    lines += complete(results)
    return "\n".join(lines) + "\n"


def rows(results: Results, start: str) -> list[dict[str, Any]]:
    """In the order of the pictures. KeyError where none was measured."""
    keys = sorted((key for key in results if key.startswith(f"{start}/")), key=lambda key: int(key.split("/")[-1]))
    if not keys:
        raise KeyError(start)
    return [results[key] for key in keys]


def in_order(names: Iterable[str]) -> list[str]:
    """Luck, neocog's, the others'."""
    return sorted(names, key=lambda name: (name != LUCK, ":" in name, name.lower()))


def areas(found: list[dict[str, Any]]) -> list[str]:
    lines = ["| map | deletion | insertion | better than luck |", "|---|---:|---:|---:|"]
    for name in in_order(found[0]):
        gone, come = (mean(row[name][i] for row in found) for i in (0, 1))
        better = sum(row[name][0] < row[LUCK][0] and row[name][1] > row[LUCK][1] for row in found)
        told = "" if name == LUCK else f"{better} of {len(found)}"
        lines.append(f"| {name} | {gone:.3f} | {come:.3f} | {told} |")
    return lines


def pointing(results: Results) -> list[str]:
    kinds = [f"{shown}: {what}" for shown in NETWORKS.values() for what in ("share", "largest")]
    lines = ["| map | " + " | ".join(kinds) + " |", "|---|" + "---:|" * len(kinds)]
    found = {name: rows(results, f"pointing/{name}") for name in NETWORKS}
    for name in in_order(found["mobilenet_v2"][0]):
        cells = [f"{mean(row[name][i] for row in found[network]):.0%}" for network in NETWORKS for i in (0, 1)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def complete(results: Results) -> list[str]:
    lines = []
    for name, shown in NETWORKS.items():
        found = rows(results, f"complete/{name}")
        for steps in sorted(found[0], key=int):
            cells = [f"{pick(row[steps][i] for row in found):.2%}" for i in (0, 1) for pick in (median, max)]
            lines.append(f"| {shown} | {steps} | " + " | ".join(cells) + " |")
    return lines


if __name__ == "__main__":
    print(page(json.loads(RESULTS.read_text())), end="")
