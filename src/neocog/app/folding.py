"""The runs of all folds, one after the other: what is finished is never done again, what was stopped goes on."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from neocog.app import folder as run_folder
from neocog.app.folds import Folds, conclude, finished, name_of, write_config, write_numbers
from neocog.app.run import FOLDS, Run
from neocog.core.config import TrainConfig, load_config, seconds
from neocog.core.errors import Interrupted, ModelFileError, NeocogError
from neocog.core.events import Events
from neocog.data.folds import number_of_folds
from neocog.training.checkpoint import Checkpoints
from neocog.training.world import World

TOLD = ("progress", "training", "run_started", "epoch_started", "step_ended", "checkpoint_written", "run_ended")

# Trains the run of one fold, or goes on with it: (settings, its folder, the first fold's folder, events).
One = Callable[[TrainConfig, Path, Path | None, Events], Run]


def train_all(folder: Path, config: TrainConfig, events: Events, world: World, one: One) -> Folds:
    """The runs of all folds that are not finished, one after the other, and then what they say together. `folder` is
    held by whoever calls this. An error of one ends all, with its exit code; `resume` goes on there."""
    world.alone(lambda: write_config(folder, config))
    number = number_of_folds(config.folds, config.repeats)
    first = name_of(1, number)
    done = set(json.loads(world.agree(lambda: json.dumps(finished(folder, number)))))
    began = time.monotonic() - float(world.agree(lambda: repr(spent(folder, number))))
    heard: set[str] = set()
    for fold in range(1, number + 1):
        own = folder / name_of(fold, number)
        if own.name in done:
            continue
        settings = config_of(own, config, fold, lambda: time.monotonic() - began, number - len(done), world)
        sister = folder / first if fold > 1 else None
        try:
            run = one(settings, own, sister, quieter(events, heard, whole=not heard))
        except BaseException as error:
            if world.first and not any(folder.glob("fold-*")):
                (folder / run_folder.MARK).unlink()  # nothing has begun that could go on
            if isinstance(error, NeocogError):
                error.cause = f"fold {fold} of {number}: {error.cause}"
            if isinstance(error, Interrupted):
                error.hint = f"`neocog resume {folder}` continues"
            raise
        done.add(own.name)
        if world.first:
            write_numbers(folder, number, time.monotonic() - began)
            events.emit("note", label="fold", text=f"{fold} of {number}: {describe(run)}; {own}")
    world.alone(lambda: conclude(folder, config, number, time.monotonic() - began))
    return Folds.open(folder)


def config_of(
    own: Path, config: TrainConfig, fold: int, gone: Callable[[], float], left: int, world: World
) -> TrainConfig:
    """The settings of one fold: those it was begun with, or its share of what is `left` to do and to spend."""
    if world.agree(lambda: str(run_folder.is_run(own))) == "True":
        return load_config(own / run_folder.MARK, {"threads": config.threads, "device": config.device})
    more: dict[str, Any] = {"fold": fold}
    if config.time is not None:
        total = seconds(config.time)
        share = float(world.agree(lambda: repr((total - gone()) / left)))
        more["time"] = f"{max(share, 0.001):.3f}s"
    return config.model_copy(update=more)


def quieter(events: Events, heard: set[str], *, whole: bool) -> Events:
    """A fold's own events: no epochs, which its own report has; its first lines only if `whole`; else no more than
    the warnings that were not `heard` before."""
    own = Events()

    def note(label: str, text: str) -> None:
        new = text not in heard
        heard.add(text)
        if whole or (label == "warning" and new):
            events.emit("note", label=label, text=text)

    def forward(moment: str) -> None:
        own.on(moment, lambda **facts: events.emit(moment, **facts))

    for moment in TOLD:
        forward(moment)
    own.on("note", note)
    return own


def describe(run: Run) -> str:
    numbers = run.metrics("test")
    low, high = numbers["top1_interval"]
    return f"accuracy {numbers['top1']:.4f} ({low:.4f} to {high:.4f}) on {numbers['pictures']:,} test pictures"


def spent(folder: Path, number: int) -> float:
    """Seconds that earlier sittings used: up to the last finished fold, and of the one that was stopped."""
    try:
        before = float(json.loads((folder / FOLDS).read_bytes())["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        before = 0.0
    done = finished(folder, number)
    for name in (name_of(fold, number) for fold in range(1, number + 1)):
        states = Checkpoints(folder / name)
        if name not in done and states.exist():
            try:
                before += states.load(fall_back=True).facts["progress"]["spent"]
            except ModelFileError:  # its own run will say so
                continue
    return before
