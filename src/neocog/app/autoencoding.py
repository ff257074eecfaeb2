"""What a trained autoencoder is for: codes of pictures, pictures made better, pictures of codes."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neocog.app.codes import between, decoded, fan
from neocog.app.opened import Opened
from neocog.app.pictures import png, to_bytes
from neocog.app.run import CODES, RECONSTRUCTIONS
from neocog.core.cells import to_cell
from neocog.core.errors import ModelFileError
from neocog.core.files import write_array, write_atomic
from neocog.evaluate import evaluating
from neocog.evaluate.reconstructions import Reconstructions


class Embedding(NamedTuple):
    file: Path
    vector: NDArray[np.float32] | None  # (D,); None where the file could not be read
    problem: str = ""


def embed(opened: Opened, files: Iterable[str | Path]) -> Iterator[Embedding]:
    """The code of each picture, or, of a classifier, what its last layer sees, as they come."""
    for seen in opened.pictures(files):
        for path, problem in seen.failures:
            yield Embedding(path, None, problem)
        if seen.files:
            with evaluating(opened.network), torch.inference_mode():
                vectors = opened.network.embed(seen.images).float().cpu().numpy()
            for path, vector in zip(seen.files, vectors, strict=True):
                yield Embedding(path, vector)


class Written(NamedTuple):
    file: Path
    out: Path | None  # None where the file could not be read
    problem: str = ""
    size: tuple[int, int] = (0, 0)  # (height, width) of the picture that was given


def denoise(opened: Opened, files: Sequence[str | Path], out: Path) -> Iterator[Written]:
    """What the autoencoder makes of each picture, as files in the folder `out` of the same stem, numbered where it is
    taken: PNG, or, of other than 1 or 3 channels, .npy, uint8 (H, W, C)."""
    network = opened.autoencoder
    taken: set[str] = set()
    out.mkdir(parents=True, exist_ok=True)
    for seen in opened.pictures(files):
        for path, problem in seen.failures:
            yield Written(path, None, problem)
        if not seen.files:
            continue
        with evaluating(network), torch.inference_mode():
            made = network(seen.images).float().cpu()
        for path, picture, size in zip(seen.files, made, seen.sizes, strict=True):
            name, number = path.stem, 1
            while name in taken:
                number += 1
                name = f"{path.stem}-{number}"
            taken.add(name)
            yield Written(path, write_picture(out / name, picture), size=size)


def write_picture(place: Path, picture: Tensor) -> Path:
    """(C, H, W) in 0..1; `place` has no suffix yet."""
    if len(picture) in (1, 3):
        target = place.with_name(f"{place.name}.png")
        write_atomic(target, png(picture, limit=None))
    else:
        target = place.with_name(f"{place.name}.npy")
        write_array(target, to_bytes(picture))
    return target


def generate(opened: Opened, number: int, seed: int) -> Tensor:
    """(number, C, H, W) in 0..1."""
    drawn = opened.prior().draw(number, torch.Generator().manual_seed(seed))
    return decoded(opened.autoencoder, drawn)


def interpolate(opened: Opened, a: str | Path, b: str | Path, steps: int) -> Tensor:
    """(steps, C, H, W) in 0..1, from the code of one picture to that of another in equal steps."""
    opened.must_generate()
    first, last = opened.encode(opened.one(a)), opened.encode(opened.one(b))
    return decoded(opened.autoencoder, between(first[0], last[0], steps))


def traverse(opened: Opened, picture: str | Path, steps: int, most: int) -> Iterator[tuple[str, Tensor]]:
    """(what changes, (steps, C, H, W) in 0..1): the code of a picture moved along each of the `most` numbers that vary
    most among codes, then towards each class, by the way from the mean of all codes to the mean of the class's."""
    opened.must_generate()
    network = opened.autoencoder
    code = opened.encode(opened.one(picture)).flatten()
    codes = torch.from_numpy(opened.codes)
    for number, way in fan(codes, steps, most):
        yield f"number {number} of the code, from low to high", decoded(network, code + way)
    found = Reconstructions.read(opened.run.folder / RECONSTRUCTIONS)
    if len(found.classes) != len(codes):
        raise ModelFileError(f"{opened.run.folder}/{CODES} has other rows than {RECONSTRUCTIONS}", "restore both")
    names = sorted(set(found.classes))
    for name in names if len(names) > 1 else ():
        chosen = torch.tensor([own == name for own in found.classes])
        way = codes[chosen].mean(0) - codes.mean(0)
        moved = code + torch.linspace(0, 2, steps)[:, None] * way
        yield f"towards {name}", decoded(network, moved)


def write_vectors(out: Path, files: Sequence[Path], vectors: NDArray[np.float32]) -> None:
    """(N, D) as a .csv of file, v0, v1, ..., or as a .npy with the files' names in a .txt beside it."""
    if out.suffix == ".npy":
        write_array(out, vectors)
        write_atomic(out.with_suffix(".txt"), "".join(f"{file}\n" for file in files))
        return
    heads = ",".join(f"v{i}" for i in range(vectors.shape[1]))
    rows = (
        f"{to_cell(str(file))},{','.join(f'{v:.9g}' for v in row)}" for file, row in zip(files, vectors, strict=True)
    )
    write_atomic(out, f"file,{heads}\n" + "".join(f"{row}\n" for row in rows))
