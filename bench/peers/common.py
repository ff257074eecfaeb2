"""What all contenders share: the pictures, the protocol of a round, and the command line.

A contender trains in one go, in its own process, and calls `Rounds.batch_done()` after every batch. At the end
of a round that call reports the images per second and blocks until the next round is ordered, so that one
contender at a time has the machine.
"""

import argparse
import gzip
import json
import lzma
import os
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_report = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # progress bars and the like go to stderr: stdout belongs to the protocol


def report(**facts: object) -> None:
    print(json.dumps(facts), file=_report, flush=True)


class Rounds:
    def __init__(self, batches: int, batch_size: int) -> None:
        self.batches, self.batch_size = batches, batch_size
        self.wait()

    def wait(self) -> None:
        if not sys.stdin.readline():
            os._exit(0)  # the benchmark is over; what a trainer would still save or print is of no use
        self.done, self.started = 0, time.perf_counter()

    def batch_done(self) -> None:
        self.done += 1
        if self.done == self.batches:
            report(rate=self.done * self.batch_size / (time.perf_counter() - self.started))
            self.wait()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--network", choices=["convnet", "resnet18", "conv_ae"], required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--batches", type=int, default=0, help="batches in a round")
    parser.add_argument("--workers", type=int, default=0, help="processes of the DataLoader")
    parser.add_argument("--epochs", type=int, default=0, help="train so long, report the test accuracy, leave")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def mnist(folder: Path, split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(N, 28, 28) pixels and (N,) labels of `split`, "train" or "t10k"."""
    pixels = np.frombuffer(_read(folder / f"{split}-images-idx3-ubyte"), np.uint8, offset=16).reshape(-1, 28, 28)
    labels = np.frombuffer(_read(folder / f"{split}-labels-idx1-ubyte"), np.uint8, offset=8)
    return pixels.copy(), labels.astype(np.int64)


def _read(path: Path) -> bytes:
    for suffix, opener in (("", open), (".gz", gzip.open), (".xz", lzma.open)):
        packed = path.with_name(path.name + suffix)
        if packed.is_file():
            with opener(packed, "rb") as file:
                return bytes(file.read())
    raise FileNotFoundError(path)
