"""Regime auto: what is measured before it is chosen, and the lectures' rule beside it.

The rule (deck 004, "Choosing the right transfer learning approach") has two questions. Is the data set large? Is it
like the one of the pretraining? The second is measured: what the last half of the network adds to what a linear
classifier reads from the first. Concepts that were learned for the pretraining stand there; where they help, the
pictures are like those of the pretraining.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from neocog import metrics
from neocog.app import settings
from neocog.app.announcing import duration
from neocog.app.building import make_task, training_loader
from neocog.app.costing import LATE
from neocog.app.embedding import TRIED, VIEWS, Embedder, seconds_each
from neocog.app.zoo import Loaded
from neocog.core.config import TrainConfig
from neocog.training.timing import seconds_per_batch
from neocog.training.world import World
from neocog.transfer.closed import evenly
from neocog.transfer.evidence import Depths, cross_validated

NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)
SAMPLE = 500  # pictures that are embedded to be judged by
SHARE = 0.05  # of a time budget, at most, for embedding these
FEW_AT_ONCE = 16  # pictures of a step by which the whole network's pace is judged
STEPS = 4
LARGE = 1000  # training pictures of each class: the lectures give no number
ALIKE = 0.25  # of what is known in the end, added by the last half: from here on, "similar"
FEW = 3  # pictures of the rarest class below which a whole network is not worth fine-tuning
PASSES = 2  # over the pictures, at least, for more than a classifier
# That time must suffice for, or the last stages alone get further in it: with batch norm, and without any norm. From
# docs/transfer.md: MobileNetV2 and SqueezeNet.
WHOLE, UNSTEADY = 15, 250

RULE = {  # (large, similar) -> what the deck says
    (True, True): "fine-tune the whole network",
    (True, False): "fine-tune the whole network",
    (False, True): "freeze the network, train a linear classifier on top",
    (False, False): "freeze the first layers, train a custom network on top of them",
}


@dataclass(frozen=True)
class Evidence:
    """What was found. `accuracy` and `halfway`: of a linear classifier on the embeddings and on the mean maps at half
    depth, cross-validated; None where no two classes have two pictures. `features` and `full`: predicted seconds of the
    two regimes; `left`: of a time budget."""

    pictures: int
    classes: int
    rarest: int
    sampled: int
    stage: str
    accuracy: float | None
    halfway: float | None
    log_me: float
    h_score: float
    features: float
    full: float
    left: float | None
    regime: str
    why: str

    @property
    def large(self) -> bool:
        return self.pictures >= LARGE * self.classes

    @property
    def added(self) -> float | None:
        """By the last half of the network: the share of the accuracy above chance that is not there at half depth."""
        if self.accuracy is None or self.halfway is None:
            return None
        chance = 1 / self.classes
        return max(0.0, (self.accuracy - self.halfway) / max(self.accuracy - chance, 0.01))

    @property
    def similar(self) -> bool:
        return self.added is None or self.added >= ALIKE

    def lines(self) -> Iterator[str]:
        """The four lines a run begins with."""
        size = "large" if self.large else "small"
        yield (
            f"{self.pictures:,} training pictures, {self.rarest:,} in the rarest of {self.classes} classes: a {size} "
            f"data set (large: {LARGE:,} a class)"
        )
        if self.accuracy is None or self.added is None:
            yield "no two classes have two pictures, so nothing can be cross-validated"
        else:
            kind, share = "similar to" if self.similar else "different from", f"{self.added:.0%}"
            yield (
                f"a linear classifier on {self.sampled:,} embeddings names {self.accuracy:.1%} of pictures that it has "
                f"not seen, at half depth ({self.stage}) {self.halfway:.1%}: the last half adds {share} of what "
                f"is above chance, so they are {kind} the pretraining's (similar: {ALIKE:.0%}); "
                f"LogME {self.log_me:.3f}, H-score {self.h_score:.2f}"
            )
        budget = f", of {duration(self.left)} that are left" if self.left is not None else ""
        yield f"predicted: features {duration(self.features)}, full {duration(self.full)}{budget}"
        yield f"the lectures' rule: {RULE[self.large, self.similar]}; chosen: {self.regime}, {self.why}"

    def table(self) -> tuple[tuple[str, tuple[tuple[str, bool], ...]], ...]:
        """The rule, rows by similarity, columns large and small, with the cell where these pictures stand."""
        return tuple(
            (
                name,
                tuple(
                    (RULE[large, similar], (large, similar) == (self.large, self.similar)) for large in (True, False)
                ),
            )
            for name, similar in (("similar to the pretraining", True), ("different", False))
        )


def choose(config: TrainConfig, source: Embedder, loaded: Loaded, left: float | None) -> Evidence:
    """`left`: seconds of a time budget that training may take."""
    data, world = source.dataset, source.world
    rows = data.rows("train")
    labels = data.labels[rows]
    counts = np.bincount(labels, minlength=len(data.classes))
    depths = Depths(loaded.network)
    looking = replace(source, backbone=depths)
    least = 2 * len(data.classes)  # to cross-validate
    order = rows[evenly(labels, max(SAMPLE, least), config.seed)]
    each = seconds_each(looking, order)  # for one of several processes that share them; the sample each embeds alone
    most = len(order) if left is None else max(TRIED, least, int(SHARE * left / (each * world.size)))
    sample = order[: int(world.agree(lambda: str(most)))]
    values = looking.embed(sample, None, 0)
    half, whole = values[:, : depths.width], values[:, depths.width :]
    y = data.labels[sample]
    accuracy, halfway = (cross_validated(one, y, config.seed) for one in (whole, half))
    full = seconds_of_full(config, source, loaded)
    epochs = config.epochs or settings.default_epochs("full", len(rows), config.batch)
    # As many as the time is enough for, or are asked for after those of the head alone.
    in_time = passes = left / full if left is not None else None
    if config.epochs is not None:
        asked = max(0, config.epochs - config.head_epochs)
        passes = asked if passes is None else min(passes, asked)
    rarest = int(counts.min())
    enough = WHOLE if any(isinstance(part, NORMS) for part in loaded.network.modules()) else UNSTEADY
    if rarest < FEW:
        regime, why = "features", f"because fewer than {FEW} pictures of a class do not carry a whole network"
    elif passes is not None and passes < PASSES:
        regime, why = "features", f"because time or epochs suffice for {passes:.1f} passes of the whole network"
    elif in_time is not None and in_time < enough:
        network = "the whole network" if enough == WHOLE else "this network, which has no norms"
        much = f"because time suffices for {in_time:.0f} passes of {network}"
        regime, why = "partial", f"{much}, and with fewer than {enough} the last stages alone get further"
    elif passes is not None:
        regime, why = "full", f"because time and epochs suffice for {passes:.0f} passes of the whole network"
    else:
        regime, why = "full", "because no time budget speaks against it"
    said = world.agree(lambda: f"{regime} {why}")
    regime, _, why = said.partition(" ")
    return Evidence(
        len(rows), len(data.classes), rarest, len(sample), Depths.stage_of(loaded.network), accuracy, halfway,
        metrics.log_me(whole, y), metrics.h_score(whole, y), each * (VIEWS + 1) * len(rows), full * epochs, left,
        regime, why,
    )  # fmt: skip


def seconds_of_full(config: TrainConfig, source: Embedder, loaded: Loaded) -> float:
    """Of one pass over the pictures in which the whole network learns, judged by a few small steps."""
    pictures = len(source.dataset.rows("train"))
    few = min(FEW_AT_ONCE, pictures)
    trying = config.model_copy(update={"regime": "full", "batch_size": few})
    loader = training_loader(trying, source.dataset, source.preprocessing, source.machine, World())
    task = make_task(trying, source.dataset, source.preprocessing, source.machine.device)
    regime = settings.make_regime(trying)
    seconds = seconds_per_batch(
        loaded.network, task, loader, regime, LATE, bf16=source.machine.bf16, most=STEPS
    )  # fmt: skip
    return pictures / few * seconds
