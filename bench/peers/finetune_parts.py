"""What the contenders of bench/finetune.py share: their command line, the network, how one ships and is judged.

A contender trains until its time is over, writes the weights it would ship and says so: there its clock stops. Then
it names the class of every test picture; whether that is right is counted by the benchmark.
"""

import argparse
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from common import report
from safetensors.torch import load_file
from torch import nn
from torchvision import models


def arguments() -> argparse.Namespace:
    """`deadline` is computed: the second, as `time.time` counts, at which the weights must be there."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True, help="a folder with train/ validation/ test/")
    parser.add_argument("--weights", type=Path, required=True, help="MobileNetV2, torchvision's keys, safetensors")
    parser.add_argument("--began", type=float, required=True, help="when this process was started (time.time)")
    parser.add_argument("--budget", type=float, required=True, help="seconds from there; inf: no limit")
    parser.add_argument("--out", type=Path, required=True, help="the file of the weights it ships")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=1, help="fastai: how many epochs to ask for")
    parser.add_argument("--augment", action="store_true", help="fastai: the book's augmentation")
    parser.add_argument("--frozen", action="store_true", help="tutorial: only the new layer learns")
    options = parser.parse_args()
    options.deadline = options.began + options.budget
    return options


def mobilenet(weights: Path) -> nn.Module:
    """torchvision's MobileNetV2 with the weights of the file."""
    network: nn.Module = models.mobilenet_v2(weights=None)
    network.load_state_dict(load_file(weights))
    return network


def ship(network: nn.Module, options: argparse.Namespace, version: str, note: str, **facts: object) -> None:
    """Writes the weights and stops the clock. `note`: in a few words, what was done in the time."""
    torch.save(network.state_dict(), options.out)
    report(shipped=time.time(), version=version, note=note, **facts)


def answer(data: Path, files: Iterable[Path], classes: Iterable[str]) -> None:
    """Names the class of each test picture."""
    pairs = zip(files, classes, strict=True)
    report(predicted={file.relative_to(data).as_posix(): name for file, name in pairs})
