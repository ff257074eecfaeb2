"""What the channels of each stage look for: the training pictures that excite them, and pictures made for them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neocog import report
from neocog.app.explaining_making import Maker
from neocog.app.explaining_training import PATCHES, channel_view, chosen, passing
from neocog.app.opened import Opened
from neocog.core.contracts import Network
from neocog.core.errors import UsageError
from neocog.core.events import Events
from neocog.data.dataset import Dataset
from neocog.explaining.cam import grid_of
from neocog.explaining.maps import as_maps
from neocog.explaining.patches import Patch, strongest_of
from neocog.explaining.ranges import Ranges
from neocog.explaining.taps import Tapped, untouched

STAGES = 8  # that are shown, evenly chosen
CHANNELS = 3  # of each, unless more pictures are to be made


@dataclass(frozen=True)
class Looked:
    """What one pass over training pictures found: `pictures` by row of `data`; by stage the `patches` of each channel
    (where it has maps) and the (N, C) `means` over all places; the `ranges` of the convolutions; `of` how many."""

    data: Dataset
    pictures: dict[int, Tensor]
    patches: dict[str, list[list[Patch]]]
    means: dict[str, Tensor]
    ranges: Ranges
    of: int


def looked(
    opened: Opened, data: Dataset, stages: list[str], convolutions: list[str], shape: tuple[int, ...], events: Events
) -> Looked:
    network, rows = opened.network, data.rows("train")
    pictures: dict[int, Tensor] = {}
    grids = with_grids(network, stages, shape)
    with means_of(network, stages) as means, Ranges(network, convolutions) as ranges:
        patches = strongest_of(network, passing(opened, data, chosen(rows), events, kept=pictures), grids, most=PATCHES)
    return Looked(data, pictures, patches, {name: torch.cat(own) for name, own in means.items()}, ranges, len(rows))


def with_grids(network: Network, stages: list[str], shape: tuple[int, ...]) -> list[str]:
    """Those whose units have places. `shape` (C, H, W)"""
    found = []
    with untouched(network), torch.no_grad(), Tapped(network, stages) as taps:
        network(torch.zeros(1, *shape, device=next(network.parameters()).device))
        for stage in stages:
            with suppress(UsageError):
                if grid_of(taps[stage], stage)[0, 0].numel() > 1:
                    found.append(stage)
    return found


@contextmanager
def means_of(network: Network, stages: list[str]) -> Iterator[dict[str, list[Tensor]]]:
    """(B, C) of each stage and each batch that passes."""
    found: dict[str, list[Tensor]] = {stage: [] for stage in stages}

    def recorder(stage: str) -> Callable[..., None]:
        def record(module: nn.Module, args: object, out: Tensor) -> None:
            if not out.is_meta:  # the network's cost is counted without numbers
                found[stage].append(as_maps(out.detach(), stage).mean((2, 3)).float().cpu())

        return record

    hooks = [network.get_submodule(stage).register_forward_hook(recorder(stage)) for stage in stages]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def views(opened: Opened, stages: list[str], facts: dict[str, report.Stage], found: Looked | None, maker: Maker,
          made: int, events: Events) -> tuple[report.StageChannels, ...]:  # fmt: skip
    """`made`: of how many channels of each stage a picture is made. Where no pictures were looked at nothing tells
    which channels matter: the first ones."""
    shown = []
    for done, stage in enumerate(stages, start=1):
        own = facts[stage.removeprefix("stages.")]
        width = own.shape[0] if len(own.shape) != 2 else own.shape[1]
        if found is not None:
            picked = most_varying(found.means[stage].double().numpy(), max(CHANNELS, made))
        else:
            picked = [(number, 0.0, 0.0) for number in range(min(width, made))]
        pictures_made = maker.channels(stage, [number for number, *_ in picked[:made]])
        channels: list[report.ChannelView] = []
        for place, (number, share, _) in enumerate(picked):
            patches = found.patches[stage][number] if found is not None and stage in found.patches else []
            pictures = found.pictures if found is not None else {}
            view = channel_view(opened, stage, number, share, patches, pictures)
            channels.append(replace(view, made=pictures_made[place] if place < made else None))
        sees = " × ".join(map(str, own.field)) if own.field and "whole" not in own.field else ""
        whole = found is not None and stage not in found.patches
        events.emit("progress", what="reading and making, by stage", done=done, total=len(stages))
        adds = tuple(one for *_, one in picked)
        shown.append(report.StageChannels(own.name, tuple(channels), adds, width, sees and f"{sees} pixels", whole))
    return tuple(shown)


def most_varying(means: NDArray[np.float64], count: int) -> list[tuple[int, float, float]]:
    """(N, C) -> (channel, its share of the variance, what of that those before it do not say), each the one that adds
    most (Gram and Schmidt with pivots): the three that vary most by themselves often say one thing."""
    rest = means - means.mean(0)
    whole = max(float(np.square(rest).sum()), 1e-30)
    shares = np.square(rest).sum(0) / whole
    found: list[tuple[int, float, float]] = []
    for _ in range(min(count, means.shape[1])):
        left = np.square(rest).sum(0)
        best = int(left.argmax())
        if left[best] <= 1e-9 * whole:
            break
        found.append((best, float(shares[best]), float(left[best]) / whole))
        axis = rest[:, best] / left[best] ** 0.5
        rest = rest - np.outer(axis, axis @ rest)
    return found
