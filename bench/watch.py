"""What does --watch cost? Epochs with and without it, by turns in one process. Run: python bench/watch.py [--rounds N]

Two runs of the same settings and seed stand side by side, one of them watched; each round is an epoch of both, the one
that begins changes from round to round, and a ratio is formed within a round, so what disturbs a round disturbs both.
Steps: the images per second of the steps alone, which pay for norms and for one more copy of the weights. Epoch: all
of it, also the look inside that ends it, validation and checkpoint; CPU: the processor's time for it, which others
on the same cores disturb less. The surface is drawn once, after the training.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from cost_training import draw
from machine import describe, idle_share

from neocog.app.preparing import prepare
from neocog.app.session import Session
from neocog.core.config import load_config
from neocog.core.events import Events
from neocog.training.world import World

MNIST = Path(__file__).resolve().parents[2] / "shared" / "data" / "mnist" / "MNIST" / "raw"
CASES: dict[str, dict[str, Any]] = {
    "mnist_convnet, MNIST, batch 128": {"model": "mnist_convnet", "data": str(MNIST), "batch_size": 128},
    "mnist_convnet, digits, batch 32": {"model": "mnist_convnet", "data": "digits", "image_size": 28, "batch_size": 32},
    "resnet20, digits, batch 64": {"model": "resnet20", "data": "digits", "image_size": 28, "batch_size": 64},
    "resnet18, 600 JPEG pictures at 224, batch 16": {"model": "resnet18", "batch_size": 16, "augment": "photo"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"words of one of: {'; '.join(CASES)} (default: all)")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    print(describe(), flush=True)
    print(
        "\n| | images/s | watched | steps take | an epoch takes | CPU | surface, s | idle before |\n" + "|---" * 8 + "|"
    )
    with tempfile.TemporaryDirectory() as temporary:
        for number, (name, settings) in enumerate(CASES.items()):
            if options.cases and not any(word in name for word in options.cases):
                continue
            if settings.get("data") == str(MNIST) and not MNIST.exists():
                print(f"left out: {MNIST} does not exist")
                continue
            folder = Path(temporary) / str(number)
            data = settings.get("data") or str(draw(Path(temporary) / "photos", 600))
            print(row(name, settings | {"data": data}, folder, options.rounds), flush=True)


def row(name: str, settings: dict[str, Any], folder: Path, rounds: int) -> str:
    idle = idle_share()
    plain, watched = (session(settings, folder / str(watch), watch) for watch in (False, True))
    for one in (plain, watched):
        epoch(one)  # the warm-up
    found = []
    for number in range(rounds):
        order = (plain, watched) if number % 2 == 0 else (watched, plain)
        measured = {one is watched: epoch(one) for one in order}
        found.append((*measured[False], *measured[True]))
    assert watched.watching is not None
    surface, _ = seconds(partial(watched.watching.write_surface, watched.folder, Events()))
    speed, slower = (median(one[i] for one in found) for i in (0, 3))
    steps = median(one[0] / one[3] for one in found)
    whole, cpu = (median(one[i + 3] / one[i] for one in found) for i in (1, 2))
    cells = (name, f"{speed:,.0f}", f"{slower:,.0f}", f"{steps:.3f}x", f"{whole:.3f}x", f"{cpu:.3f}x", f"{surface:.1f}",
             f"{idle:.0%}")  # fmt: skip
    return f"| {' | '.join(cells)} |"


def session(settings: dict[str, Any], folder: Path, watch: bool) -> Session:
    folder.mkdir(parents=True)
    config = load_config(None, {"epochs": 1000, "watch": watch, "device": "cpu", **settings})
    return prepare(config, folder, Events(), World())


def epoch(one: Session) -> tuple[float, float, float]:
    """(images per second of the steps, seconds of all, of them on the processor)"""
    took, cpu = seconds(one.trainer._epoch)
    return one.trainer.progress.history[-1]["images_per_second"], took, cpu


def seconds(work: Callable[[], None]) -> tuple[float, float]:
    """(on the clock, of the processor)"""
    began, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - cpu


if __name__ == "__main__":
    main()
