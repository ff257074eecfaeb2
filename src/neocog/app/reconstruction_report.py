"""An autoencoder's page: what it gave back, what its code knows, what it makes of codes nobody gave it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neocog import report
from neocog.app.announcing import describe_rivals
from neocog.app.building import evaluation_loader, noise_of
from neocog.app.codes import (
    MOST,
    Codes,
    Size,
    baselines,
    between,
    codes_of,
    decoded,
    fan,
    prior_of,
    trained_codes,
)
from neocog.app.pictures import mosaic, png
from neocog.app.plane import on_plane
from neocog.core.autoencoder import Autoencoder
from neocog.core.noise import Noise
from neocog.data.preprocess import denormalise
from neocog.evaluate import evaluating
from neocog.evaluate.reconstructions import Reconstructions, summarise_reconstructions

if TYPE_CHECKING:
    from neocog.app.session import Session

SHOWN = 12  # pictures of the grid, and of the worst ones
SAMPLES = 32
STEPS = 9  # of an interpolation, and of a traversal
POINTS = 2000
SIDE = 96  # pixels of a thumbnail, at most


def page_of(
    session: "Session", split: str, found: Reconstructions, kept_codes: NDArray[np.float32]
) -> report.ReconstructionFacts:
    """What is shown of the pictures of `split`. `kept_codes`: (N, D), a row for each of `found`, all pictures that were
    kept from training."""
    part, codes = found.of(split), kept_codes[np.array(found.split) == split]
    network = session.loaded.network
    assert isinstance(network, Autoencoder)
    worst = np.argsort(-part.measures["mse"], kind="stable")[:SHOWN].tolist()
    row_of = {file: row for row, file in enumerate(session.dataset.files)}
    rows = np.array([row_of[file] for file in part.files], np.int64)
    train, kept = trained_codes(session), codes_of(session, rows[:MOST])
    size = Size.of(network, session.preprocessing.size)
    held = baselines(session, train, kept)
    numbers = summarise_reconstructions(part)
    same = numbers | {"mse": float(part.measures["mse"][:MOST].mean())}  # of the pictures that PCA is judged on
    return report.ReconstructionFacts(
        split=split,
        numbers=numbers,
        code_shape=size.shape,
        code_kind=size.kind + size.excess,
        noise=str(Noise.parse(session.config.noise or "none")),
        baselines=tuple(held.lines()),
        shortfalls=tuple(describe_rivals(same, held.pca, held.components)),
        some=rows_of(session, part, rows, list(range(min(SHOWN, len(rows))))),
        worst=rows_of(session, part, rows, worst),
        scatter=scatter(codes, part.classes),
        samples=samples(session, network, train) if network.generates else (),
        paths=paths(network, codes, part.files, kept_codes) if network.generates else (),
        plane=plane(network, codes) if network.generates and network.code_shape == (2,) else None,
    )


def rows_of(
    session: "Session", part: Reconstructions, rows: NDArray[np.int64], places: Sequence[int]
) -> tuple[report.GivenBack, ...]:
    """What the network saw, what it gave back, and by how much that differs, of some of the pictures in `rows`."""
    data, network, pre = session.dataset, session.loaded.network, session.preprocessing
    noise = noise_of(session.config)
    loader = evaluation_loader(data, rows[places], pre, session.machine, session.config.threads, noise=noise)
    given: list[report.GivenBack] = []
    with evaluating(network), torch.inference_mode():
        for batch in loader.epoch(0):
            out = network(batch.images).float().cpu()
            seen = denormalise(batch.images, pre).cpu()
            for i, row in enumerate(batch.indices.tolist()):
                truth = batch.targets[i].cpu()
                place = places[len(given)]
                given.append(
                    report.GivenBack(
                        file=data.files[row],
                        seen=png(seen[i], SIDE) if noise and noise.kind != "none" else None,
                        truth=png(truth, SIDE), output=png(out[i], SIDE), difference=png((out[i] - truth).abs(), SIDE),
                        psnr=float(part.measures["psnr"][place]),
                    )
                )  # fmt: skip
    return tuple(given)


def scatter(codes: NDArray[np.float32], classes: list[str]) -> report.Scatter:
    """Codes on a plane: as they are where they have two numbers, else by their two principal components."""
    chosen = np.linspace(0, len(codes) - 1, min(POINTS, len(codes))).astype(int)
    points, axes = on_plane(codes[chosen])
    return report.Scatter(
        tuple((float(x), float(y)) for x, y in points), tuple(classes[i] for i in chosen), axes
    )  # fmt: skip


def samples(session: "Session", network: Autoencoder, train: Codes) -> tuple[report.Pair, ...]:
    """Pictures of codes that were drawn, each beside the training picture that is nearest to it."""
    generator = torch.Generator().manual_seed(session.config.seed)
    drawn = prior_of(network, train.codes).draw(SAMPLES, generator)
    made = decoded(network, drawn)
    known = torch.from_numpy(train.pixels)
    nearest = torch.cdist(made.flatten(1), known).argmin(1).tolist()
    return tuple(
        report.Pair(
            png(picture, SIDE), png(known[place].view_as(picture), SIDE), session.dataset.files[train.rows[place]]
        )
        for picture, place in zip(made, nearest, strict=True)
    )


def paths(
    network: Autoencoder, codes: NDArray[np.float32], files: Sequence[str], kept_codes: NDArray[np.float32]
) -> tuple[report.Path, ...]:
    """Interpolations between pictures, whose codes and files these are, and traversals of the numbers that vary most
    in all codes that `neocog traverse` knows."""
    some, every = torch.from_numpy(codes), torch.from_numpy(kept_codes)
    found = []
    for a in range(0, min(6, len(some) - 1), 2):
        what = f"From the code of {files[a]} to that of {files[a + 1]}"
        found.append(report.Path(what, strip(network, between(some[a], some[a + 1], STEPS))))
    if len(network.code_shape) == 1 and len(every) > 1:
        for number, way in fan(every, STEPS):
            what = f"Number {number} of the code, from low to high, the others at their mean"
            found.append(report.Path(what, strip(network, every.mean(0) + way)))
    return tuple(found)


def plane(network: Autoencoder, codes: NDArray[np.float32], side: int = 15) -> bytes:
    """Decoded codes of two numbers on a grid over the middle 98 % of the codes, the first rising to the right, the
    second upwards."""
    low, high = np.quantile(codes, [0.01, 0.99], axis=0)
    x, y = np.linspace(low[0], high[0], side), np.linspace(high[1], low[1], side)
    grid = torch.from_numpy(np.stack(np.meshgrid(x, y), -1).reshape(-1, 2).astype(np.float32))
    return mosaic(decoded(network, grid), side)


def strip(network: Autoencoder, codes: Tensor) -> bytes:
    return mosaic(decoded(network, codes), len(codes))
