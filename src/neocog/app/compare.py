"""Several networks on the same pictures, compared fairly: one split, one seed, one evaluation, one time budget."""

import time as clocks
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from neocog.app import compare_folder
from neocog.app import folder as run_folder
from neocog.app.compare_folder import Row, State, foreign
from neocog.app.compare_run import Clock, open_pictures
from neocog.app.compare_rungs import Comparing
from neocog.app.compare_table import conclude, ordered, sentence, values
from neocog.app.folds import is_whole
from neocog.app.machine import choose_machine
from neocog.app.processes import Place
from neocog.app.published import bundle_in, file_in, find_published
from neocog.app.run import Run
from neocog.core.config import TrainConfig, load_config
from neocog.core.errors import UsageError
from neocog.core.events import Events
from neocog.core.files import remove_unfinished
from neocog.core.head import CLOSED
from neocog.core.registry import Entry, lookup

REGIMES = ("auto", "scratch", "features", "probe", "partial", "full", "gradual")


@dataclass(frozen=True)
class Comparison:
    """A finished comparison, opened from its folder."""

    folder: Path

    @classmethod
    def open(cls, path: str | Path) -> "Comparison":
        """UsageError where the comparison is not finished, ModelFileError where there is none."""
        found = cls(Path(path))
        if not found.state.complete:
            raise UsageError(f"the comparison in {path} is not finished", "the command that began it goes on with it")
        return found

    @cached_property
    def state(self) -> State:
        return compare_folder.read(self.folder)

    @property
    def rows(self) -> list[Row]:
        """The candidates, the best by validation accuracy first, failed ones last."""
        return ordered(self.state.rows)

    def table(self) -> list[dict[str, Any]]:
        """The same as plain values, as compare.csv has them."""
        return [values(row) for row in self.rows]

    @property
    def best(self) -> Run:
        """The run that did best on the validation pictures."""
        return self.run(self.rows[0].name)

    def run(self, name: str) -> Run:
        """A candidate's run, by the name of its folder."""
        return Run.open(self.folder / name)

    @property
    def verdict(self) -> str:
        """What the test pictures say of the best two, in a sentence."""
        return sentence(self.state)

    @property
    def report(self) -> Path:
        return self.folder / "compare.html"


def compare(
    data: str | Path, models: Iterable[str], *, regimes: Iterable[str] = ("auto",), time: str | None = None,
    out: str | Path | None = None, events: Events | None = None, **settings: Any,
) -> Comparison:  # fmt: skip
    """Trains every model under every regime on `data` and says which did best, and whether that could be luck.

    `models`: names, or "NAME:REGIME" for one pair. `time`: a budget for everything ("30m"), divided by successive
    halving; without one each candidate is trained for `epochs`. `out`: the folder; a comparison that lies there and
    was begun in the same way is gone on with. `settings`: any of `neocog.core.config.TrainConfig`, which all share;
    `weights` may also be a folder in which each network's file lies as NAME.safetensors, NAME.pth or under its
    published name. Errors: see `neocog.core.errors`; those of single candidates are in their rows.
    """
    models, regimes = ([words] if isinstance(words, str) else list(words) for words in (models, regimes))
    return start(str(data), models, regimes, {"time": time, **settings}, out, events or Events())


def start(
    data: str, models: Sequence[str], regimes: Sequence[str], given: dict[str, Any], out: str | Path | None,
    events: Events, *, command: str = "", resume: str = "auto", spent: float = 0.0, clock: Clock = clocks.monotonic,
) -> Comparison:  # fmt: skip
    """`compare`, with what the command line knows beside it. `resume`: of a comparison that lies in `out` already,
    never, exact, or auto (where a newest checkpoint is damaged, from the one before). `spent`: seconds of the budget
    that are gone."""
    if Place.of_environment().size > 1:
        raise UsageError("a comparison runs in one process", "start it without torchrun")
    config, rows = candidates(data, models, regimes, given)
    time = given.get("time")
    wanted = compare_folder.asked(config, rows, time)
    folder, state = compare_folder.choose(out, data, wanted, again=resume != "never")
    if state is not None and state.complete:
        return Comparison.open(folder)
    state = state or State(wanted, rows, command)
    state.seconds += spent
    began = clock()
    pictures = open_pictures(rows[0].config(config), events)  # wrong data is found before a folder is made
    if not len(pictures.rows("val")):
        raise UsageError("no picture is kept for validation, by which candidates are chosen",
                         "give --val-fraction more than 0")  # fmt: skip
    state.seconds += clock() - began
    sizes = ", ".join(f"{name} {len(pictures.rows(name)):,}" for name in ("train", "val", "test"))
    state.facts = {
        "pictures": f"{len(pictures):,} in {len(pictures.classes)} classes ({sizes})",
        "split": pictures.how_split, "seed": config.seed, "machine": choose_machine(config).describe(),
    }  # fmt: skip
    del pictures
    was_there = folder.exists()
    run_folder.create(folder)
    try:
        with run_folder.held(folder):
            remove_unfinished(folder)
            comparing = Comparing(folder, config, state, events, time=time, clock=clock, fall_back=resume == "auto")
            comparing.say("compare", str(folder))
            comparing.say("pictures", state.facts["pictures"])
            comparing.write()
            _begin(comparing)
            comparing.run()
            state.seconds = comparing.gone()
            conclude(folder, config, state)
    finally:
        if not was_there and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return Comparison.open(folder)


def _begin(comparing: Comparing) -> None:
    """Plans, where that has not been done. Nothing remains of a comparison that is refused here."""
    if comparing.state.sizes:
        return
    try:
        comparing.plan()
    except BaseException:
        (comparing.folder / compare_folder.NAME).unlink()
        raise
    comparing.write()


def candidates(
    data: str, models: Sequence[str], regimes: Sequence[str], given: dict[str, Any]
) -> tuple[TrainConfig, list[Row]]:
    """The settings that all share, and one row for each pair. UsageError for what no candidate could be."""
    if not models:
        raise UsageError("there is nothing to compare", "give --models resnet18,mobilenet_v2")
    pairs: list[tuple[Entry, str]] = []
    for word in models:
        name, colon, own = word.partition(":")
        pairs += [(lookup(name), regime) for regime in ([own] if colon else regimes or ["auto"])]
    unknown = [regime for _, regime in pairs if regime not in REGIMES]
    if unknown:
        raise UsageError(f"there is no regime called {unknown[0]!r}", f"use {', '.join(REGIMES)}")
    if given.get("task") != "classification":
        for entry, _ in pairs:
            if entry.spec.task == "reconstruction":
                cause = f"{entry.spec.name} is an autoencoder, and a comparison is one of classifiers"
                raise UsageError(cause, f"leave it out, or train it: `neocog train {data} --model {entry.spec.name}`")
    weights = given.get("weights")
    shared = {name: value for name, value in given.items() if name not in ("weights", "model", "regime")}
    alone = weights is not None and (Path(weights).is_file() or bundle_in(weights) is not None)
    if alone and len({entry.spec.name for entry, regime in pairs if regime != "scratch"}) > 1:
        hint = "give a folder in which each network's file lies as NAME.safetensors or NAME.pth"
        raise UsageError(f"{weights} holds the weights of one network", hint)
    rows = []
    for entry, regime in pairs:
        file = None if weights is None or regime == "scratch" else weights_of(entry, weights)
        if regime == "auto" and (file is None or given.get("head") in CLOSED):
            regime = "scratch" if file is None else "features"  # nothing else is possible
        fitting = {name: value for name, value in shared.items() if name not in foreign(regime)}
        load_config(None, fitting | {"data": data, "model": entry.spec.name, "regime": regime, "weights": file})
        rows.append(Row(f"{entry.spec.name}-{regime}", entry.spec.name, regime, file))
    names = [row.name for row in rows]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"{twice.replace('-', ' ')} is named twice", "give each network and regime once")
    # What goes with one regime each may be given for several candidates.
    several = {name: shared.pop(name) for name in sorted(foreign("scratch")) if shared.get(name) is not None}
    config = load_config(None, {"data": data, "weights": weights, **shared}).model_copy(update=several)
    if is_whole(config):
        raise UsageError("a comparison trains each candidate on one split", "leave --folds and --repeats out")
    return config, rows


def weights_of(entry: Entry, weights: str) -> str:
    """The word, or the file of this network. UsageError where there is none."""
    folder, name = Path(weights), entry.spec.name
    if not folder.is_dir() or bundle_in(weights) is not None:
        find_published(entry, weights)
        return weights
    found = file_in(folder, entry)
    if found is None:
        raise UsageError(f"{folder} has no weights of {name}", f"put them there as {name}.safetensors or {name}.pth, "
                         f"or give {name}:scratch")  # fmt: skip
    return str(found)
