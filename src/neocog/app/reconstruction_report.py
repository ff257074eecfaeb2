"""An autoencoder's page: what it gave back, what its code knows, what it makes of codes nobody gave it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neocog import report
from neocog.app.building import evaluation_loader, noise_of
from neocog.app.codes import Baselines, Codes, fan, nearest_rows, prior_of, trained_codes
from neocog.app.pictures import mosaic, png
from neocog.core.autoencoder import Autoencoder
from neocog.core.noise import Noise
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
    session: "Session", found: Reconstructions, codes: NDArray[np.float32], baselines: Baselines
) -> report.ReconstructionFacts:
    """`codes`: (N, D), a row for each row of `found`."""
    split = "test" if "test" in found.split else "val"
    places = np.flatnonzero([name == split for name in found.split])
    part = found.of(split)
    network = session.loaded.network
    assert isinstance(network, Autoencoder)
    worst = np.argsort(-part.measures["mse"], kind="stable")[:SHOWN].tolist()
    train = trained_codes(session)
    return report.ReconstructionFacts(
        split=split,
        numbers=summarise_reconstructions(part),
        code_shape=tuple(network.code_shape),
        noise=str(Noise.parse(session.config.noise or "none")),
        baselines=tuple(baselines.lines()),
        some=rows_of(session, part, list(range(min(SHOWN, len(part.files))))),
        worst=rows_of(session, part, worst),
        scatter=scatter(codes[places], part.classes),
        samples=samples(session, network, train) if network.generates else (),
        paths=paths(session, network, codes[places]) if network.generates and len(places) > 1 else (),
        plane=plane(network, codes) if network.generates and network.code_shape == (2,) else None,
    )


def rows_of(session: "Session", part: Reconstructions, places: Sequence[int]) -> tuple[report.GivenBack, ...]:
    """What the network saw, what it gave back, and by how much that differs, of some pictures."""
    data, network, pre = session.dataset, session.loaded.network, session.preprocessing
    row_of = {file: row for row, file in enumerate(data.files)}
    rows = np.array([row_of[part.files[i]] for i in places], np.int64)
    noise = noise_of(session.config)
    loader = evaluation_loader(data, rows, pre, session.machine, session.config.threads, noise=noise)
    given: list[report.GivenBack] = []
    mean, std = (torch.tensor(values)[:, None, None] for values in (pre.mean, pre.std))
    with evaluating(network), torch.inference_mode():
        for batch in loader.epoch(0):
            out = network(batch.images).float().cpu()
            seen = batch.images.float().cpu() * std + mean
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
    from sklearn.decomposition import PCA

    chosen = np.linspace(0, len(codes) - 1, min(POINTS, len(codes))).astype(int)
    points = codes[chosen]
    axes = ("first number", "second number")
    if codes.shape[1] != 2:
        if codes.shape[1] > 2 and len(points) > 2 and np.ptp(points, axis=0).max() > 0:
            pca = PCA(2, random_state=0)
            points = pca.fit_transform(points)
            axes = tuple(f"component {i + 1} ({share:.0%} of the variance)"
                         for i, share in enumerate(pca.explained_variance_ratio_))  # type: ignore[assignment]  # fmt: skip
        else:
            points = np.pad(points[:, :1], ((0, 0), (0, 1)))
    return report.Scatter(
        tuple((float(x), float(y)) for x, y in points), tuple(classes[i] for i in chosen), axes
    )  # fmt: skip


def samples(session: "Session", network: Autoencoder, train: Codes) -> tuple[report.Pair, ...]:
    """Pictures of codes that were drawn, each beside the training picture that is nearest to it."""
    generator = torch.Generator().manual_seed(session.config.seed)
    drawn = prior_of(network, train.codes).draw(SAMPLES, generator)
    made = decoded(network, drawn)
    near = nearest_rows(session, made, train.rows)
    return tuple(
        report.Pair(png(picture, SIDE), png(train_picture, SIDE), session.dataset.files[row])
        for picture, (row, train_picture) in zip(made, near, strict=True)
    )


def paths(session: "Session", network: Autoencoder, codes: NDArray[np.float32]) -> tuple[report.Path, ...]:
    """Interpolations between pictures, and traversals of the numbers that vary most."""
    first = torch.from_numpy(codes).view(-1, *network.code_shape)
    found = []
    for a, b in ((0, 1), (2, 3), (4, 5)):
        if b < len(codes):
            mixed = torch.stack([torch.lerp(first[a], first[b], t) for t in torch.linspace(0, 1, STEPS)])
            found.append(report.Path("From one picture's code to another's", strip(decoded(network, mixed))))
    if len(network.code_shape) == 1:
        for name, line in fan(first, STEPS):
            found.append(report.Path(name, strip(decoded(network, line))))
    return tuple(found)


def plane(network: Autoencoder, codes: NDArray[np.float32], side: int = 15) -> bytes:
    """Decoded codes of two numbers on a grid over the middle 98 % of the codes, the first rising to the right, the
    second upwards."""
    low, high = np.quantile(codes, [0.01, 0.99], axis=0)
    x, y = np.linspace(low[0], high[0], side), np.linspace(high[1], low[1], side)
    grid = torch.from_numpy(np.stack(np.meshgrid(x, y), -1).reshape(-1, 2).astype(np.float32))
    return mosaic(decoded(network, grid), side)


def decoded(network: Autoencoder, codes: Tensor) -> Tensor:
    """(N, *code_shape) -> (N, C, H, W) in 0..1, on the CPU."""
    device = next(network.parameters()).device
    with evaluating(network), torch.inference_mode():
        parts = [network.decode(part.to(device)).float().sigmoid().cpu() for part in torch.split(codes, 64)]
    return torch.cat(parts)


def strip(pictures: Tensor) -> bytes:
    return mosaic(pictures, len(pictures))
