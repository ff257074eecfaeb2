"""The regimes of transfer on real photographs: accuracy and time, over seeds, over numbers of pictures.

    python bench/transfer.py regimes [--seeds 3]   # every regime on the clothes, MobileNetV2 and SqueezeNet
    python bench/transfer.py sizes [--seeds 1]     # 5 to 90 pictures a class of three kinds, in one time budget
    python bench/transfer.py paces                 # seconds an epoch of each, on an idle machine of two cores

Reads ../shared/data (`--data`). Every result is kept in bench/results/transfer.json as it comes, and what is there is
not computed again; `scripts/docs` makes docs/transfer.md of it. `regimes` and `sizes` compute on one core each, so two
of them may share two cores: `--share 0/2` and `--share 1/2`.
"""

import argparse
import csv
import fcntl
import gzip
import json
import lzma
import os
import tempfile
import time
import tomllib
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise, product
from pathlib import Path
from statistics import median
from typing import Any

import imagenet_sample
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

import neocog
from neocog.core.events import Events
from neocog.core.files import write_atomic

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "transfer.json"

NETWORKS = {"mobilenet_v2": {"padding": "same"}, "squeezenet1_1": {}}
SHARED: dict[str, Any] = {"image_size": 160, "batch_size": 32, "threads": 2}
TUNED: dict[str, Any] = {"label_smoothing": 0.1, "lr": 0.003, "ema": 0.98, "epochs": 9}
PLAIN: dict[str, Any] = {"epochs": 12, "lr": 0.001}

# name -> (starts from, settings)
REGIMES: dict[str, tuple[str, dict[str, Any]]] = {
    "features of a random network": ("random", {"regime": "features", "views": 0}),
    "features": ("ImageNet", {"regime": "features", "views": 0}),
    "features, 10 cached views": ("ImageNet", {"regime": "features", "views": 10}),
    "features, 10 cached views, mlp": ("ImageNet", {"regime": "features", "views": 10, "head": "mlp"}),
    "features, svm": ("ImageNet", {"regime": "features", "views": 0, "head": "svm"}),
    "probe": ("ImageNet", TUNED | {"regime": "probe"}),
    "partial, 2 stages": ("ImageNet", TUNED | {"regime": "partial", "unfreeze": 2}),
    "full": ("ImageNet", TUNED | {"regime": "full"}),
    "full, rates falling by 0.7 a stage": ("ImageNet", TUNED | {"regime": "full", "layer_decay": 0.7}),
    "gradual": ("ImageNet", TUNED | {"regime": "gradual", "epochs": 12}),
    "scratch": ("nothing", PLAIN | {"regime": "scratch", "augment": "none"}),
    "scratch, regularised": (
        "nothing",
        PLAIN | {"regime": "scratch", "augment": "photo", "weight_decay": 0.05, "label_smoothing": 0.1, "ema": 0.98},
    ),
}


PACED = {"features, 10 cached views": 30, "probe": 4, "partial, 2 stages": 5, "full": 5, "scratch": 3}  # epochs

# What the numbers of pictures are tried with: as many views, epochs and steps as the time is enough for.
CELLS: dict[str, tuple[str, dict[str, Any]]] = {
    "features": ("ImageNet", {"regime": "features"}),
    "partial": ("ImageNet", {"regime": "partial", "unfreeze": 2}),
    "full": ("ImageNet", {"regime": "full"}),
    "auto": ("ImageNet", {"regime": "auto"}),
    "scratch": ("nothing", {"regime": "scratch"}),
}
SIZES = (5, 10, 20, 50, 90)  # training pictures of each class
RECIPE = HERE.parent / "recipes" / "transfer.toml"
SMALL: dict[str, Any] = tomllib.loads(RECIPE.read_text())
TESTED = 100  # pictures of each class, where there are so many


class Results:
    """What was measured, by name; a name that is there is not measured again. Several processes may write one file."""

    def __init__(self, path: Path = RESULTS) -> None:
        self.path = path
        self.values = self.read()

    def read(self) -> dict[str, dict[str, Any]]:
        return json.loads(self.path.read_text()) if self.path.is_file() else {}

    def get(self, name: str, measure: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
        if name not in self.values:
            found = measure(*arguments)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self.values = self.read() | {name: found}
                write_atomic(self.path, json.dumps(self.values, indent=1, sort_keys=True) + "\n")
            print(f"{name:<60} {found}", flush=True)
        return self.values[name]


def clothes(data: Path, folder: Path) -> Path:
    zipfile.ZipFile(data / "clothing10" / "clothing10_192.zip").extractall(folder)
    return folder / "clothing10"


def weights_of(network: str, start: str, data: Path, folder: Path) -> str | None:
    if start == "ImageNet":
        return str(data / "weights" / "imagenet" / f"{network}.safetensors")
    if start == "nothing":
        return None
    path = folder / f"{network}-random.safetensors"
    if not path.is_file():
        torch.manual_seed(0)
        save_file(neocog.create_model(network, **NETWORKS[network]).state_dict(), path)
    return str(path)


def trained(
    pictures: Path, network: str, start: str, settings: dict[str, Any], seed: int, data: Path, folder: Path
) -> dict[str, Any]:
    """One run's test accuracy with its interval, and the seconds it took from the command to the report. Nothing is
    cached before."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        os.environ["XDG_CACHE_HOME"] = place
        began = time.monotonic()
        run = neocog.train(
            pictures, network, weights=weights_of(network, start, data, folder), knobs=NETWORKS[network], seed=seed,
            out=Path(place) / "run", **settings,
        )  # fmt: skip
        assert isinstance(run, neocog.Run)
        took, numbers = round(time.monotonic() - began, 1), run.metrics("test")
        chosen = run.folder / "choices.json"
        return {
            "accuracy": numbers["top1"], "interval": numbers["top1_interval"], "val": run.metrics("val")["top1"],
            "seconds": took, "regime": run.config.regime,
            "chosen": json.loads(chosen.read_text()) if chosen.is_file() else {},
        }  # fmt: skip


Share = tuple[int, int]  # which of how many processes this one is


def mine(share: Share, names: Iterable[str]) -> Iterator[str]:
    number, all_of_them = share
    return (name for i, name in enumerate(names) if i % all_of_them == number)


def regimes(results: Results, data: Path, seeds: int, share: Share, folder: Path) -> None:
    pictures = clothes(data, folder)
    for cell in mine(share, ("/".join(cell) for cell in product(map(str, range(seeds)), NETWORKS, REGIMES))):
        seed, network, name = cell.split("/")
        start, settings = REGIMES[name]
        results.get(
            f"regimes/{network}/{name}/{seed}",
            trained,
            pictures,
            network,
            start,
            SHARED | {"threads": 1} | settings,
            int(seed),
            data,
            folder,
        )


def paces(results: Results, data: Path, folder: Path) -> None:
    """Seconds of an epoch, validation and checkpoint included: of a head on cached views, and of the same head with the
    frozen network in front of it. And what the cache costs, once."""
    pictures = clothes(data, folder)
    for network in NETWORKS:
        for name, epochs in PACED.items():
            results.get(
                f"paces/{network}/{name}",
                paced,
                pictures,
                network,
                name,
                epochs,
                data,
                folder,
            )


def paced(pictures: Path, network: str, name: str, epochs: int, data: Path, folder: Path) -> dict[str, Any]:
    """The median over the epochs but the first; `before`: seconds until the first one began."""
    start, settings = REGIMES[name]
    os.environ["XDG_CACHE_HOME"] = str(folder)
    began, times = time.monotonic(), [0.0]
    events = Events()
    events.on("run_started", lambda **_: times.append(time.monotonic() - began))
    with tempfile.TemporaryDirectory(dir=folder) as place:
        run = neocog.train(
            pictures, network, weights=weights_of(network, start, data, folder), knobs=NETWORKS[network],
            out=Path(place) / "run", events=events, **SHARED | settings | {"epochs": epochs},
        )  # fmt: skip
        rows = [json.loads(line)["seconds"] for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    each = [after - before for before, after in pairwise(rows)]
    return {"epoch": round(median(each), 4), "before": round(times[-1], 1), "epochs": epochs}


def sizes(results: Results, data: Path, seeds: int, share: Share, folder: Path) -> None:
    archive = data / "imagenet_sample" / "imagenet_sample_256.zip"
    for network in mine(share, NETWORKS):
        results.get(f"models/A/{network}", of_imagenet, network, archive, data)
    small = {name: value for name, value in SMALL.items() if name not in ("model", "knobs")} | {"threads": 1}
    read = {target: table(data, folder) for target, table in TABLES.items()}
    cells = product(map(str, range(seeds)), map(str, SIZES), TABLES, NETWORKS, CELLS)
    for cell in mine(share, ("/".join(cell) for cell in cells)):
        seed, number, target, network, name = cell.split("/")
        start, settings = CELLS[name]
        if start == "nothing" and (network, seed) != ("mobilenet_v2", "0"):
            continue
        table = some(read[target], int(number), int(seed), folder / f"{target}-{number}-{seed}.csv")
        results.get(
            f"sizes/{target}/{number}/{network}/{name}/{seed}",
            trained,
            table,
            network,
            start,
            small | settings,
            int(seed),
            data,
            folder,
        )


def of_imagenet(network: str, archive: Path, data: Path) -> dict[str, Any]:
    """Model A: the pretrained network on a thousand pictures of ImageNet, which it has mostly learned from."""
    model = imagenet_sample.load(network, NETWORKS[network], data / "weights" / "imagenet" / f"{network}.safetensors")
    with torch.inference_mode():
        first = sum(imagenet_sample.hits(model(x), labels)[0] for x, labels in imagenet_sample.batches(archive))
    return {"accuracy": first / 1000}


Row = tuple[str, str, str]  # path, class, set


def table_of_clothes(data: Path, folder: Path) -> list[Row]:
    root = folder / "clothing10"
    if not root.is_dir():
        clothes(data, folder)
    names = {"train": "train", "validation": "val", "test": "test"}
    return [(str(path), path.parent.name, names[path.parts[-3]]) for path in sorted(root.glob("*/*/*.jpg"))]


def table_of_digits(data: Path, folder: Path) -> list[Row]:
    """MNIST's own test set; training and validation pictures from its training set."""
    rows = []
    for name, offset in (("train", 0), ("t10k", 60_000)):
        pixels, labels = (idx(data / "mnist" / "MNIST" / "raw", f"{name}-{kind}") for kind in ("images", "labels"))
        order = np.random.default_rng(0).permutation(len(labels))[:4000]
        for place, i in enumerate(order.tolist()):
            path = folder / "digits" / f"{offset + i}.png"
            path.parent.mkdir(exist_ok=True)
            if not path.is_file():
                Image.fromarray(pixels[i]).save(path)
            split = "test" if name == "t10k" else "val" if place % 4 == 0 else "train"
            rows.append((str(path), f"digit{labels[i]}", split))
    return rows


def idx(folder: Path, start: str) -> "np.typing.NDArray[np.uint8]":
    path = next(path for path in folder.glob(f"{start}*") if path.suffix in (".gz", ".xz"))
    content = (gzip if path.suffix == ".gz" else lzma).open(path).read()
    return (
        np.frombuffer(content, np.uint8, offset=16).reshape(-1, 28, 28)
        if "images" in start
        else np.frombuffer(content, np.uint8, offset=8)
    )


def table_of_characters(data: Path, folder: Path) -> list[Row]:
    """Omniglot by alphabet: which of eight writing systems is it from? Drawers 1 to 12 are for training,
    13 to 15 for validation, the others for the test."""
    root = folder / "omniglot"
    if not root.is_dir():
        for number in (1, 2):
            zipfile.ZipFile(data / "omniglot" / f"images_background_small{number}.zip").extractall(root)
    rows = []
    for path in sorted(root.rglob("*.png")):
        drawer = int(path.stem.rpartition("_")[2])
        split = "train" if drawer <= 12 else "val" if drawer <= 15 else "test"
        rows.append((str(path), path.parent.parent.name, split))
    return rows


TABLES = {"clothes": table_of_clothes, "digits": table_of_digits, "characters": table_of_characters}


def some(rows: list[Row], number: int, seed: int, path: Path) -> Path:
    """A CSV with `number` training pictures of each class, half as many for validation (5 at least), TESTED for the
    test."""
    draw = np.random.default_rng(seed)
    most = {"train": number, "val": max(5, number // 2), "test": TESTED}
    counts: Counter[tuple[str, str]] = Counter()
    kept = []
    for place in draw.permutation(len(rows)).tolist():
        file, label, split = rows[place]
        counts[label, split] += 1
        if counts[label, split] <= most[split]:
            kept.append((file, label, split))
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split"), *sorted(kept)])
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["regimes", "sizes", "paces"])
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--share", default="0/1", metavar="I/N", help="every N-th cell, from the I-th: one per process")
    arguments = parser.parse_args()
    number, _, processes = arguments.share.partition("/")
    share = int(number), int(processes)
    with tempfile.TemporaryDirectory() as place:
        if arguments.what == "regimes":
            regimes(Results(), arguments.data, arguments.seeds, share, Path(place))
        elif arguments.what == "sizes":
            sizes(Results(), arguments.data, arguments.seeds, share, Path(place))
        elif arguments.what == "paces":
            paces(Results(), arguments.data, Path(place))


if __name__ == "__main__":
    main()
