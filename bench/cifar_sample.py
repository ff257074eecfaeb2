"""Accuracy of the published CIFAR-10 ResNets on exact training pictures and on the JPEG test set.

    python bench/cifar_sample.py [--data ../shared/data] [--every N]

The first 4000 training pictures are there without loss, so nearly all are right. The test pictures went through
JPEG, which costs networks that never saw it ten points (their authors' figures on the clean set: 91.73 and 92.63);
so the figures to meet are those the data's README measured on the same pictures.
"""

import argparse
import io
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from neocog import create_model
from neocog.core.spec import Preprocessing
from neocog.data.preprocess import normalise

#   network     file                     lossless  JPEG test set (the data's README)
ROWS = (
    ("resnet20", "resnet20-12fca82f.th",  99.8, 81.03),
    ("resnet32", "resnet32-d509ac18.th", 100.0, 82.56),
)  # fmt: skip
PREPROCESSING = Preprocessing(size=32, resize=32)
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def lossless(folder: Path) -> tuple[Tensor, Tensor]:
    """(4000, 3, 32, 32) bytes and (4000,) class numbers: each PNG holds 1000 pictures, one a row of pixels."""
    rows = [np.asarray(Image.open(folder / f"cifar10_batch_{i}.png").convert("RGB")) for i in range(4)]
    images = np.concatenate(rows).reshape(-1, 32, 32, 3)
    labels = [int(word) for word in (folder / "labels.txt").read_text().split()]
    return torch.from_numpy(images).permute(0, 3, 1, 2), torch.tensor(labels)


def jpeg_test(archive: Path, every: int = 1) -> tuple[Tensor, Tensor]:
    """(10000 / every, 3, 32, 32) bytes and class numbers, from cifar10_jpg/test/<class>/<nnnn>.jpg."""
    images, labels = [], []
    with tarfile.open(archive) as files:
        for member in files:
            parts = Path(member.name).parts
            if not member.isfile() or parts[-3] != "test" or int(Path(parts[-1]).stem) % every:
                continue
            file = files.extractfile(member)
            assert file is not None
            images.append(np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB")))
            labels.append(CLASSES.index(parts[-2]))
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), torch.tensor(labels)


def accuracy(name: str, weights: Path, images: Tensor, labels: Tensor) -> float:
    """Percent."""
    network = create_model(name, weights=str(weights)).eval()
    return 100 * sum(hits(network, images, labels)) / len(labels)


def hits(network: torch.nn.Module, images: Tensor, labels: Tensor, size: int = 250) -> Iterator[int]:
    with torch.inference_mode():
        for x, target in zip(images.split(size), labels.split(size), strict=True):
            yield int((network(normalise(x, PREPROCESSING)).argmax(dim=1) == target).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--every", type=int, default=1, help="use every N-th picture of the test set")
    options = parser.parse_args()
    sets = {
        "lossless": lossless(options.data / "cifar10" / "lossless"),
        "JPEG test": jpeg_test(options.data / "cifar10" / "cifar10_jpg.tar.xz", options.every),
    }
    print(f"{'network':12}{'set':12}{'pictures':>9}{'top-1':>8}{'expected':>10}{'seconds':>9}")
    for name, file, *expected in ROWS:
        for (what, (images, labels)), wanted in zip(sets.items(), expected, strict=True):
            started = time.perf_counter()
            found = accuracy(name, options.data / "weights" / "cifar10" / file, images, labels)
            seconds = time.perf_counter() - started
            print(f"{name:12}{what:12}{len(labels):9}{found:8.2f}{wanted:10.2f}{seconds:9.0f}")


if __name__ == "__main__":
    main()
