"""What a network has learned, without any one picture: the page of `neocog explain RUN`."""

import shlex
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from neocog import report
from neocog.app.explaining_filters import filters_of, reached
from neocog.app.explaining_fooled import fooled_by
from neocog.app.explaining_making import CLASSES, STEPS, Maker
from neocog.app.explaining_map import map_of
from neocog.app.explaining_stages import CHANNELS, STAGES, Looked, looked, views
from neocog.app.explaining_training import chosen, pictures_of
from neocog.app.opened import Opened
from neocog.app.plane import Method
from neocog.app.pretrained import Pretrained
from neocog.app.reporting import stages_of
from neocog.app.run import Run
from neocog.core.errors import DataError
from neocog.core.events import Events
from neocog.core.files import write_atomic
from neocog.core.registry import lookup


@dataclass(frozen=True)
class ExplainedNetwork:
    """What stands on the page, and where it is."""

    page: report.NetworkPage
    path: Path


def explain_network(run: Run, *, out: str | Path | None = None, training: bool = True, made: int | None = None,
                    method: Method = "pca", events: Events | None = None) -> ExplainedNetwork:  # fmt: skip
    """Writes the page of a run's network, by default beside the run as RUN-network.html. See `network_page`."""
    page = network_page(Opened.of(run), training=training, made=made, method=method, events=events)
    path = Path(out) if out is not None else Path(f"{run.folder}-network.html")
    write_atomic(path, report.render_network(page))
    return ExplainedNetwork(page, path)


def network_page(
    opened: Opened, *, training: bool = True, made: int | None = None, method: Method = "pca",
    events: Events | None = None,
) -> report.NetworkPage:  # fmt: skip
    """`training`: look at the run's training and test pictures. `made`: pictures that are made for each stage (default:
    up to three, as the network's cost allows). UsageError where the run is no classifier's, DataError where its
    pictures are gone."""
    began, events = time.monotonic(), events or Events()
    run, network = opened.run, opened.network
    run.must_be("classification", "classifies nothing")
    data = pictures_of(run, events) if training and not isinstance(run, Pretrained) else None
    shape = (network.in_channels, run.card.preprocessing.size, run.card.preprocessing.size)
    facts = stages_of(network, shape)
    macs = sum(stage.macs for stage in facts)
    names = [f"stages.{name}" for name, _ in network.stages.named_children()]
    shown = [names[i] for i in chosen(np.arange(len(names)), STAGES)]
    convolutions = reached(network, shape)
    found: Looked | None = looked(opened, data, shown, convolutions, shape, events) if data is not None else None
    maker = Maker(opened)
    asked = made is not None
    made = maker.affordable(shown, CHANNELS) if made is None else made
    shown_classes = mistaken(run)[:CLASSES] if made else []
    return report.NetworkPage(
        run=shlex.quote(str(run.folder)),
        weights=f" --weights {shlex.quote(run.weights)}" if isinstance(run, Pretrained) else "",
        costed=costed(run, shape), origin=run.origin, model=run.card.model, idea=lookup(run.card.model).spec.idea,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), classes=tuple(run.classes), input_shape=shape,
        params=sum(stage.params for stage in facts), macs=macs,
        filters=filters_of(network, convolutions, shown, found.ranges if found is not None else None),
        channels=views(opened, shown, {stage.name: stage for stage in facts}, found, maker, made, events),
        stages_of=len(names),
        classes_made=tuple(
            report.MadeClass(run.classes[number], picture)
            for number, picture in zip(shown_classes, maker.classes(shown_classes), strict=True)
        ),
        made=made, asked=asked, making=(maker.side, STEPS, maker.cost(shown, 1, CLASSES)),
        map=map_of(opened, data, method, events) if data is not None else None, stages=facts,
        looked=(len(found.pictures), found.of) if found is not None else (0, 0),
        fooled=fooled_by(opened, data, macs, events) if data is not None else None,
        judged=not isinstance(run, Pretrained), seconds=time.monotonic() - began,
    )  # fmt: skip


def costed(run: Run, shape: tuple[int, ...]) -> str:
    """What `neocog cost` is given to count the network as it stands here: of one by name its size, classes, options."""
    if not isinstance(run, Pretrained):
        return shlex.quote(str(run.folder))
    knobs = [f"--knob {shlex.quote(f'{name}={value}')}" for name, value in run.card.knobs.items()]
    size = ",".join(map(str, shape))
    return " ".join([str(run.folder), f"--input {size} --classes {len(run.classes)}", *knobs])


def mistaken(run: Run) -> list[int]:
    """The classes, those first that the run's pictures were most often wrongly said to be, or not to be."""
    try:
        known = run.predictions("test" if run.has("test") else "val")
    except DataError:
        return list(range(len(run.classes)))
    wrong = known.predicted != known.labels
    both = np.concatenate([known.predicted[wrong], known.labels[wrong]])
    order: list[int] = np.argsort(-np.bincount(both, minlength=len(run.classes)), kind="stable").tolist()
    return order
