"""One candidate of a comparison: measured before the plan is made, then trained up to where a rung ends.

It is an ordinary run (`app.train.start`). To pause it, its planned length is set to what is done, after the state with
the whole length was saved: the run then evaluates, keeps and reports as at any end, and goes on from that state later
as if it had never paused.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neocog.app import folder as run_folder
from neocog.app import records, settings
from neocog.app.choosing import choose
from neocog.app.compare_plan import Measured
from neocog.app.costing import StepMemory
from neocog.app.embedding import VIEWS, embedder
from neocog.app.learning import STATES, seconds_of_saving
from neocog.app.machine import Machine
from neocog.app.preparing import STEP_SECONDS, open_data, prepare
from neocog.app.run import Run
from neocog.app.session import Session
from neocog.app.train import start
from neocog.app.zoo import preprocessing_of
from neocog.core.config import TrainConfig, load_config
from neocog.core.contracts import Network
from neocog.core.errors import ResourceError
from neocog.core.events import Events
from neocog.core.files import read_json_lines
from neocog.core.head import CLOSED
from neocog.core.registry import lookup
from neocog.costs.count import count
from neocog.data.dataset import Dataset
from neocog.training.world import World
from neocog.transfer.regimes import classifier_of

Clock = Callable[[], float]
FREE = {"data", "threads", "device"}  # settings that a run may have other ones of when it goes on
LEEWAY = 2.0  # times its share, after which a candidate is stopped within an epoch


@dataclass(frozen=True)
class Limit:
    """Moments on the clock: no epoch begins that would end after `soft`, no step after `hard`."""

    soft: float
    hard: float


@dataclass
class Stretch:
    """How far a candidate got in a rung. `paused`: it can learn on; `cut`: it was slower than planned."""

    run: Run
    epochs: float
    paused: bool
    cut: bool
    embedding: float  # seconds of this sitting
    history: list[dict[str, Any]]  # of all sittings, by epoch


# The way through the network that features take, without embedding anything.
PROBE = {"regime": "probe", "head": "linear", "views": None, "unfreeze": None}


def open_pictures(config: TrainConfig, events: Events) -> Dataset:
    """The pictures, read into the cache at the size that this network asks for."""
    spec = lookup(config.model).spec
    own = preprocessing_of(lookup(config.model), config.weights) if config.weights else None
    return open_data(config, settings.largest_side(config, spec, own), settings.channels(config, own), events)


def measure(config: TrainConfig, folder: Path, budget: float, share: float) -> tuple[Measured, dict[str, Any]]:
    """What a candidate takes here, and its row's facts. `budget`: seconds of the whole comparison; `share`: of them,
    one candidate's. Nothing is left but the cache of pictures. Errors: as `neocog.app.preparing.prepare`."""
    open_pictures(config, Events())  # so that reading them counts for nobody
    facts: dict[str, Any] = {"settings": {}}
    if config.regime == "auto":
        session, _ = trial(config.model_copy(update=PROBE), folder, budget)
        source = embedder(config, session.dataset, session.loaded, session.preprocessing, session.machine, World())
        config = config.model_copy(update={"batch_size": session.config.batch})
        evidence = choose(config, source, session.loaded, share)
        config = config.model_copy(update={"regime": evidence.regime})
        facts["settings"]["regime"] = evidence.regime
        facts["note"] = f"regime {evidence.regime}, {evidence.why}"
        del session, source
    features = config.regime == "features"
    tried = config.model_copy(update=PROBE) if features else config
    session, setup = trial(tried, folder, budget)
    config = config.model_copy(update={"batch_size": session.config.batch})
    found = session.trainer.budget  # type: ignore[union-attr]  # no head is fitted at once in a trial
    assert found is not None
    facts |= facts_of(session.loaded.network, session.preprocessing.size, config, session.machine)
    view = found.pace.first * found.batches_per_epoch
    embedding, at_once = 0.0, 0
    if features:
        closed, views = config.head in CLOSED, config.views
        if views is None:
            views = 0 if closed else max(1, min(VIEWS, int(share / 2 / view)))
        pictures = len(session.dataset.rows("train"))
        at_once = 1 if closed else config.epochs or settings.default_epochs("features", pictures, config.batch)
        facts["settings"] |= {"views": views} | ({} if closed else {"epochs": at_once})
        # Beside its embeddings, what a head learns from takes no time; what follows each epoch does.
        each = STATES * seconds_of_saving(classifier_of(session.loaded.network), folder.parent)
        each += found.batches_per_epoch * STEP_SECONDS
        embedding = view * max(views, 1) + found.validation + at_once * each
    validation = found.validation + STATES * seconds_of_saving(session.loaded.network, folder.parent)
    ending = found.evaluation + found.report
    return Measured(setup, found.pace, validation, ending, found.batches_per_epoch, embedding, at_once), facts


def trial(config: TrainConfig, folder: Path, budget: float) -> tuple[Session, float]:
    """A session that is only measured, and the seconds it took to prepare."""
    began = time.monotonic()
    timed = config.model_copy(update={"time": f"{budget:.3f}s", "epochs": None})
    session = prepare(timed, folder, Events(), resumed=True)
    return session, time.monotonic() - began


def facts_of(network: Network, size: int, config: TrainConfig, machine: Machine) -> dict[str, Any]:
    """Parameters, MACs of a picture, and the bytes of a training step at its peak (None where none is taken)."""
    shape = (network.in_channels, size, size)
    cost = count(network, shape)
    features = config.regime == "features"
    peak = None if features else StepMemory(network, shape, config, machine)(config.batch).peak
    return {"params": cost.params, "macs": cost.macs, "memory": peak}


def train_until(
    config: TrainConfig, folder: Path, target: int | None, events: Events, *, name: str, command: str = "",
    limit: Limit | None = None, fall_back: bool = True, clock: Clock = time.monotonic,
) -> Stretch:  # fmt: skip
    """Begins the candidate's run, or goes on with it, until `target` epochs are done (None: to its end), evaluates and
    writes it. `events` are the run's own: listeners are added to them. Errors: those of a run."""
    watch = _Watch(target, limit, clock)
    if run_folder.is_run(folder):  # it goes on with the settings that it was begun with, all decided
        config = load_config(folder / run_folder.MARK, config.model_dump(include=FREE))
    for moment in ("progress", "training", "epoch_started", "step_ended", "epoch_ended"):
        events.on(moment, getattr(watch, moment))
    run = start(config, folder, events, command=command, again="auto" if fall_back else "exact")
    assert isinstance(run, Run)
    history = read_json_lines(folder / "metrics.jsonl")
    batches = len(watch.trainer.loader) if watch.trainer is not None else 0
    epochs = watch.trainer.progress.done / batches if batches else float(len(history))
    if watch.paused:
        record = records.read(folder)
        record.get_up(f"paused after {epochs:.4g} epochs, as {name} of a comparison", 0)
        record.write(folder)
    return Stretch(run, epochs, watch.paused, watch.cut, watch.embedding, history)


class _Watch:
    """Listens to one run, and pauses it."""

    def __init__(self, target: int | None, limit: Limit | None, clock: Clock) -> None:
        self.target, self.limit, self.clock = target, limit, clock
        self.trainer: Any = None
        self.paused = self.cut = False
        self.embedding = 0.0
        self._embedding_began: float | None = None
        self._epoch_began = clock()

    def progress(self, what: str, **_: Any) -> None:
        if what != "embedding":
            return
        if self._embedding_began is None:
            self._embedding_began = self.clock()
        self.embedding = self.clock() - self._embedding_began
        if self.limit is not None and self.clock() > self.limit.hard:
            raise ResourceError("its share of the time was over before the pictures were embedded",
                                "give a longer --time, or fewer --views")  # fmt: skip

    def training(self, trainer: Any) -> None:
        self.trainer = trainer
        if self.target is not None and trainer.progress.epoch >= self.target:
            self._pause()  # it was killed after its last epoch of this rung

    def epoch_started(self, **_: Any) -> None:
        self._epoch_began = self.clock()

    def step_ended(self, **_: Any) -> None:
        progress = self.trainer.progress
        if self.limit is not None and self.clock() > self.limit.hard and progress.done < progress.planned:
            self.cut = True
            self._pause()

    def epoch_ended(self, **_: Any) -> None:
        if self.target is not None and self.trainer.progress.epoch >= self.target:
            self._pause()
        elif self.limit is not None and 2 * self.clock() - self._epoch_began > self.limit.soft:
            self.cut = self.cut or not self.trainer.finished()
            self._pause()

    def _pause(self) -> None:
        """The loop ends at the planned length. The state that was saved before has the whole one."""
        progress = self.trainer.progress
        self.paused = self.paused or progress.done < progress.planned
        progress.planned = progress.done
