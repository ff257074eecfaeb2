"""Model auto: which of the pretrained networks at hand says most about these pictures."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neocog import metrics
from neocog.app import settings
from neocog.app.announcing import duration
from neocog.app.building import choose_preprocessing
from neocog.app.embedding import VIEWS, embedder, seconds_each
from neocog.app.machine import Machine
from neocog.app.published import file_in, find_published, weights_folder
from neocog.app.zoo import load_model, preprocessing_of
from neocog.core.config import TrainConfig
from neocog.core.errors import UsageError
from neocog.core.events import Events
from neocog.core.registry import Entry, lookup, names
from neocog.data.dataset import Dataset
from neocog.training.world import World
from neocog.transfer.closed import evenly
from neocog.transfer.evidence import cross_validated

AUTO = "auto"
SAMPLE = 500  # pictures by which the networks are judged
SHARE = 0.1  # of a time budget, for looking at all of them
EVEN = 0.01  # of accuracy: what is less apart is even, and the faster one wins


@dataclass(frozen=True)
class Candidate:
    """`accuracy`: of a linear classifier on embeddings, cross-validated. `seconds`: to embed a picture."""

    model: str
    weights: str
    accuracy: float
    log_me: float
    seconds: float

    def line(self) -> str:
        return (
            f"{self.model}: a linear classifier on its embeddings names {self.accuracy:.1%} of pictures that it has "
            f"not seen, LogME {self.log_me:.3f}, {duration(self.seconds)} a picture"
        )


def at_hand(weights: str) -> Iterator[tuple[Entry, str]]:
    """The picture networks whose weights need no download: those of the word (imagenet, a tag), or of a folder in
    which each lies under its name."""
    folder = Path(weights)
    for name in names("*"):
        entry = lookup(name)
        if len(entry.spec.input_shape) != 3 or entry.spec.input_shape[0] != 3:
            continue
        if folder.is_dir():
            found = file_in(folder, entry)
            if found is not None:
                yield entry, str(found)
            continue
        tags = {tag for w in entry.spec.weights for tag in (w.tag, *w.aliases)}
        tags |= {"imagenet" for w in entry.spec.weights if w.categories.startswith("imagenet")}
        published = find_published(entry, weights) if weights in tags else None
        if published is not None and (weights_folder() / published.url.rpartition("/")[2]).is_file():
            yield entry, weights


def check(config: TrainConfig) -> list[tuple[Entry, str]]:
    """The candidates. UsageError where there are none, or the settings hold for one network only."""
    if config.weights is None:
        raise UsageError("model auto chooses between pretrained networks", "give --weights imagenet, or a folder")
    if config.knobs or config.stage is not None:
        raise UsageError("--knob and --stage belong to one network", "name it with --model")
    found = list(at_hand(config.weights))
    if not found:
        where = config.weights if Path(config.weights).is_dir() else weights_folder()
        raise UsageError(
            f"no network's weights lie in {where}",
            "give --weights a folder of NAME.safetensors, or name one: --model NAME --weights imagenet downloads",
        )
    return found


def select(
    config: TrainConfig, dataset: Dataset, machine: Machine, world: World, events: Events, left: float | None
) -> tuple[TrainConfig, list[dict[str, Any]]]:
    """The settings with the network and its weights, and what was measured of each. `left`: seconds of a time budget:
    a network whose views would not fit in half of them is not taken if another's do."""
    rows = dataset.rows("train")
    rows = rows[evenly(dataset.labels[rows], max(SAMPLE, 2 * len(dataset.classes)), config.seed)]
    candidates, known = [], check(config)
    for entry, weights in known:
        found = measured(entry, weights, config, dataset, rows, machine, left and SHARE * left / len(known))
        candidates.append(found)
        events.emit("note", label="candidate", text=found.line())
    said = world.agree(lambda: best(candidates, left, len(dataset.rows("train"))).model)
    chosen = next(one for one in candidates if one.model == said)
    events.emit("note", label="chosen", text=f"{chosen.model} of {len(candidates)}")
    update = {"model": chosen.model, "weights": chosen.weights}
    return config.model_copy(update=update), [asdict(one) for one in candidates]


def measured(
    entry: Entry, weights: str, config: TrainConfig, dataset: Dataset, rows: "np.typing.NDArray[np.int64]",
    machine: Machine, most: float | None,
) -> Candidate:  # fmt: skip
    """`most`: seconds after which a smaller sample must do, of two pictures a class at least."""
    own = preprocessing_of(entry, weights)
    loaded = load_model(
        entry.spec.name, weights=weights, num_classes=len(dataset.classes), in_channels=dataset.channels
    )
    machine.place(loaded.network)
    trying = config.model_copy(update={"model": entry.spec.name, "weights": weights})
    resize, size = settings.decide_size(trying, entry.spec, own, dataset.equal_size)
    source = embedder(trying, dataset, loaded, choose_preprocessing(own, resize, size, dataset), machine, World())
    seconds = seconds_each(source, rows)
    if most is not None:
        rows = rows[: max(2 * len(dataset.classes), int(most / seconds))]
    values = source.embed(rows, None, 0)
    values = values if values.ndim == 2 else values.mean(axis=(2, 3))
    labels = dataset.labels[rows]
    accuracy = cross_validated(values, labels, config.seed)
    if accuracy is None:
        raise UsageError("the pictures are too few to judge networks by", "name one with --model")
    return Candidate(entry.spec.name, weights, accuracy, metrics.log_me(values, labels), seconds)


def best(candidates: list[Candidate], left: float | None, pictures: int) -> Candidate:
    """The fastest of those that are even with the most accurate one."""
    fitting = [one for one in candidates if left is None or one.seconds * pictures * (VIEWS + 1) < left / 2]
    fitting = fitting or [min(candidates, key=lambda one: one.seconds)]
    most = max(one.accuracy for one in fitting)
    return min((one for one in fitting if one.accuracy >= most - EVEN), key=lambda one: one.seconds)
