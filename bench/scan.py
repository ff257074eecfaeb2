"""Scanning and training on very many small pictures: pictures per second beside torchvision, and the largest memory.

    python bench/scan.py [--pictures 200000] [--folder FOLDER] [--skip-torchvision]

Makes the pictures (32 x 32 PNG, 20 classes) once, then measures, each in a process of its own: neocog's complete scan
(`neocog check`: decode, hash, audit, cache), reading the same files with torchvision's ImageFolder and a DataLoader
(decode only, no hash, no audit), and `neocog train` for an epoch. Peak memory is the resident set's high-water mark.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import describe
from PIL import Image

CLASSES = 20

IMAGE_FOLDER = """
import sys
sys.path.insert(0, "tests")
from torchvision_operators import declare_missing
kept = declare_missing()
import torch
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import PILToTensor
loader = DataLoader(ImageFolder(sys.argv[1], PILToTensor()), batch_size=256, num_workers=int(sys.argv[2]))
print(sum(len(labels) for _, labels in loader))
"""


def make(folder: Path, number: int) -> None:
    """Smooth random pictures, no two alike: noise of 8 x 8 cells, enlarged, of which 1,000 share a generator."""
    for start in range(0, number, 1000):
        draw = np.random.default_rng(start)
        cells = draw.integers(0, 256, (1000, 8, 8, 3), dtype=np.uint8)
        for i, pixels in enumerate(cells, start):
            path = folder / f"class{i % CLASSES:02d}" / f"{i:07d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).resize((32, 32), Image.Resampling.BILINEAR).save(path, compress_level=1)


def measure(words: list[str], **environment: str) -> tuple[float, float]:
    """(seconds, peak resident MiB of the process and its largest child)."""
    started = time.monotonic()
    child = subprocess.Popen(words, env=os.environ | environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(words)} failed")
    peak = usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return time.monotonic() - started, peak


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=200_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--skip-torchvision", action="store_true")
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    print(describe())
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch) / "pictures"
        if not folder.exists():
            make(folder, options.pictures)
        neocog, home = [sys.executable, "-m", "neocog"], str(Path(scratch) / "cache")
        print("| what | seconds | pictures/s per core | peak MiB |\n|---|---|---|---|")

        def show(what: str, words: list[str]) -> None:
            seconds, peak = measure(words, XDG_CACHE_HOME=home)
            print(f"| {what} | {seconds:.1f} | {options.pictures / seconds / cores:,.0f} | {peak:,.0f} |", flush=True)

        show("neocog check, first time", [*neocog, "check", str(folder)])
        if not options.skip_torchvision:
            for workers in (0, cores):
                show(f"ImageFolder + DataLoader, {workers} workers",
                     [sys.executable, "-c", IMAGE_FOLDER, str(folder), str(workers)])  # fmt: skip
        show("neocog check, again", [*neocog, "check", str(folder)])
        show("neocog train, 1 epoch of mnist_convnet",
             [*neocog, "train", str(folder), "--model", "mnist_convnet", "--image-size", "32", "--epochs", "1",
              "--batch-size", "256", "--out", str(Path(scratch) / "run")])  # fmt: skip


if __name__ == "__main__":
    main()
