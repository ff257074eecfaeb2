"""Are the predictions true? Peak memory and seconds, predicted and measured. Run: python bench/cost_training.py

Memory: for every network, optimizer and regime, `neocog.training_memory` beside the highest that the allocator's bytes
ever stood during a real step, by the profiler's own record of every allocation (on CUDA: max_memory_allocated). On a
CPU the contiguous layout needs more than is predicted: oneDNN copies a map into a layout of its own, and no tensor
holds that copy. neocog trains in channels_last, where nothing is copied.
Time: `neocog cost --pictures` measures a few steps on random numbers, `neocog train` a few real ones before it starts;
beside both, the seconds of a real epoch on JPEG pictures, loading and augmentation included.
"""

import argparse
import gc
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from machine import describe, idle_share
from PIL import Image

import neocog.models  # noqa: F401  (importing it registers the networks)
from neocog.core.registry import lookup
from neocog.costs.memory import training_memory
from neocog.transfer.regimes import Probe, Scratch

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from allocated import allocated

NETWORKS = ("alexnet", "vgg16", "resnet50", "mobilenet_v2", "densenet121", "vit_b_16")
TIMED = ("resnet18", "mobilenet_v2", "squeezenet1_1", "resnet50")
SHAPE = (3, 224, 224)
MIB = 2**20
FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--layout", choices=("channels_last", "contiguous"), default="channels_last")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--pictures", type=int, default=320, help="pictures of the timed epochs")
    parser.add_argument("--only", choices=("memory", "time"))
    options = parser.parse_args()
    print(describe())
    if options.only != "time":
        memory(options.batch, options.device, options.layout)
    if options.only != "memory":
        seconds(options.pictures)


def memory(batch: int, device: str, layout: str) -> None:
    print(f"\nPeak of a training step with batches of {batch} on {device}, {layout}, MiB:\n")
    print("| network | regime | optimizer | predicted | measured | predicted / measured |\n" + "|---" * 6 + "|")
    worst = 0.0
    for name, regime, optimizer in itertools.product(NETWORKS, ("full", "probe"), ("sgd", "adamw")):
        network = lookup(name).build()
        (Probe() if regime == "probe" else Scratch()).enter(network, 0)
        predicted = training_memory(network, SHAPE, batch=batch, optimizer=optimizer, device=device).peak
        real = allocated(network, SHAPE, batch, optimizer, device=device, layout=FORMATS[layout])
        worst = max(worst, abs(predicted / real - 1))
        row = (name, regime, optimizer, f"{predicted / MIB:.1f}", f"{real / MIB:.1f}", f"{predicted / real:.3f}")
        print("| " + " | ".join(row) + " |", flush=True)
        del network
        gc.collect()
    print(f"\nFarthest off: {worst:.1%}.")


def seconds(pictures: int) -> None:
    print(f"\nSeconds of an epoch of {pictures} JPEG pictures at 224, batches of 16, AdamW:\n")
    print("| network | predicted by `neocog cost` | / took | said by `neocog train` | / took | took | idle before |")
    print("|---" * 7 + "|")
    with tempfile.TemporaryDirectory() as folder:
        data = draw(Path(folder) / "data", pictures)
        for name in TIMED:
            idle = idle_share()
            answer = run("cost", name, "--classes", "2", "--batch", "16", "--pictures", str(pictures), "--json")
            predicted = json.loads(answer)[0]["training"]["seconds_per_epoch"]
            out = Path(folder) / name
            # No validation or test pictures in the way: two epochs on all of them, the second one counts.
            said = run("train", str(data), "--model", name, "--epochs", "2", "--batch-size", "16", "--out", str(out),
                       "--val-fraction", "0", "--test-fraction", "0.01", "--patience", "9")  # fmt: skip
            told = next(line for line in said.splitlines() if line.startswith("training")).split("about ")[1]
            first, second = (json.loads(line)["seconds"] for line in (out / "metrics.jsonl").read_text().splitlines())
            took = second - first
            number, unit = told.split(" an epoch")[0].split()
            expected = float(number) * {"s": 1, "min": 60, "h": 3600}[unit]
            row = (name, f"{predicted:.1f}", f"{predicted / took:.2f}", f"{expected:.1f}", f"{expected / took:.2f}",
                   f"{took:.1f}", f"{idle:.0%}")  # fmt: skip
            print("| " + " | ".join(row) + " |", flush=True)


def draw(folder: Path, pictures: int) -> Path:
    """Noise, 256 x 320, as JPEG: what it shows does not matter, that it must be decoded does."""
    numbers = np.random.default_rng(0)
    for i in range(pictures + pictures // 50 + 2):
        path = folder / "ab"[i % 2] / f"{i:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(numbers.integers(0, 256, (32, 40, 3), np.uint8))
        small.resize((320, 256), Image.Resampling.BICUBIC).save(path, quality=90)
    return folder


def run(*arguments: str) -> str:
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "neocog", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"neocog {' '.join(arguments)} failed after {time.monotonic() - started:.0f} s: {done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
