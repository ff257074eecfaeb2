"""Autoencoders on photographs, and their codes as files.

    python bench/autoencoder_photos.py photos   # denoised, coloured, enlarged
    python bench/autoencoder_photos.py bytes    # codes beside JPEG and WebP files of as many bytes

One seed each; otherwise as bench/autoencoders.py.
"""

import io
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from autoencoders import KEPT, RESULTS, SETS, Bench, Share, arguments_of, coded, recipe
from PIL import Image
from torch import Tensor
from transfer import Results, clothes, mine

from neocog.app.opened import Opened
from neocog.data.preprocess import denormalise
from neocog.evaluate import evaluating
from neocog.metrics.similarity import psnr

# name -> (set, settings)
CLOTHES: dict[str, Any] = {"model": "conv_ae", "image_size": 64, "batch_size": 32, "lr": 0.003}
SPATIAL: dict[str, Any] = {"code": "spatial"}
PHOTOS: dict[str, tuple[str, dict[str, Any]]] = {
    "clothes, noise": (
        "clothes",
        CLOTHES | {"latent": 64, "knobs": SPATIAL | {"halvings": 1}, "noise": "gaussian:0.1", "epochs": 40},
    ),
    "clothes, half the resolution": (
        "clothes",
        CLOTHES | {"latent": 64, "knobs": SPATIAL | {"halvings": 1}, "noise": "low_resolution:2", "epochs": 40},
    ),
    "cifar-10, colour": (
        "cifar",
        {"model": "conv_ae", "latent": 64, "knobs": SPATIAL | {"halvings": 2}, "noise": "grey", "epochs": 12,
         "batch_size": 64, "lr": 0.003},
    ),
    "cifar-10, 128 numbers": (
        "cifar", {"model": "conv_ae", "latent": 128, "epochs": 4, "batch_size": 64, "lr": 0.003}
    ),
}  # fmt: skip


def photos(results: Results, bench: Bench, share: Share, folder: Path) -> None:
    for name in mine(share, PHOTOS):
        results.get(f"photos/{name}", restored, bench, name, folder)


def restored(bench: Bench, name: str, folder: Path) -> dict[str, Any]:
    source, settings = PHOTOS[name]
    place = clothes(bench.data, folder) if source == "clothes" else cifar(bench.data, folder)
    opened = bench.train(str(place), name.replace(", ", "-").replace(" ", "-"), settings, 0)
    numbers = opened.run.metrics("test")
    found = {key: numbers[key] for key in KEPT if key in numbers}
    if "input_psnr" in found:  # the mean of decibels says little of pictures that hardly change
        each = opened.run.reconstructions("test").measures
        found["input_mse"] = float(np.mean(10 ** (-each["input_psnr"] / 10)))
        found["better"] = float(np.mean(each["psnr"] > each["input_psnr"]))
    return found


def cifar(data: Path, folder: Path) -> Path:
    with tarfile.open(data / "cifar10" / "cifar10_jpg.tar.xz") as files:
        files.extractall(folder, filter="data")
    return folder / "cifar10_jpg"


MAPS = (2, 4, 8)  # of a code of 8 x 8 places: 128, 256, 512 numbers for a photograph of 64 x 64
FORMATS: dict[str, Callable[[Image.Image, io.BytesIO, int], None]] = {
    "JPEG": lambda image, out, quality: image.save(out, "JPEG", quality=quality, optimize=True),
    "WebP": lambda image, out, quality: image.save(out, "WEBP", quality=quality, method=6),
}


def sizes_in_bytes(results: Results, bench: Bench, share: Share, folder: Path) -> None:
    """Each number of a code as one byte, on a grid between its least and its most among training pictures."""
    cells = [*product(SETS, (32, 128)), *(("clothes", 64 * maps) for maps in MAPS)]
    for cell in mine(share, (f"{name}/{number}" for name, number in cells)):
        name, number = cell.split("/")
        results.get(f"bytes/{cell}", compressed, bench, name, int(number), folder)


def compressed(bench: Bench, name: str, number: int, folder: Path) -> dict[str, Any]:
    """PSNR at `number` bytes a picture: of the codes, of pictures of another kind by the same codes, of each format at
    the best quality that is no larger; `least`: the bytes of its smallest files, in the mean."""
    if name in SETS:
        opened = bench.train(name, f"convolutional{'' if number == 32 else number}-{name}",
                             recipe("convolutional") | {"latent": number}, 0)  # fmt: skip
        train, test = bench.pictures(name, "train")[0][:5000], bench.pictures(name, "test")[0][:1000]
        other = bench.pictures(next(each for each in SETS if each != name), "test")[0][:1000]
    else:
        settings = CLOTHES | {"latent": number // 64, "knobs": SPATIAL | {"halvings": 3}, "epochs": 30}
        place = clothes(bench.data, folder)
        opened = bench.train(str(place), f"bytes-{number}", settings, 0)
        train, test = (seen(opened, place / part) for part in ("train", "test"))
        other = seen(opened, imagenet(bench.data, folder))
    found: dict[str, Any] = {"code": quantised(opened, train, test), "other_code": quantised(opened, train, other)}
    for kind, save in FORMATS.items():
        for which, pictures in (("", test), ("other_", other)):
            reached = [smallest(one, number, save) for one in pictures]
            fit = [value for value, _ in reached if value is not None]
            found[f"{which}{kind}"] = {
                "psnr": float(np.mean(fit)) if fit else None, "fit": len(fit) / len(reached),
                "least": float(np.mean([least for _, least in reached])),
            }  # fmt: skip
    return found


def quantised(opened: Opened, train: Tensor, test: Tensor) -> float:
    """Mean PSNR of `test` after its codes became bytes."""
    known, codes = torch.from_numpy(coded(opened, train)), torch.from_numpy(coded(opened, test))
    low, high = known.amin(0), known.amax(0)
    step = (high - low).clamp_min(1e-6) / 255
    back = ((codes - low) / step).round().clamp(0, 255) * step + low
    network = opened.autoencoder
    with evaluating(network), torch.inference_mode():
        parts = back.reshape(-1, *network.code_shape).split(256)
        made = torch.cat([network.decode(part).float().sigmoid() for part in parts])
    return float(psnr(made, test / 255).clamp(max=100).mean())


def smallest(picture: Tensor, most: int, save: Callable[..., None]) -> tuple[float | None, int]:
    """(PSNR at the best quality of at most `most` bytes, None where there is none; bytes of the worst quality)"""
    pixels = picture.permute(1, 2, 0).numpy()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    best, least = None, 0
    for quality in (1, *range(5, 100, 5)):
        out = io.BytesIO()
        save(image, out, quality)
        least = least or len(out.getvalue())
        if len(out.getvalue()) > most:
            break
        back = np.asarray(Image.open(out).convert(image.mode), np.float32) / 255
        error = np.square(back.reshape(pixels.shape) - pixels / 255).mean()
        best = float(-10 * np.log10(max(error, 1e-10)))
    return best, least


def seen(opened: Opened, folder: Path) -> Tensor:
    """(N, 3, S, S) uint8, the pictures of a folder as the run sees them."""
    pre = opened.run.card.preprocessing
    found = [denormalise(some.images, pre) for some in opened.pictures([folder])]
    return (torch.cat(found) * 255).round().clamp(0, 255).byte()


def imagenet(data: Path, folder: Path) -> Path:
    place = folder / "imagenet_sample"
    if not place.is_dir():
        zipfile.ZipFile(data / "imagenet_sample" / "imagenet_sample_256.zip").extractall(folder)
    return place


def main() -> None:
    arguments = arguments_of(__doc__, ["photos", "bytes"])
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        bench = Bench(arguments.data.resolve(), arguments.keep or Path(place), list(SETS))
        work = {"photos": photos, "bytes": sizes_in_bytes}[arguments.what]
        work(Results(RESULTS), bench, arguments.share, Path(place))


if __name__ == "__main__":
    main()
