"""What lies behind an answer among the training pictures: the nearest ones, and those that excite its channels."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from neocog import report
from neocog.app.building import evaluation_loader
from neocog.app.explaining_making import Maker, front
from neocog.app.opened import Opened
from neocog.app.pictures import png, thumbnail
from neocog.app.preparing import open_data
from neocog.app.run import Run
from neocog.core.contracts import Network
from neocog.core.errors import DataError
from neocog.core.events import Events
from neocog.data.dataset import Dataset
from neocog.data.preprocess import denormalise
from neocog.explaining.attribution import score
from neocog.explaining.maps import as_maps
from neocog.explaining.patches import Patch, read, strongest
from neocog.explaining.taps import Tapped, untouched
from neocog.transfer.regimes import classifier_of

LOOKED = 300  # training pictures
NEAREST = 12
CHANNELS, PATCHES = 4, 6
SIDE = 112


@dataclass(frozen=True)
class Behind:
    channels: tuple[report.ChannelView, ...] = ()
    neighbours: tuple[report.Neighbour, ...] = ()
    looked: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Training:
    """Training pictures as a run's network sees them, found in one pass: `pictures` by row of `data`, normalised;
    `vectors` (N, D), what the classifier is given of each; `patches` of each channel of `layer`, none without one."""

    data: Dataset
    layer: str
    pictures: dict[int, Tensor]
    vectors: Tensor
    patches: list[list[Patch]]
    made: dict[int, bytes] = field(default_factory=dict)  # pictures that excite a channel of `layer`, by its number

    @classmethod
    def of(cls, opened: Opened, layer: str) -> "Training":
        """At most LOOKED, evenly chosen."""
        network = opened.network
        data = pictures_of(opened.run, Events())
        pictures: dict[int, Tensor] = {}
        seen = passing(opened, data, chosen(data.rows("train")), kept=pictures)
        patches: list[list[Patch]] = []
        with opened.precision(), embeddings(network) as vectors:
            if layer:
                patches = strongest(network, seen, layer, most=PATCHES)
            else:
                with untouched(network), torch.no_grad():
                    for _, images in seen:
                        network(images)
        return cls(data, layer, pictures, torch.cat(vectors), patches)


def pictures_of(run: Run, events: Events) -> Dataset:
    card = run.card
    try:
        return open_data(run.config, card.preprocessing.resize, card.in_channels, events)
    except DataError as error:
        raise DataError(error.cause, "bring them back, or `--no-training` makes the page without pictures") from None


def chosen(rows: NDArray[np.int64], most: int = LOOKED) -> NDArray[np.int64]:
    """At most so many, evenly."""
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64)]


def passing(
    opened: Opened, data: Dataset, rows: NDArray[np.int64], events: Events | None = None, *,
    kept: dict[int, Tensor] | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
    """(rows (B,), pictures (B, C, S, S) normalised), batch by batch; each picture is also put into `kept`."""
    events, done = events or Events(), 0
    loader = evaluation_loader(data, rows, opened.run.card.preprocessing, opened.machine, opened.run.config.threads)
    for batch in loader.epoch(0):
        if kept is not None:
            kept.update(zip(batch.indices.tolist(), batch.images, strict=True))
        yield batch.indices, batch.images
        done += len(batch.images)
        events.emit("progress", what="looking at pictures", done=done, total=len(rows))


def behind(opened: Opened, training: Training, x: Tensor, target: int, made: int = 0, name: str = "") -> Behind:
    """`made`: of how many channels a picture is made. `name`: the picture's where it is one of the run's: it is no
    neighbour of itself."""
    network, data = opened.network, training.data
    with untouched(network), torch.no_grad(), opened.precision(), embeddings(network) as own:
        network(x)
    near = F.cosine_similarity(training.vectors, own[0])
    rows = list(training.pictures)
    order = [i for i in near.argsort(descending=True, stable=True).tolist() if data.files[rows[i]] != name][:NEAREST]

    def neighbour(place: int) -> report.Neighbour:
        row = rows[place]
        shown = denormalise(training.pictures[row], opened.run.card.preprocessing).cpu().clamp(0, 1)
        label = data.classes[data.labels[row]]
        picture = report.Picture(png(shown, SIDE), data.files[row])
        return report.Neighbour(picture, label, float(near[place]), label == opened.run.classes[target])

    spoken = speakers(network, x, target, training.layer) if training.layer else []
    wanted = [number for number, _ in spoken[:made]]
    if new := [number for number in wanted if number not in training.made]:
        training.made.update(zip(new, Maker(opened).channels(training.layer, new), strict=True))
    views = [
        replace(
            channel_view(opened, training.layer, number, share, training.patches[number], training.pictures),
            made=training.made[number] if number in wanted else None,
        )
        for number, share in spoken
    ]
    return Behind(tuple(views), tuple(map(neighbour, order)), (len(rows), len(data.rows("train"))))


def speakers(network: Network, x: Tensor, target: int, layer: str) -> list[tuple[int, float]]:
    """(channel, its share) of those that speak most for the class: map times gradient, the positive part of the sum
    over places."""
    with untouched(network), Tapped(network, [layer]) as taps:
        answer = score(network, x.detach().requires_grad_(), target)
        slope = as_maps(taps.gradients(answer.sum())[layer], layer)
        maps = as_maps(taps[layer], layer)
    parts = (maps.detach() * slope)[0].sum((1, 2)).clamp(min=0)
    whole = parts.sum().clamp_min(1e-12)
    order = parts.argsort(descending=True, stable=True)[:CHANNELS]
    return [(int(i), float(parts[i] / whole)) for i in order if parts[i] > 0]


def channel_view(
    opened: Opened, layer: str, number: int, share: float, patches: list[Patch], pictures: dict[int, Tensor]
) -> report.ChannelView:
    pre, reading, cuts = opened.run.card.preprocessing, front(opened.network, layer), list[tuple[bytes, bytes]]()
    for patch in patches:
        x = pictures[patch.picture][None]
        top, left, bottom, right = patch.box
        back = read(reading, x, layer, number, patch.position, "guided")
        back = back[:, top:bottom, left:right].cpu()
        whole = denormalise(x, pre)[0].cpu().clamp(0, 1)[:, top:bottom, left:right]
        # Of a large picture a few pixels are far above the others, and these would be grey beside them.
        strength = torch.quantile(back.abs().flatten(), 0.995).clamp_min(back.abs().max() / 10).clamp_min(1e-12)
        cuts.append((thumbnail(whole, SIDE), thumbnail((0.5 + 0.5 * back / strength).clamp(0, 1), SIDE)))
    return report.ChannelView(number, share, tuple(cuts))


@contextmanager
def embeddings(network: Network) -> Iterator[list[Tensor]]:
    """What the classifier is given, (B, D) of each batch that passes."""
    found: list[Tensor] = []

    def record(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        if not args[0].is_meta:  # the network's cost is counted without numbers
            found.append(args[0].detach().float().flatten(1).cpu())

    hook = classifier_of(network).register_forward_pre_hook(record)
    try:
        yield found
    finally:
        hook.remove()
