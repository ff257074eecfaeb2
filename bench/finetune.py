"""Accuracy after the same wall time: neocog beside fastai and PyTorch's tutorial, fine-tuning one network.

    python bench/finetune.py [--budgets 30 60 120 240] [--seeds 3] [--only NAME ...] [--fastai PYTHON]
    python bench/finetune.py --table [--figure docs/finetune.svg]

Every contender starts from the same file of ImageNet weights (MobileNetV2 with torchvision's padding) and gets the
same pictures in the same three sets (../shared/data/clothing10). For each budget each is started anew, one after the
other, on the processor, with its own defaults. The same judge counts the right answers on the test pictures.

Seconds are of the clock on the wall, from the start of the process; imports and reading the pictures count for all.

- The clock of fastai and the tutorial stops when the weights they would ship are on the disk; testing them costs them
  nothing. Neither does finding out how many epochs fit: fastai gets a run of `fine_tune(1)` beforehand, the tutorial
  looks at the clock after each epoch. They look at it once a batch, so the last batch may end late.
- neocog's clock stops when its process ends: within `--time` it also compares the pictures with one another, chooses
  its regime, evaluates validation and test pictures and writes the report. Its cache is empty. It computes in bf16
  where the processor has it, the others in float32: those are the defaults. A budget that it refuses stays empty.

What a contender imports is imported once before, uncounted, so that it comes from memory. Every result is kept in
bench/results/finetune.json as it comes, and what is there is not computed again: measure on an idle machine.

fastai asks for a torchvision that asks for another torch, and for spacy, which pictures do not need. It works without
both wishes, in an environment of its own, whose Python is given as `--fastai`:

    python -m venv fastai-env
    fastai-env/bin/pip install -c constraints.txt torch numpy pillow safetensors scipy matplotlib pandas pyyaml \\
        requests packaging scikit-learn cloudpickle fasttransform plum-dispatch
    fastai-env/bin/pip install --no-deps -c constraints.txt torchvision fastai fastcore fastdownload fastprogress
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

from machine import describe, idle_share
from transfer import Results, clothes

import neocog

HERE = Path(__file__).resolve().parent
PEERS = HERE / "peers"
VERSION = f"neocog {neocog.__version__}"

# contender -> (script, its arguments); no script: neocog's own command
CONTENDERS: dict[str, tuple[str, list[str]]] = {
    "neocog": ("", []),
    "neocog, features": ("", ["--regime", "features"]),
    "fastai, quick start": ("finetune_fastai.py", []),
    "fastai, the book's augmentation": ("finetune_fastai.py", ["--augment"]),
    "PyTorch tutorial, fine-tuning": ("finetune_tutorial.py", []),
    "PyTorch tutorial, fixed features": ("finetune_tutorial.py", ["--frozen"]),
}
# script -> what it imports
IMPORTS = {
    "": "neocog.app.train",
    "finetune_fastai.py": "torchvision_loads, fastai.vision.all, safetensors",
    "finetune_tutorial.py": "torchvision_loads, torchvision, safetensors",
}


class Failed(Exception):
    """A contender that ended without an answer; the text is its last line."""


class Outcome(NamedTuple):
    seconds: float
    version: str
    note: str
    predicted: dict[str, str]  # test picture, relative to the data -> class; empty where it refused
    paces: dict[str, float]  # fastai's


class Bench:
    """Where everything lies, and how a contender is run once."""

    def __init__(self, data: Path, folder: Path, fastai: str) -> None:
        self.pictures = clothes(data, folder)
        self.weights = data / "weights" / "imagenet" / "mobilenet_v2.safetensors"
        self.folder, self.fastai = folder, fastai
        self.truth = {
            file.relative_to(self.pictures).as_posix(): file.parent.name for file in self.pictures.glob("test/*/*")
        }

    def python(self, script: str) -> str:
        return self.fastai if "fastai" in script else sys.executable

    def missing(self, script: str) -> str:
        """Why the contender cannot run; empty where it can. What it imports lies in memory afterwards."""
        command = [self.python(script), "-c", f"import {IMPORTS[script]}"]
        try:
            done = subprocess.run(command, cwd=PEERS, capture_output=True, text=True, check=False)
        except OSError as error:
            return str(error)
        return last_line(done.stderr) if done.returncode else ""

    def ours(self, more: list[str], budget: float, seed: int) -> Outcome:
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            out, log = Path(place) / "run", Path(place) / "log"
            command = [
                sys.executable, "-m", "neocog", "train", str(self.pictures), "--model", "mobilenet_v2",
                "--weights", str(self.weights), "--time", f"{budget:g}s", "--seed", str(seed), "--out", str(out), *more,
            ]  # fmt: skip
            with log.open("w") as file:
                began = time.monotonic()
                done = subprocess.run(command, stdout=file, stderr=file, env=alone(place), check=False)
                seconds = time.monotonic() - began
            if done.returncode:
                line = last_line(log.read_text())
                if f"{budget:g}s are not enough" in line:  # an answer too
                    return Outcome(seconds, VERSION, "refused as too little time", {}, {})
                raise Failed(line)
            run = neocog.Run.open(out)
            found = run.predictions("test")
            named = {file: found.classes[i] for file, i in zip(found.files, found.predicted.tolist(), strict=True)}
            return Outcome(seconds, VERSION, f"regime {run.config.regime}", named, {})

    def peer(self, script: str, more: list[str], budget: float, seed: int, epochs: int = 1) -> Outcome:
        with tempfile.TemporaryDirectory(dir=self.folder) as place, (Path(place) / "log").open("w+") as log:
            began = time.time()
            command = [
                self.python(script), str(PEERS / script), "--data", str(self.pictures), "--weights", str(self.weights),
                "--began", repr(began), "--budget", repr(budget), "--seed", str(seed), "--epochs", str(epochs),
                "--out", f"{place}/weights.pt", *more,
            ]  # fmt: skip
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, text=True, env=alone(place), check=False)
            said = [json.loads(line) for line in done.stdout.splitlines()]
            if done.returncode or len(said) != 2:
                log.seek(0)
                raise Failed(last_line(log.read()))
            first, second = said
            return Outcome(
                first["shipped"] - began, first["version"], first["note"], second["predicted"], first.get("paces", {})
            )

    def cell(self, name: str, budget: float, seed: int, results: Results) -> dict[str, Any]:
        """What one contender reached in one budget."""
        script, more = CONTENDERS[name]
        epochs = 1
        if "fastai" in script:
            epochs = self.epochs(results.get(f"{name}/paces", self.paces, name), budget)
        idle = idle_share()
        outcome = self.peer(script, more, budget, seed, epochs) if script else self.ours(more, budget, seed)
        return {
            "accuracy": self.accuracy(outcome.predicted), "pictures": len(self.truth),
            "seconds": round(outcome.seconds, 2), "note": outcome.note, "version": outcome.version,
            "idle": round(idle, 3), "machine": describe(),
        }  # fmt: skip

    def accuracy(self, predicted: dict[str, str]) -> float | None:
        """The share that is right of all test pictures, each of which must be answered for; None for no answers."""
        if not predicted:
            return None
        if predicted.keys() != self.truth.keys():
            raise Failed(f"it answered for {len(predicted)} pictures, not for the {len(self.truth)} of the test")
        return sum(predicted[file] == label for file, label in self.truth.items()) / len(self.truth)

    def paces(self, name: str) -> dict[str, Any]:
        script, more = CONTENDERS[name]
        return {key: round(value, 2) for key, value in self.peer(script, more, math.inf, 0).paces.items()}

    @staticmethod
    def epochs(paces: dict[str, float], budget: float) -> int:
        """As many as fit beside the first, in which only the head learns; one at least, cut short at the deadline."""
        return max(1, int((budget - paces["start"] - paces["frozen"]) / paces["epoch"]))


def alone(cache: str) -> dict[str, str]:
    """The environment of a contender: no cache of an earlier run, no accelerator."""
    return os.environ | {"XDG_CACHE_HOME": cache, "CUDA_VISIBLE_DEVICES": "", "MPLBACKEND": "agg"}


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]


def race(bench: Bench, results: Results, names: list[str], budgets: list[float], seeds: int) -> bool:
    """Fills the missing cells; whether every contender that is installed answered."""
    reasons = {script: bench.missing(script) for script in dict.fromkeys(CONTENDERS[name][0] for name in names)}
    for name in names:
        if reasons[CONTENDERS[name][0]]:
            print(f"left out: {name} ({reasons[CONTENDERS[name][0]]})", flush=True)
    names = [name for name in names if not reasons[CONTENDERS[name][0]]]
    whole = True
    for seed in range(seeds):
        for budget in budgets:
            for name in names:
                cell = f"{name}/{budget:g}/{seed}"
                try:
                    results.get(cell, bench.cell, name, budget, seed, results)
                except Failed as failure:
                    whole = False
                    print(f"{cell}: no answer ({failure})", flush=True)
    return whole


Cells = dict[str, dict[float, list[dict[str, Any]]]]  # contender -> budget -> seeds


def cells_of(results: Results) -> Cells:
    found: Cells = {}
    for name in CONTENDERS:
        keys = [key.split("/") for key in results.values if key.startswith(f"{name}/") and not key.endswith("/paces")]
        for budget in sorted({float(key[1]) for key in keys}):
            of_seeds = [results.values["/".join(key)] for key in keys if float(key[1]) == budget]
            found.setdefault(name, {})[budget] = of_seeds
    return found


def table(cells: Cells) -> str:
    """Markdown: mean accuracy, its range where there are several seeds, the seconds really taken, what was done."""
    budgets = sorted({budget for row in cells.values() for budget in row})
    lines = [
        "| test accuracy after | " + " | ".join(f"{budget:g} s" for budget in budgets) + " |",
        "|---" * (len(budgets) + 1) + "|",
    ]
    for name, row in cells.items():
        lines.append(f"| {name} | " + " | ".join(entry(row.get(budget, [])) for budget in budgets) + " |")
    every = [cell for row in cells.values() for seeds in row.values() for cell in seeds]
    pictures = every[0]["pictures"]
    seeds = listed(sorted({len(seeds) for row in cells.values() for seeds in row.values()}))
    return "\n".join([
        *lines, "",
        f"Mean over the seeds ({seeds}) on {pictures} pictures "
        f"(standard error of one accuracy of 0.8: {math.sqrt(0.8 * 0.2 / pictures):.3f}). In brackets the seconds "
        f"until the weights were there, neocog's with its report, and what was done in them. "
        f"{listed(cell['version'] for cell in every)}. Median idle share of the machine before a run "
        f"{median(cell['idle'] for cell in every):.0%}. {listed(cell['machine'] for cell in every)}",
    ])  # fmt: skip


def entry(seeds: list[dict[str, Any]]) -> str:
    if not seeds:
        return "—"
    spent = f"({mean(cell['seconds'] for cell in seeds):.0f} s; {listed(cell['note'] for cell in seeds)})"
    found = accuracies(seeds)
    if not found:
        return f"— {spent}"
    spread = f", {min(found):.3f} to {max(found):.3f}" if len(found) > 1 else ""
    return f"{mean(found):.3f}{spread} {spent}"


def accuracies(seeds: list[dict[str, Any]]) -> list[float]:
    return [cell["accuracy"] for cell in seeds if cell["accuracy"] is not None]


def listed(values: Iterable[object]) -> str:
    return " / ".join(dict.fromkeys(map(str, values)))


def figure(cells: Cells, path: Path) -> None:
    """Accuracy over the budget: the mean of the seeds, and a bar from the worst to the best."""
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams["svg.hashsalt"] = "finetune"  # the same file from the same numbers
    from matplotlib import pyplot

    drawing, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for name, row in cells.items():
        found = {budget: values for budget, seeds in row.items() if (values := accuracies(seeds))}
        middle = [mean(values) for values in found.values()]
        low, high = ([abs(m - end(v)) for m, v in zip(middle, found.values(), strict=True)] for end in (min, max))
        ours = name.startswith("neocog")
        axes.errorbar(
            list(found), middle, [low, high], label=name, marker="o", markersize=4, capsize=3,
            linewidth=2.2 if ours else 1.2, linestyle="-" if ours else "--",
        )  # fmt: skip
    budgets = sorted({budget for row in cells.values() for budget in row})
    axes.set_xscale("log")
    axes.set_xticks(budgets, [f"{budget:g}" for budget in budgets])
    axes.minorticks_off()
    axes.set_xlabel("seconds of wall time")
    axes.set_ylabel("test accuracy")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, frameon=False)
    drawing.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--budgets", type=float, nargs="+", default=[30, 60, 120, 240], metavar="SECONDS")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), metavar="NAME")
    parser.add_argument("--fastai", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--results", type=Path, default=HERE / "results" / "finetune.json")
    parser.add_argument("--table", action="store_true", help="show what was measured; measure nothing")
    parser.add_argument("--figure", type=Path, help="with --table: draw the curve into this .svg or .png")
    options = parser.parse_args()
    results = Results(options.results)
    whole = True
    if not options.table:
        with tempfile.TemporaryDirectory() as place:
            bench = Bench(options.data, Path(place), options.fastai)
            whole = race(bench, results, options.only, options.budgets, options.seeds)
    cells = cells_of(results)
    if not cells:
        raise SystemExit(f"{options.results} holds no result yet: run without --table first")
    print("\n" + table(cells))
    if options.figure:
        figure(cells, options.figure)
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
