"""How far made-up pictures are from real ones, as one of the user's own classifiers sees them."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neocog.app.opened import Opened
from neocog.app.preparing import open_data
from neocog.core.errors import DataError, UsageError
from neocog.core.events import Events
from neocog.core.words import counted
from neocog.data.preprocess import normalise, view
from neocog.evaluate import evaluating
from neocog.metrics.frechet import frechet_distance

LEAST = 100  # pictures: of fewer, the distance is mostly that of two small samples
MOST = 10_000
TOGETHER = 64


@dataclass(frozen=True)
class Judgement:
    """Fréchet distances from `real` pictures that were kept from training: of the made ones, and, for scale, of as many
    pictures that the autoencoder learned from. Both in `numbers` numbers, the embedding of `judge`."""

    made: float
    training: float
    pictures: int
    real: int
    numbers: int
    judge: str


def judge(opened: Opened, made: Tensor, judge: Opened, seed: int = 0) -> Judgement:
    """`made`: (N, C, S, S) in 0..1. `judge`: the run of a classifier. UsageError where there are fewer than LEAST."""
    judge.run.must_be("classification", "classifies nothing")
    if len(made) < LEAST:
        cause = f"{counted(len(made), 'picture is', 'pictures are')} too few to be judged"
        raise UsageError(cause, f"give at least {LEAST}: -n 1000")
    card = opened.run.card
    data = open_data(opened.run.config, card.preprocessing.resize, card.in_channels, Events())
    kept, known = (data.rows("test") if len(data.rows("test")) else data.rows("val")), data.rows("train")
    if min(len(kept), len(known)) < LEAST:
        learned = counted(len(known), "picture")
        cause = f"{opened.run.folder} learned from {learned} and was tested on {len(kept):,} others"
        share = LEAST / (len(kept) + len(known))
        larger = f", with --test-fraction {math.ceil(100 * share) / 100:g} or more" if share < 0.5 else ""
        hint = f"to judge by pictures takes {LEAST} of each: train it again on more of them{larger}"
        raise DataError(cause, hint)
    draw = np.random.default_rng(seed)
    kept = draw.permutation(kept)[:MOST]
    known = draw.permutation(known)[: len(made)]

    def real(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        parts = (rows[i : i + TOGETHER].tolist() for i in range(0, len(rows), TOGETHER))
        return np.concatenate([embedded(judge, torch.stack([seen(row) for row in part])) for part in parts])

    def seen(row: int) -> Tensor:
        return view(data.store.picture(row), card.preprocessing)

    pixels = (made * 255).round().byte()
    ours = np.concatenate([embedded(judge, some) for some in torch.split(pixels, TOGETHER)])
    test = real(kept)
    return Judgement(
        frechet_distance(ours, test), frechet_distance(real(known), test), len(made), len(kept), ours.shape[1],
        f"{judge.run.folder} ({judge.run.card.model})",
    )  # fmt: skip


def embedded(judge: Opened, pixels: Tensor) -> NDArray[np.float32]:
    """uint8 (B, C, H, W) -> (B, D). UsageError where the classifier takes other channels that these cannot become."""
    own, wanted = pixels.shape[1], judge.run.card.in_channels
    if (own, wanted) == (1, 3):
        pixels = pixels.expand(-1, 3, -1, -1)
    elif own != wanted:
        cause = f"{judge.run.folder} reads pictures of {wanted} channels, these have {own}"
        raise UsageError(cause, "give a classifier of such pictures")
    pre = judge.run.card.preprocessing
    images = normalise(view(pixels, pre).to(judge.machine.device), pre)
    with evaluating(judge.network), torch.inference_mode():
        return judge.network.embed(images).float().flatten(1).cpu().numpy()
