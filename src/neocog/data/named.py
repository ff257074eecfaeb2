"""The sets that have a name: what they are, where they are published, and how to know a file is the right one.

`digits` ships inside scikit-learn and needs nothing. The others are read from $NEOCOG_DATA/NAME, then from
~/.cache/neocog/data/NAME, or from any folder that holds the original files; `get` downloads them.
Hashes: the MD5 that the authors (CIFAR, Fashion-MNIST) or torchvision (MNIST, Flowers) publish.
"""

import os
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neocog.core.errors import DataError, ResourceError, did_you_mean
from neocog.core.folders import cache_folder
from neocog.data import fetch, originals
from neocog.data.source import Source

_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_CIFAR = "https://www.cs.toronto.edu/~kriz/"
_FLOWERS = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"


@dataclass(frozen=True)
class Named:
    """`files`: (url, hash) pairs. `counts`: pictures per split. `megabytes`: size of the download."""

    name: str
    what: str
    classes: int
    shape: str
    counts: dict[str, int]
    licence: str
    megabytes: int = 0
    files: tuple[tuple[str, str], ...] = ()


NAMED = {
    entry.name: entry
    for entry in (
        Named(
            "digits",
            "handwritten digits, inside scikit-learn: no download",
            10,
            "8 x 8 grey",
            {"all": 1797},
            "CC BY 4.0 (UCI)",
        ),
        Named(
            "mnist",
            "handwritten digits",
            10,
            "28 x 28 grey",
            {"train": 60_000, "test": 10_000},
            "CC BY-SA 3.0",
            12,
            (
                (_MNIST + "train-images-idx3-ubyte.gz", "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873"),
                (_MNIST + "train-labels-idx1-ubyte.gz", "md5:d53e105ee54ea40749a09fcbcd1e9432"),
                (_MNIST + "t10k-images-idx3-ubyte.gz", "md5:9fb629c4189551a2d022fa330f9573f3"),
                (_MNIST + "t10k-labels-idx1-ubyte.gz", "md5:ec29112dd5afa0611ce80d1b7f02629c"),
            ),
        ),
        Named(
            "fashion-mnist",
            "pieces of clothing",
            10,
            "28 x 28 grey",
            {"train": 60_000, "test": 10_000},
            "MIT",
            31,
            (
                (_FASHION + "train-images-idx3-ubyte.gz", "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
                (_FASHION + "train-labels-idx1-ubyte.gz", "md5:25c81989df183df01b3e8a0aad5dffbe"),
                (_FASHION + "t10k-images-idx3-ubyte.gz", "md5:bef4ecab320f06d8554ea6380940ec79"),
                (_FASHION + "t10k-labels-idx1-ubyte.gz", "md5:bb300cfdad3c16e7a12a480ee83cd310"),
            ),
        ),
        Named(
            "cifar10",
            "small photographs of 10 kinds of things",
            10,
            "32 x 32 RGB",
            {"train": 50_000, "test": 10_000},
            "none stated (cite Krizhevsky 2009)",
            170,
            ((_CIFAR + "cifar-10-binary.tar.gz", "md5:c32a1d4ab5d03f1284b67883e8d87530"),),
        ),
        Named(
            "cifar100",
            "small photographs of 100 kinds of things",
            100,
            "32 x 32 RGB",
            {"train": 50_000, "test": 10_000},
            "none stated (cite Krizhevsky 2009)",
            169,
            ((_CIFAR + "cifar-100-binary.tar.gz", "md5:03b5dce01913d631647c71ecec9e9cb8"),),
        ),
        Named(
            "flowers102",
            "photographs of flowers",
            102,
            "about 650 x 500 RGB",
            {"train": 1020, "val": 1020, "test": 6149},
            "none stated (cite Nilsback and Zisserman 2008)",
            345,
            (
                (_FLOWERS + "102flowers.tgz", "md5:52808999861908f626f3c1f4e79d11fa"),
                (_FLOWERS + "imagelabels.mat", "md5:e0620be6f572b9609742df49c70aed4d"),
                (_FLOWERS + "setid.mat", "md5:a5357ecc9cb78c4bef273ce3793fc85c"),
            ),
        ),
    )
}


def places(name: str) -> list[Path]:
    own = os.environ.get("NEOCOG_DATA")
    return ([Path(own) / name] if own else []) + [cache_folder() / "data" / name]


def open_named(name: str) -> Source:
    """DataError with the command that gets the set, where it is not on this machine."""
    if name == "digits":
        return _digits()
    looked = places(name)
    for folder in looked:
        if folder.is_dir() and (source := originals.find(folder)) is not None:
            if source.name != name:
                raise DataError(f"{folder} holds {source.name}, not {name}", f"put the files of {name} there")
            return source
    size = NAMED[name].megabytes
    get = f"`neocog data get {name} {looked[0]}` downloads it ({size} MB); a folder that holds its files works too"
    raise DataError(f"the set {name} is not on this machine (looked in {', '.join(map(str, looked))})", get)


def _digits() -> Source:
    """1797 pictures of 8 x 8 in 17 shades, scaled to 0..255; no official split."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    return originals.from_arrays("digits", {None: (pixels, bunch.target.tolist())}, originals.DIGITS)


def get(name: str, folder: Path, *, on_progress: Callable[[str, int, int], object] | None = None) -> Path:
    """Downloads the original files of a set into `folder`, checks their hashes, unpacks archives. Files that are
    there already, whole and right, are kept. `on_progress(file, done, total)` in bytes."""
    if name not in NAMED:
        raise DataError(f"there is no named set {name!r}", did_you_mean(name, NAMED) or f"known: {', '.join(NAMED)}")
    if not NAMED[name].files:
        raise DataError(f"the set {name} needs no download", f"use it by its name: `neocog train {name}`")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"{folder} cannot be made ({error.strerror})", "give another folder") from None
    for url, digest in NAMED[name].files:
        target = folder / url.rsplit("/", 1)[1]
        report = (lambda done, total, file=target.name: on_progress(file, done, total)) if on_progress else None
        fetch.fetch(url, target, digest, on_progress=report)
        if target.suffix == ".tgz" or target.name.endswith(".tar.gz"):
            unpack(target, folder)
    return folder


def unpack(archive: Path, folder: Path) -> None:
    """Unpacks a tar. Absolute names, names with `..`, links that leave and devices are refused (PEP 706)."""
    try:
        with tarfile.open(archive) as tar:
            need = sum(member.size for member in tar)
            if need > shutil.disk_usage(folder).free:
                raise ResourceError(f"{folder} has no room for {need:,} bytes of {archive.name}", "free some space")
            tar.extractall(folder, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{archive} cannot be unpacked ({error})", "remove it and get it again") from None
