"""Prints docs/autoencoders.md from what bench/autoencoders.py and bench/autoencoder_photos.py measured; `scripts/docs`
writes it."""

import json
import math
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import mean
from typing import Any

from neocog import create_model
from neocog.core.autoencoder import Autoencoder

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "autoencoders.json"
RECIPES = ROOT / "recipes" / "autoencoders"

Results = dict[str, dict[str, Any]]
SETS = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST"}
SEEDS = (0, 1, 2)
SIZES = (2, 8, 32, 128)
LABELS = (10, 100, 1000)

HEAD = """# Autoencoders, measured

Written by `scripts/docs` from what `python bench/autoencoders.py kinds`, `sizes`, `published` and
`python bench/autoencoder_photos.py photos`, `bytes` measured (the numbers themselves are in
bench/results/autoencoders.json). One core of an AMD EPYC with AVX512-BF16 a run, torch 2.13, a minute or two each;
longer training makes most of them better. Squared errors and PSNR are of the 10,000 test pictures, values in 0..1.
Where the page quotes "the slides", it puts to the test what the slides of a course on convolutional networks state.

## Every kind

One recipe each, `neocog train mnist --config recipes/autoencoders/NAME.toml`, and the same settings for
Fashion-MNIST. The squared error of seed 0, or of seeds 0, 1, 2, and what follows as their mean: SSIM; how many of the
test pictures a linear classifier of the code names rightly, learned from 5,000 labelled ones; the error on the *other*
set's test pictures; and the Fréchet distance of 2,000 made-up pictures from the test pictures, in the embedding of
`mnist_convnet` trained on that set (2,000 training pictures have {real}).
Recipes with noise see damaged pictures, and their errors are against the clean ones. Numbers are those of the code; of
`quantised` it has places, each of which names one of a book's vectors, and the linear classifier reads these vectors.
"""

NOISE = """
## Noise taken away

Mean PSNR in dB against the clean test pictures, Gaussian noise of 0.3. Non-local means is scikit-image's, on 200 of the
pictures, of six strengths the best on these very pictures; of the network each seed.
"""

SIZED = """
## How many numbers

Squared error by the size of the code, the mean of the seeds; PCA of all training pictures beside it, cut to 0..1.
Bold: less than PCA's.
"""

SPARSE = """
## How sparse

Of the 128 numbers of each test picture's code, the mean of the seeds.
"""

BOUND = """
## The bound of variational codes

Nats a test picture: -log p is at most the bound, and at most the tighter one, from 64 weighted samples. The recipes see
grey pictures, whose cross-entropy has a floor that no code can lower, so their bounds compare with each other only.
The last rows are the network of Burda, Grosse and Salakhutdinov (ICLR 2016, arXiv:1509.00519, table 1: one stochastic
layer of 50, two layers of 200 each way, k = 1) on pictures drawn black and white as theirs are; they report 86.76 nats
after 3,280 epochs, estimated with 5,000 samples.

| network | pictures | seeds: bound | tighter | numbers that vary with the picture |
|---|---|---|---|---|
"""

FEW = """
## Few labels

The slides: a code learned without labels serves where labels are few. Test accuracy of a linear classifier and of the
nearest neighbour on codes of 32 numbers (recipe `convolutional`, learned from all training pictures, without their
labels), and on pixels; means over the seeds of five draws each.
"""

BYTES = """
## Not for compression

The slides: worse than JPEG. Each number of a code as one byte; PSNR of the first 1,000 test pictures beside that of
files of at most as many bytes, and, below, of pictures that the autoencoder has not learned from. The decoder itself,
0.4 to 1.6 MB, is not counted. "None": no file is so small; then the mean bytes of the smallest ones. A JPEG file begins
with its tables, which is most of it here; WebP has none, and is the fairer rival.
"""

PHOTOS = """
## Photographs

Seed 0, test pictures: clothes at 64 x 64 pixels (900 training pictures), CIFAR-10 as JPEG. Mean PSNR and squared error
of what the network saw and of what it gave back, and for how many pictures that is the better one. Colour is guessed
from grey: a network that is unsure paints the mean of what it thinks possible, which lowers the squared error of
colourful pictures and harms those that are all but grey and have the most decibels.

| what | seen, dB | median filter, dB | given back, dB | SSIM | seen, squared error | given back | better |
|---|---|---|---|---|---|---|---|
"""


def page(results: Results) -> str:
    real = ", ".join(f"{distance(results, name):.0f} on {shown}" for name, shown in SETS.items())
    lines = [HEAD.format(real=real)]
    for part in (kinds, noise, sizes, sparse, bounds, few, claims, in_bytes, photos):
        lines += part(results)
    return "\n".join(lines) + "\n"


def distance(results: Results, name: str) -> float:
    return mean(row["distance_of_training"] for row in rows(results, f"kinds/{name}/convolutional"))


def rows(results: Results, start: str) -> list[dict[str, Any]]:
    """Of each seed that was measured. KeyError where none was."""
    found = [results[f"{start}/{seed}"] for seed in SEEDS if f"{start}/{seed}" in results]
    if not found:
        raise KeyError(start)
    return found


def average(found: Iterable[dict[str, Any]], key: str) -> float:
    return mean(row[key] for row in found)


def names() -> list[str]:
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def recipe(name: str) -> dict[str, Any]:
    return tomllib.loads((RECIPES / f"{name}.toml").read_text())


def seeds(found: list[dict[str, Any]], key: str, form: str) -> str:
    return ", ".join(format(row[key], form) for row in found)


def kinds(results: Results) -> Iterator[str]:
    for name, shown in SETS.items():
        yield from (f"### {shown}", "")
        yield "| recipe | network | numbers | squared error | SSIM | linear | other set's error | distance |"
        yield "|---" * 8 + "|"
        for kind in names():
            found = rows(results, f"kinds/{name}/{kind}")
            far = f"{average(found, 'distance'):.0f}" if "distance" in found[0] else ""
            cells = [
                kind, f"`{recipe(kind)['model']}`", numbers(kind, found), seeds(found, "mse", ".4f"),
                f"{average(found, 'ssim'):.3f}", f"{average(found, 'linear'):.1%}",
                f"{average(found, 'other_mse'):.4f}", far,
            ]  # fmt: skip
            yield f"| {' | '.join(cells)} |"
        pixels = rows(results, f"pixels/{name}")
        yield f"| the pixels themselves | | 784 | | | {average(pixels, 'linear'):.1%} | | |"
        yield ""


def numbers(kind: str, found: list[dict[str, Any]]) -> str:
    """Of the code; of one that is chosen from a book of vectors its places."""
    count: int = found[0]["numbers"]
    if recipe(kind)["model"] != "vq_vae":
        return f"{count:,}"
    network = create_model("vq_vae")  # whose settings the recipe leaves as they are
    assert isinstance(network, Autoencoder)
    assert math.prod(network.code_shape) == count
    return f"{math.prod(network.code_shape[1:])} places, {network.book} vectors"


def noise(results: Results) -> Iterator[str]:
    yield from (NOISE.strip("\n"), "", "| set | seen | median filter | non-local means | network |", "|---" * 5 + "|")
    for name, shown in SETS.items():
        found = rows(results, f"kinds/{name}/denoising")
        cells = [shown, *(f"{average(found, key):.1f}" for key in ("input_psnr", "median_psnr", "nlm_psnr"))]
        yield f"| {' | '.join(cells)} | {seeds(found, 'psnr', '.1f')} |"
    yield ""


def sizes(results: Results) -> Iterator[str]:
    yield from (SIZED.strip("\n"), "", "| set | code of | " + " | ".join(map(str, SIZES)) + " |", "|---" * 6 + "|")
    for name, shown in SETS.items():
        if f"sizes/{name}/convolutional/128/0" not in results:
            continue
        pca = {number: results[f"pca/{name}/{number}"]["mse"] for number in SIZES}
        yield f"| {shown} | PCA | " + " | ".join(f"{pca[n]:.4f}" for n in SIZES) + " |"
        for kind in ("convolutional",):
            cells = [sized(results, name, kind, number) for number in SIZES]
            marked = [f"**{v:.4f}**" if v < pca[n] else f"{v:.4f}" for n, v in zip(SIZES, cells, strict=True)]
            yield f"| | {kind} | {' | '.join(marked)} |"
    yield ""


def sized(results: Results, name: str, kind: str, number: int) -> float:
    own = recipe(kind)["latent"] == number
    return average(rows(results, f"kinds/{name}/{kind}" if own else f"sizes/{name}/{kind}/{number}"), "mse")


def sparse(results: Results) -> Iterator[str]:
    yield from (SPARSE.strip("\n"), "", "| set | recipe | asked | exactly 0 | mean activation |", "|---" * 5 + "|")
    for name, shown in SETS.items():
        for kind in (kind for kind in names() if "sparse" in recipe(kind)):
            found = rows(results, f"kinds/{name}/{kind}")
            share, activation = average(found, "zeros"), average(found, "activation")
            yield f"| {shown} | {kind} | `{recipe(kind)['sparse']}` | {share:.1%} | {activation:.3f} |"
    yield ""


def bounds(results: Results) -> Iterator[str]:
    yield BOUND.strip("\n")
    for name, shown in SETS.items():
        for kind in ("variational", "variational_convolutional"):
            yield bound_row(f"`{recipe(kind)['model']}`", shown, rows(results, f"kinds/{name}/{kind}"))
    kinds = {
        "published": "20 epochs",
        "published, annealed": "the first 2 annealed",
        "published, 200 epochs": "200 epochs",
    }
    for key, how in kinds.items():
        yield bound_row(f"`vae`, Burda et al.'s, {how}", "MNIST, black and white", rows(results, key))
    yield ""


def bound_row(network: str, pictures: str, found: list[dict[str, Any]]) -> str:
    active = f"{seeds(found, 'active', 'd')} of {found[0]['numbers']}"
    cells = network, pictures, seeds(found, "bound", ".1f"), seeds(found, "tighter_bound", ".1f"), active
    return f"| {' | '.join(cells)} |"


def few(results: Results) -> Iterator[str]:
    heads = " | ".join(f"{number:,} labels" for number in LABELS)
    yield from (FEW.strip("\n"), "", f"| set | classifier | of | {heads} |", "|---" * 6 + "|")
    for name, shown in SETS.items():
        both = {"codes": rows(results, f"kinds/{name}/convolutional"), "pixels": rows(results, f"pixels/{name}")}
        for place, classifier in enumerate(("linear", "nearest neighbour")):
            for what, found in both.items():
                cells = [f"{mean(row['few'][str(n)][place] for row in found):.1%}" for n in LABELS]
                yield f"| {shown} | {classifier} | {what} | {' | '.join(cells)} |"
    yield ""


def claims(results: Results) -> Iterator[str]:
    yield from ("## Only what it has learned from", "")
    own, other = (
        {name: average(rows(results, f"kinds/{name}/convolutional"), key) for name in SETS}
        for key in ("mse", "other_mse")
    )
    mnist, fashion = SETS
    yield "The slides: an autoencoder gives back only pictures of the kind it learned from. The recipe `convolutional`"
    yield f"learned from digits has the squared error {own[mnist]:.4f} on digits, {other[mnist]:.4f} on clothes;"
    yield f"learned from clothes {own[fashion]:.4f} on clothes, {other[fashion]:.4f} on digits."
    yield ""


def in_bytes(results: Results) -> Iterator[str]:
    yield from (BYTES.strip("\n"), "", "| pictures | bytes | code, dB | JPEG, dB | WebP, dB |", "|---" * 5 + "|")
    others = {"mnist": "Fashion-MNIST", "fashion-mnist": "MNIST", "clothes": "ImageNet's pictures"}
    for key, found in results.items():
        if key.startswith("bytes/"):
            _, name, number = key.split("/")
            shown = SETS.get(name, "clothes, 64 x 64")
            yield byte_row(shown, number, found["code"], found["JPEG"], found["WebP"])
            code = found["other_code"]
            yield byte_row(f"... {others[name]}", number, code, found["other_JPEG"], found["other_WebP"])
    yield ""


def byte_row(shown: str, number: str, code: float, *formats: dict[str, Any]) -> str:
    return f"| {shown} | {number} | {code:.1f} | {' | '.join(map(file_cell, formats))} |"


def file_cell(found: dict[str, Any]) -> str:
    if found["psnr"] is None:
        return f"none ({found['least']:.0f} bytes)"
    share = "" if found["fit"] == 1 else f" ({found['fit']:.0%} of the files)"
    return f"{found['psnr']:.1f}{share}"


def photos(results: Results) -> Iterator[str]:
    yield PHOTOS.strip("\n")
    for key, found in results.items():
        if key.startswith("photos/"):
            seen = " | ".join(
                f"{found[name]:.1f}" if name in found else "" for name in ("input_psnr", "median_psnr", "psnr")
            )
            mse = f"{found['input_mse']:.5f} | " if "input_mse" in found else " | "
            better = f"{found['better']:.0%}" if "better" in found else ""
            told = f"{seen} | {found['ssim']:.3f} | {mse}{found['mse']:.5f} | {better}"
            yield f"| {key.partition('/')[2]} | {told} |"


def read() -> Results:
    found: Results = json.loads(RESULTS.read_text())
    return found


if __name__ == "__main__":
    print(page(read()), end="")
