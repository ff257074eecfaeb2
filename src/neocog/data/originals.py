"""The original files of well-known sets, as their authors publish them, read from wherever they lie.

MNIST, Fashion-MNIST    idx files (LeCun's format), plain, .gz or .xz, also inside MNIST/raw or FashionMNIST/raw
CIFAR-10, CIFAR-100     the binary version (.bin), or the Python version's pickles, of which only arrays are read
Flowers-102             jpg/ with imagelabels.mat and setid.mat
"""

import gzip
import io
import lzma
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neocog.core.errors import DataError
from neocog.data.flowers import FLOWERS
from neocog.data.source import Item, Source

Bytes = NDArray[np.uint8]
DIGITS = tuple("0123456789")
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FASHION_BEGINS = [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]  # its first training labels; MNIST's are 5 0 4 1 9 2 1 3 1 4
MAX_BYTES = 2**30  # no part of any of these sets unpacks to more


def find(root: Path) -> Source | None:
    """The set whose original files lie in `root` or in the usual folders below it; None where there are none."""
    for read, places in _READERS:
        for place in places:
            source = read(root / place)
            if source is not None:
                return source
    return None


def from_arrays(name: str, parts: dict[str | None, tuple[Bytes, list[int]]], names: tuple[str, ...]) -> Source:
    """{split: (uint8 (N, H, W, C), N class numbers)} -> a Source whose pictures are called `split/00000`."""
    items = []
    for split, (pixels, labels) in parts.items():
        if len(pixels) != len(labels):
            cause = f"{name}: {len(pixels)} pictures but {len(labels)} labels in {split}"
            raise DataError(cause, "get its files again")
        if labels and not 0 <= min(labels) <= max(labels) < len(names):
            raise DataError(f"{name}: a label outside 0..{len(names) - 1} in {split}", "get its files again")
        folder = split or name
        items += [Item(f"{folder}/{i:05}", None, names[label], split) for i, label in enumerate(labels)]
    return Source(name, items, {"pixels": np.concatenate([pixels for pixels, _ in parts.values()])})


def read_idx(folder: Path) -> Source | None:
    parts: dict[str | None, tuple[Bytes, list[int]]] = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images = _idx_file(folder, f"{prefix}-images-idx3-ubyte")
        labels = _idx_file(folder, f"{prefix}-labels-idx1-ubyte")
        if images is None and labels is None:
            continue
        if images is None or labels is None:
            missing = f"{prefix}-{'images-idx3' if images is None else 'labels-idx1'}-ubyte"
            raise DataError(f"{folder} lacks {missing} (plain, .gz or .xz)", "copy it there")
        parts[split] = _parse_idx(images, 3)[..., None], _parse_idx(labels, 1).tolist()
    if "train" not in parts:
        return None
    fashion = parts["train"][1][:10] == FASHION_BEGINS
    return from_arrays("fashion-mnist" if fashion else "mnist", parts, FASHION if fashion else DIGITS)


def _idx_file(folder: Path, name: str) -> Path | None:
    spellings = (name, name.replace("-idx", ".idx"))
    candidates = [folder / f"{spelling}{suffix}" for spelling in spellings for suffix in ("", ".gz", ".xz")]
    return next((path for path in candidates if path.is_file()), None)


def _parse_idx(path: Path, rank: int) -> Bytes:
    """The header is two zero bytes, the type (8: uint8), the rank, then each size as four bytes, big end first."""
    data = _unpack(path)
    start = 4 + 4 * rank
    sizes = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(rank)]
    if data[:4] != bytes([0, 0, 8, rank]) or len(data) != start + int(np.prod(sizes, dtype=object)):
        raise DataError(f"{path} is damaged: it is no idx file of the length its header states", "get it again")
    return np.frombuffer(data, np.uint8, offset=start).reshape(sizes)


def _unpack(path: Path) -> bytes:
    opener: Any = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
    try:
        with opener(path, "rb") as file:
            data: bytes = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"{path} cannot be read or unpacked ({error})", "get it again") from None
    if len(data) > MAX_BYTES:
        raise DataError(f"{path} unpacks to more than {MAX_BYTES:,} bytes", "get it again")
    return data


def read_cifar(folder: Path) -> Source | None:
    if (folder / "data_batch_1.bin").is_file():
        files = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}
        names = _name_lines(folder / "batches.meta.txt") or CIFAR10
        return from_arrays("cifar10", _read_parts(folder, files, lambda path: _binary(path, 1)), names)
    if (folder / "train.bin").is_file() and (folder / "test.bin").is_file():
        names = _name_lines(folder / "fine_label_names.txt") or _numbers(100)
        files = {"train": ["train.bin"], "test": ["test.bin"]}
        return from_arrays("cifar100", _read_parts(folder, files, lambda path: _binary(path, 2)), names)
    if (folder / "data_batch_1").is_file():
        files = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
        return from_arrays("cifar10", _read_parts(folder, files, lambda path: _pickled(path, "labels")), CIFAR10)
    if (folder / "train").is_file() and (folder / "meta").is_file():
        names = tuple(_unpickle(folder / "meta")["fine_label_names"])
        files = {"train": ["train"], "test": ["test"]}
        return from_arrays("cifar100", _read_parts(folder, files, lambda path: _pickled(path, "fine_labels")), names)
    return None


def _read_parts(
    folder: Path, files: dict[str, list[str]], read: Callable[[Path], tuple[Bytes, list[int]]]
) -> dict[str | None, tuple[Bytes, list[int]]]:
    parts: dict[str | None, tuple[Bytes, list[int]]] = {}
    for split, names in files.items():
        read_files = [read(folder / name) for name in names]
        flat = np.concatenate([pixels for pixels, _ in read_files])
        # Stored as planes of red, green, blue; kept as pixels, like every decoded picture.
        pixels = np.ascontiguousarray(flat.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        parts[split] = pixels, [label for _, labels in read_files for label in labels]
    return parts


def _binary(path: Path, label_bytes: int) -> tuple[Bytes, list[int]]:
    data = np.frombuffer(_unpack(path), np.uint8)
    if len(data) == 0 or len(data) % (label_bytes + 3072):
        raise DataError(f"{path} is damaged: no whole number of pictures", "get it again")
    rows = data.reshape(-1, label_bytes + 3072)
    return rows[:, label_bytes:], rows[:, label_bytes - 1].tolist()  # CIFAR-100: coarse label, then fine


def _pickled(path: Path, key: str) -> tuple[Bytes, list[int]]:
    content = _unpickle(path)
    data, labels = content.get("data"), content.get(key)
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3072:
        raise DataError(f"{path} does not hold CIFAR pictures", "get it again")
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise DataError(f"{path} does not hold CIFAR labels", "get it again")
    return data, labels


class _ArraysOnly(pickle.Unpickler):
    """Builds dicts, lists, strings, numbers and NumPy arrays; any other class or function is refused."""

    ALLOWED = {(f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")}
    ALLOWED |= {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no array needs")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _unpickle(path: Path) -> dict[str, Any]:
    try:
        content = _ArraysOnly(io.BytesIO(_unpack(path)), encoding="latin1").load()
    except DataError:
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise DataError(f"{path} is no pickle of arrays ({error})", "get it again") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} is no CIFAR file", "get it again")
    return content


def _name_lines(path: Path) -> tuple[str, ...]:
    return tuple(path.read_text("utf-8").split()) if path.is_file() else ()


def _numbers(n: int) -> tuple[str, ...]:
    return tuple(f"{i:0{len(str(n - 1))}}" for i in range(n))


def read_flowers(folder: Path) -> Source | None:
    if not all((folder / name).exists() for name in ("jpg", "imagelabels.mat", "setid.mat")):
        return None
    from scipy.io import loadmat  # type: ignore[import-untyped]  # comes with scikit-learn
    from scipy.io.matlab import MatReadError  # type: ignore[import-untyped]

    try:
        labels = loadmat(folder / "imagelabels.mat", squeeze_me=True)["labels"].tolist()
        sets = loadmat(folder / "setid.mat", squeeze_me=True)
        items = []
        for split, key in (("train", "trnid"), ("val", "valid"), ("test", "tstid")):
            for number in sets[key].tolist():
                path = folder / "jpg" / f"image_{number:05}.jpg"
                items.append(Item(f"jpg/{path.name}", path, FLOWERS[labels[number - 1] - 1], split))
    except (MatReadError, OSError, ValueError, KeyError, IndexError, TypeError, NotImplementedError) as error:
        raise DataError(f"{folder}: imagelabels.mat or setid.mat is damaged ({error})", "get them again") from None
    return Source("flowers102", items)


_READERS: list[tuple[Callable[[Path], Source | None], tuple[str, ...]]] = [
    (read_idx, (".", "raw", "MNIST/raw", "FashionMNIST/raw")),
    (read_cifar, (".", "cifar-10-batches-bin", "cifar-10-batches-py", "cifar-100-binary", "cifar-100-python")),
    (read_flowers, (".", "flowers-102")),
]
