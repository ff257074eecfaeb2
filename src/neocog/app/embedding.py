"""Regime features: what the frozen part of a network says of every picture, computed once and kept."""

import hashlib
import os
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from neocog.app.announcing import duration, size
from neocog.app.building import EVALUATION_BATCH, make_augment
from neocog.app.machine import Machine
from neocog.app.zoo import Loaded
from neocog.core.config import TrainConfig
from neocog.core.errors import UsageError
from neocog.core.events import Events
from neocog.core.folders import cache_folder
from neocog.core.spec import Preprocessing
from neocog.data.augment import Augment
from neocog.data.cache import KEEP_BYTES, prune
from neocog.data.dataset import Dataset
from neocog.data.features import FeatureLoader
from neocog.data.loader import Loader
from neocog.data.plan import Plan
from neocog.evaluate import evaluating
from neocog.training.world import World
from neocog.transfer.heads import Backbone, tail_of
from neocog.transfer.views import Views, folder_of

VERSION = 1  # of what the numbers mean: raise it when anything that is not in the key changes them
VIEWS = 10
TRIED = 64  # pictures whose embedding is timed before the number of views is decided
JUDGED = 1024  # embeddings that are classified at a time
SHARE = 0.6  # of a time budget's rest, at most, for embedding

Rows = NDArray[np.int64]


@dataclass
class Embedder:
    """The frozen part of a network on the pictures of a data set."""

    dataset: Dataset
    preprocessing: Preprocessing
    machine: Machine
    config: TrainConfig
    world: World
    backbone: nn.Module
    weights: str  # the sha256 of the backbone's state

    def views(self, rows: Rows, augment: Augment | None) -> Views:
        """Of these rows; view k has the augmentation of epoch k, None is the picture as it is evaluated."""
        return Views(
            folder_of(cache_folder() / "views", self.key(rows, augment)), len(rows),
            lambda view, first, last: self.embed(rows[first:last], augment, view), self.world,
        )  # fmt: skip

    def key(self, rows: Rows, augment: Augment | None) -> dict[str, Any]:
        """All that the numbers depend on."""
        data = self.dataset
        files = hashlib.sha256("\n".join(f"{row} {data.sha256[row]}" for row in rows.tolist()).encode()).hexdigest()
        return {
            "version": VERSION, "weights": self.weights, "preprocessing": asdict(self.preprocessing),
            "augment": augment and [asdict(augment), self.config.seed], "files": files,
            "decode": asdict(data.options), "channels": data.channels, "bf16": self.machine.bf16,
            "device": self.machine.device.type,
        }  # fmt: skip

    def embed(self, rows: Rows, augment: Augment | None, epoch: int) -> NDArray[np.float32]:
        """(N, D)."""
        device = self.machine.device
        autocast = torch.autocast(device.type, torch.bfloat16, enabled=self.machine.bf16)
        loader = Loader(
            self.dataset, rows, preprocessing=self.preprocessing, batch_size=EVALUATION_BATCH, augment=augment,
            seed=self.config.seed, device=device, channels_last=self.machine.channels_last,
            threads=self.config.threads,
        )  # fmt: skip
        with evaluating(self.backbone), torch.inference_mode(), autocast:
            return np.concatenate([self.backbone(b.images).float().cpu().numpy() for b in loader.epoch(epoch)])


@dataclass(frozen=True)
class Embedded:
    """What a head learns from, and is judged by while it does."""

    tail: nn.Sequential
    train: Views
    val: Views
    loader: FeatureLoader
    validation: FeatureLoader
    views: int
    weights: str  # the sha256 of what embedded
    note: str


def embedder(
    config: TrainConfig, dataset: Dataset, loaded: Loaded, preprocessing: Preprocessing, machine: Machine, world: World
) -> Embedder:
    backbone = Backbone(loaded.network)
    return Embedder(dataset, preprocessing, machine, config, world, backbone, state_hash(backbone))


def state_hash(network: nn.Module) -> str:
    """The sha256 of all weights and buffers, and of what the network looks like in print (strides, poolings)."""
    digest = hashlib.sha256(repr(network).encode())
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def embed_all(config: TrainConfig, source: Embedder, loaded: Loaded, events: Events, left: float | None) -> Embedded:
    """Every view of the training pictures and the validation pictures, from the cache where they are there. `left`:
    seconds that remain of a time budget; where the number of views is open, so many are made as fit into SHARE of
    them."""
    data, world = source.dataset, source.world
    rows, kept = data.rows("train"), data.rows("val")
    number = config.views
    if number is None:
        number = VIEWS if left is None else int(world.agree(lambda: str(affordable(source, rows, kept, left))))
    augment = replace(make_augment(config), mixup=0.0, cutmix=0.0) if number else None
    train, val = source.views(rows, augment), source.views(kept, None)
    total = max(number, 1) * len(rows) + len(kept)
    if left is not None and config.views is not None:
        world.alone(lambda: refuse_too_many(source, train, number, rows, total, left))
    began, done = time.monotonic(), 0
    for views, count in ((train, max(number, 1)), (val, 1 if len(kept) else 0)):
        for view in range(count):
            before = done
            views.fill(view, lambda n, before=before: events.emit(  # type: ignore[misc]
                "progress", what="embedding", done=before + n, total=total))  # fmt: skip
            done += views.n
    for used in (train.folder, val.folder):
        if used.is_dir():
            os.utime(used)  # the last to be removed
    if world.first:
        prune(train.folder.parent, train.folder, KEEP_BYTES, mark="view-*.npy")
    computed = train.computed + val.computed
    took = f", {computed:,} embedded now in {duration(time.monotonic() - began)}" if computed else ", all at hand"
    width = train[0].shape[1]
    what = f"{number} augmented views of each training picture" if number else "every picture once, not augmented"
    note = f"{width:,} numbers a picture, {what} ({size(total * width * 2)}){took}"
    for name in [*train.damaged, *val.damaged]:
        events.emit("note", label="warning", text=f"the cached file {name} was damaged and has been computed again")
    loader = FeatureLoader(
        lambda epoch: train[epoch % max(number, 1)], data.labels, rows,
        Plan(len(rows), config.batch, config.seed, shuffle=True, rank=world.rank, world_size=world.size),
        device=source.machine.device, num_classes=len(data.classes), mixup=config.mixup or 0.0,
    )  # fmt: skip
    validation = FeatureLoader(
        lambda _: val[0], data.labels, kept, Plan(len(kept), JUDGED), device=source.machine.device,
        num_classes=len(data.classes),
    )  # fmt: skip
    return Embedded(tail_of(loaded.network), train, val, loader, validation, number, source.weights, note)


def refuse_too_many(source: Embedder, train: Views, number: int, rows: Rows, total: int, left: float) -> None:
    """UsageError where the views that were asked for are not at hand and cannot be made in `left` seconds."""
    if all(train.has(view) for view in range(max(number, 1))):
        return
    needed = total * seconds_each(source, rows)
    if needed > left:
        raise UsageError(
            f"{source.config.time} are not enough: to embed {total:,} pictures and views takes {duration(needed)}, and "
            f"{duration(max(left, 0.0))} are left", "give a longer --time or fewer --views",
        )  # fmt: skip


def seconds_each(source: Embedder, rows: Rows) -> float:
    """To embed a picture, tried on a few."""
    source.embed(rows[:2], None, 0)  # the first pictures pay for what all need
    began = time.monotonic()
    tried = rows[:TRIED]
    source.embed(tried, None, 0)
    return (time.monotonic() - began) / len(tried) / source.world.size


def affordable(source: Embedder, rows: Rows, kept: Rows, left: float) -> int:
    """How many views, of VIEWS at most and 1 at least, can be made in SHARE of `left` seconds."""
    each = seconds_each(source, rows)
    return max(1, min(VIEWS, int((SHARE * left / each - len(kept)) / len(rows))))


def stacked(found: Embedded, labels: NDArray[np.int64]) -> tuple[NDArray[np.float16], NDArray[np.int64], Rows]:
    """All views of all training pictures: features (V N, D), their labels and the pictures' rows."""
    count = max(found.views, 1)
    rows = np.tile(found.loader.rows, count)
    return np.concatenate([found.train[view] for view in range(count)]), labels[rows], rows
