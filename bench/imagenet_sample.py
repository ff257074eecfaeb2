"""Top-1 and top-5 of real ImageNet weights on a thousand pictures, one per class, centre 224 x 224.

    python bench/imagenet_sample.py [--data ../shared/data] [--every N]

The pictures are mostly from ImageNet's training set, so networks score above their published validation
figures; what the table shows is that weights, preprocessing and padding fit together.
"""

import argparse
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from neocog import create_model
from neocog.core.contracts import Network
from neocog.core.spec import Preprocessing
from neocog.data.decode import decode
from neocog.data.preprocess import normalise, view

#     network           knobs                file                        top-1  top-5 (the data's README)
ROWS = (
    ("mobilenet_v2",  {},                  "mobilenet_v2.safetensors",  77.1, 94.8),
    ("mobilenet_v2",  {"padding": "same"}, "mobilenet_v2.safetensors",  86.8, 97.6),
    ("squeezenet1_1", {},                  "squeezenet1_1.safetensors", 60.7, 82.4),
)  # fmt: skip


def load(name: str, knobs: dict[str, object], path: Path) -> Network:
    """A network in eval mode with the weights of a file."""
    return create_model(name, weights=str(path), **knobs).eval()


def batches(archive: Path, every: int = 1, size: int = 50) -> Iterator[tuple[Tensor, Tensor]]:
    """((B, 3, 224, 224) normalised, (B,) class numbers): file i in the order of names is class i. The pixels go
    the way of every picture in neocog: decoded, short side 256 (which they have), centre crop, normalised."""
    preprocessing = Preprocessing()
    with zipfile.ZipFile(archive) as pictures:
        names = sorted(name for name in pictures.namelist() if name.endswith(".jpg"))
        chosen = range(0, len(names), every)
        for start in range(0, len(chosen), size):
            labels = chosen[start : start + size]
            pixels = [torch.from_numpy(decode(pictures.read(names[i])).pixels).permute(2, 0, 1) for i in labels]
            yield (
                normalise(torch.stack([view(one, preprocessing) for one in pixels]), preprocessing),
                torch.tensor(labels),
            )


def hits(scores: Tensor, labels: Tensor) -> tuple[int, int]:
    """How many rows have their class first, and among the first five."""
    right = scores.topk(5).indices == labels[:, None]
    return int(right[:, 0].sum()), int(right.any(dim=1).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--every", type=int, default=1, help="use every N-th picture")
    options = parser.parse_args()
    archive = options.data / "imagenet_sample" / "imagenet_sample_256.zip"
    print(f"{'network':16}{'padding':10}{'pictures':>9}{'top-1':>8}{'top-5':>8}{'expected':>15}{'seconds':>9}")
    for name, knobs, file, *expected in ROWS:
        network = load(name, knobs, options.data / "weights" / "imagenet" / file)
        started, total, first, five = time.perf_counter(), 0, 0, 0
        for x, labels in batches(archive, options.every):
            with torch.inference_mode():
                one, among = hits(network(x), labels)
            total, first, five = total + len(labels), first + one, five + among
        wanted = " / ".join(f"{value:.1f}" for value in expected)
        print(
            f"{name:16}{knobs.get('padding', 'torch'):10}{total:9}{100 * first / total:8.1f}{100 * five / total:8.1f}"
            f"{wanted:>15}{time.perf_counter() - started:9.0f}"
        )


if __name__ == "__main__":
    main()
