"""Autoencoders on MNIST and Fashion-MNIST, three seeds each, and what the lectures say of them as measurements.

    python bench/autoencoders.py kinds       # every recipe of recipes/autoencoders
    python bench/autoencoders.py sizes       # codes of 2, 8, 32 and 128 numbers beside PCA
    python bench/autoencoders.py published   # the bound of Burda et al.'s network

Reads ../shared/data (`--data`). Every result is kept in bench/results/autoencoders.json as it comes, and what is there
is not computed again; `scripts/docs` makes docs/autoencoders.md of it. Each computes on one core, so that two may share
two: `--share 0/2` and `--share 1/2`. `--keep FOLDER` keeps the runs.
"""

import argparse
import tempfile
import tomllib
from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from transfer import Results, idx, mine

import neocog
from neocog.app.autoencoding import generate
from neocog.app.judging import judge
from neocog.app.opened import Opened
from neocog.core.noise import Noise
from neocog.data.corruption import corrupt
from neocog.data.preprocess import normalise
from neocog.evaluate import evaluating
from neocog.metrics.bound import active_units
from neocog.metrics.similarity import psnr

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "autoencoders.json"
RECIPES = HERE.parent / "recipes" / "autoencoders"

SETS = {"mnist": ("mnist", "MNIST/raw"), "fashion-mnist": ("fashion_mnist", "FashionMNIST/raw")}
SEEDS = (0, 1, 2)
SIZES = (2, 8, 32, 128)
SIZED = ("convolutional",)
LABELS = (10, 100, 1000)
DRAWS = 5  # of the labelled pictures
MADE = 2000  # pictures that are made up and judged
FILTERED = 200  # pictures of which the slow filter is tried
KEPT = ("mse", "psnr", "ssim", "input_psnr", "median_psnr", "zeros", "bound", "tighter_bound")
Floats = NDArray[np.float32]


def recipe(name: str) -> dict[str, Any]:
    return tomllib.loads((RECIPES / f"{name}.toml").read_text())


@cache
def pictures_of(folder: Path, start: str) -> tuple[Tensor, NDArray[np.int64]]:
    pixels, labels = idx(folder, f"{start}-images"), idx(folder, f"{start}-labels")
    return torch.from_numpy(pixels.copy())[:, None], labels.astype(np.int64)


class Bench:
    """`keep`: where runs stay; `data`: ../shared/data; `sets`: which of SETS are measured."""

    def __init__(self, data: Path, keep: Path, sets: list[str]) -> None:
        self.data, self.keep, self.sets = data, keep, sets

    def pictures(self, name: str, part: str) -> tuple[Tensor, NDArray[np.int64]]:
        """(N, 1, 28, 28) uint8 and the labels of a set's "train" or "test" pictures."""
        return pictures_of(self.data / SETS[name][0] / SETS[name][1], {"train": "train", "test": "t10k"}[part])

    def values(self, name: str, part: str) -> Floats:
        return self.pictures(name, part)[0].flatten(1).numpy().astype(np.float32) / 255

    def train(self, name: str, label: str, settings: dict[str, Any], seed: int) -> Opened:
        """The run in `keep` of that label, made if it is not there."""
        folder = self.keep / f"{label}-{seed}"
        if not (folder / "report.html").is_file():
            source = str(self.data / SETS[name][0]) if name in SETS else name
            more = {k: v for k, v in settings.items() if k != "data"}
            neocog.train(source, **more, seed=seed, threads=1, out=folder)
        return Opened.of(folder)

    def judge_of(self, name: str) -> Opened:
        """Deck 003's convnet, two epochs: the classifier by whose embedding made-up pictures are judged."""
        settings = {"model": "mnist_convnet", "epochs": 2, "batch_size": 128, "val_fraction": 0.1}
        return self.train(name, f"judge-{name}", settings, 0)

    def measure(self, name: str, label: str, settings: dict[str, Any], seed: int) -> dict[str, Any]:
        opened = self.train(name, f"{label}-{name}", settings, seed)
        numbers = opened.run.metrics("test")
        found = {key: numbers[key] for key in KEPT if key in numbers}
        network = opened.autoencoder
        found["numbers"] = int(np.prod(network.code_shape))
        noise = Noise.parse(opened.run.config.noise or "none")
        train, test = self.pictures(name, "train"), self.pictures(name, "test")
        some = np.random.default_rng(seed).permutation(len(train[0]))[:5000]
        codes = coded(opened, train[0][some]), coded(opened, test[0])
        if opened.run.config.sparse is not None:
            found["activation"] = float(codes[1].mean())
        if network.probabilistic:
            found["active"] = active_units(torch.from_numpy(codes[1]))
        found["linear"] = linear(codes[0], train[1][some], codes[1], test[1])
        found["few"] = few(codes[0], train[1][some], codes[1], test[1], seed)
        other = next(each for each in SETS if each != name)
        found["other_mse"] = float(squared(opened, self.pictures(other, "test")[0]))
        if noise.kind in ("gaussian", "salt_pepper"):
            found["nlm_psnr"] = non_local(test[0][:FILTERED], noise, seed)
        if network.generates:
            judged = judge(opened, generate(opened, MADE, seed), self.judge_of(name), seed)
            found |= {"distance": judged.made, "distance_of_training": judged.training}
        return found

    def pixels(self, name: str, seed: int) -> dict[str, Any]:
        """What the pixels themselves are good for, as `measure` asks of codes."""
        train, test = self.values(name, "train"), self.values(name, "test")
        known, truth = self.pictures(name, "train")[1], self.pictures(name, "test")[1]
        some = np.random.default_rng(seed).permutation(len(train))[:5000]
        return {
            "linear": linear(train[some], known[some], test, truth),
            "few": few(train[some], known[some], test, truth, seed),
        }

    def pca(self, name: str, numbers: int) -> dict[str, Any]:
        """Squared error after the way through so many principal components of all training pictures."""
        train, test = self.values(name, "train"), self.values(name, "test")
        made = PCA(numbers, svd_solver="covariance_eigh").fit(train)
        back = made.inverse_transform(made.transform(test)).clip(0, 1)
        return {"mse": float(np.square(back - test).mean())}


def batches(opened: Opened, pixels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """(what the network takes, (B, C, H, W) in 0..1)"""
    pre = opened.run.card.preprocessing
    for part in torch.split(pixels, 500):
        yield normalise(part, pre), part / 255


def coded(opened: Opened, pixels: Tensor) -> Floats:
    return np.concatenate([opened.encode(images).flatten(1).numpy() for images, _ in batches(opened, pixels)])


@torch.inference_mode()
def given_back(opened: Opened, pixels: Tensor) -> Tensor:
    with evaluating(opened.autoencoder):
        return torch.cat([opened.autoencoder(images).float() for images, _ in batches(opened, pixels)])


def squared(opened: Opened, pixels: Tensor) -> float:
    return float((given_back(opened, pixels) - pixels / 255).square().mean())


def linear(a: Floats, known: NDArray[np.int64], b: Floats, truth: NDArray[np.int64]) -> float:
    """Accuracy of a linear classifier of standardised numbers."""
    made = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)).fit(a, known)
    return float(made.score(b, truth))


def few(a: Floats, known: NDArray[np.int64], b: Floats, truth: NDArray[np.int64], seed: int) -> dict[str, list[float]]:
    """{labels: (linear, nearest neighbour) accuracy}, as many labelled pictures of each class, the mean of DRAWS."""
    found = {}
    draw = np.random.default_rng(seed)
    for number in LABELS:
        rates = []
        for _ in range(DRAWS):
            order = draw.permutation(len(known))
            chosen = np.concatenate([order[known[order] == k][: number // 10] for k in range(10)])
            nearest = KNeighborsClassifier(1).fit(a[chosen], known[chosen])
            rates.append((linear(a[chosen], known[chosen], b, truth), float(nearest.score(b, truth))))
        found[str(number)] = np.mean(rates, 0).tolist()
    return found


def non_local(pixels: Tensor, noise: Noise, seed: int) -> float:
    """Mean PSNR after scikit-image's non-local means, of several strengths the one that does best on these very
    pictures."""
    from skimage.restoration import denoise_nl_means

    seen = corrupt(pixels.float(), np.arange(len(pixels)), seed, 0, noise)[:, 0] / 255
    found = []
    for h in (0.1, 0.2, 0.3, 0.45, 0.6, 0.8):
        back = np.stack([denoise_nl_means(one.numpy(), patch_size=5, patch_distance=9, h=h) for one in seen])
        found.append(float(psnr(torch.from_numpy(back)[:, None].clamp(0, 1), pixels / 255).mean()))
    return max(found)


Share = tuple[int, int]


def kinds(results: Results, bench: Bench, share: Share) -> None:
    names = sorted(path.stem for path in RECIPES.glob("*.toml"))
    for seed, name in product(SEEDS, SETS):
        results.get(f"pixels/{name}/{seed}", bench.pixels, name, seed)
    for cell in mine(share, ("/".join(cell) for cell in product(map(str, SEEDS), SETS, names))):
        seed, name, kind = cell.split("/")
        if name not in bench.sets:
            continue
        results.get(f"kinds/{name}/{kind}/{seed}", bench.measure, name, kind, recipe(kind), int(seed))


def sizes(results: Results, bench: Bench, share: Share) -> None:
    for name, number in product(SETS, SIZES):
        results.get(f"pca/{name}/{number}", bench.pca, name, number)
    for cell in mine(share, ("/".join(cell) for cell in product(map(str, SEEDS), SETS, SIZED, map(str, SIZES)))):
        seed, name, kind, number = cell.split("/")
        settings = recipe(kind)
        if settings["latent"] == int(number) or name not in bench.sets:  # the first are of `kinds`
            continue
        results.get(
            f"sizes/{name}/{kind}/{number}/{seed}", bench.measure, name, f"{kind}{number}",
            settings | {"latent": int(number)}, int(seed),
        )  # fmt: skip


# Burda, Grosse and Salakhutdinov, ICLR 2016, arXiv:1509.00519, table 1: one stochastic layer, k = 1.
BURDA = {"model": "vae", "latent": 50, "knobs": {"hidden": 200, "layers": 2}, "noise": "binary", "epochs": 20,
         "batch_size": 128, "lr": 0.002, "val_fraction": 0.05}  # fmt: skip
PUBLISHED: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "published": ({"annealed": 0.0}, SEEDS),
    "published, annealed": ({"annealed": 0.1}, SEEDS),
    "published, 200 epochs": ({"annealed": 0.0, "epochs": 200}, SEEDS[:1]),
}


def published(results: Results, bench: Bench, share: Share) -> None:
    for cell in mine(share, (f"{name}/{seed}" for name, (_, seeds) in PUBLISHED.items() for seed in seeds)):
        name, seed = cell.split("/")
        label = name.replace("published", "burda").replace(", ", "-").replace(" ", "-")
        results.get(cell, bench.measure, "mnist", label, BURDA | PUBLISHED[name][0], int(seed))


def arguments_of(what: str | None, choices: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=what, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=choices)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--keep", type=Path, help="folder for the runs (default: one that goes away)")
    parser.add_argument("--share", default="0/1", metavar="I/N", help="every N-th cell, from the I-th: one per process")
    parser.add_argument("--only", choices=list(SETS), help="one of the sets (default: both)")
    found = parser.parse_args()
    number, _, processes = found.share.partition("/")
    found.share = int(number), int(processes)
    return found


def main() -> None:
    arguments = arguments_of(__doc__, ["kinds", "sizes", "published"])
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        sets = [arguments.only] if arguments.only else list(SETS)
        bench = Bench(arguments.data.resolve(), arguments.keep or Path(place), sets)
        work = {"kinds": kinds, "sizes": sizes, "published": published}[arguments.what]
        work(Results(RESULTS), bench, arguments.share)


if __name__ == "__main__":
    main()
