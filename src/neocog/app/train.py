"""From a folder of pictures to a finished run, and on from wherever it stopped."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import neocog
from neocog.app import folder as run_folder
from neocog.app import folds, records
from neocog.app.comparing import compare_split
from neocog.app.encoder import encoder_settings
from neocog.app.folding import train_all
from neocog.app.folds import Folds
from neocog.app.preparing import prepare
from neocog.app.processes import joined
from neocog.app.run import Run
from neocog.app.selecting import AUTO
from neocog.app.session import Session
from neocog.core.config import TrainConfig, load_config
from neocog.core.errors import ModelFileError, UsageError
from neocog.core.events import Events
from neocog.core.files import remove_unfinished, write_atomic
from neocog.core.registry import lookup
from neocog.data.split import write_split
from neocog.training.checkpoint import Checkpoints
from neocog.training.world import World

# From measurements, which another time may give otherwise, or by rules that another version may have changed.
DECIDED = ("model", "regime", "views", "unfreeze", "lr", "batch_size")

Again = Literal["never", "exact", "auto"]


def train(
    data: str | Path, model: str | None = None, *, regime: str = "auto", time: str | None = None,
    epochs: int | None = None, out: str | Path | None = None, encoder: str | Path | None = None,
    events: Events | None = None, **more: Any,
) -> Run | Folds:  # fmt: skip
    """Trains `model` on `data` and returns the finished run; with `folds` or `repeats` and no `fold` the `Folds`:
    `.runs`, one for each, `.numbers` of each and over all, and `.predictions()` and `.metrics()` of all together.

    `data`: a folder of class folders, a folder with train/ val/ test/, a CSV, or a named set. `out`: the run
    folder, which must not exist yet (default: a new one under runs/). `encoder`: the run folder of an autoencoder,
    whose encoder is to classify. `more`: any setting of `neocog.core.config.TrainConfig`, `model` among them
    (default: resnet18). Errors: see `neocog.core.errors`.
    """
    if more.get("weights") is not None:
        more["weights"] = str(more["weights"])
    given = {"data": str(data), "model": model, "regime": regime, "time": time, "epochs": epochs, **more}
    if encoder is not None:
        given = encoder_settings(encoder, given)
    return start(load_config(None, given), out, events or Events())


def start(
    config: TrainConfig, out: str | Path | None, events: Events, *, command: str = "", again: Again = "never",
    force: bool = False, spent: float = 0.0,
) -> Run | Folds:  # fmt: skip
    """A new run in `out`, or those of all folds. `again`: what to do where a run lies there already: refuse ("never"),
    go on with it ("exact"), and go on from the state before where the newest is damaged ("auto"). `force`: remove it
    first. `spent`: seconds of a time budget that are gone."""
    folds.check(config)
    with joined(config.device) as world:

        def choose() -> str:
            folder = folder_for(config, out, again=again, force=force)
            return f"{'resume' if again != 'never' and run_folder.is_run(folder) else 'start'} {folder}"

        what, _, chosen = world.agree(choose).partition(" ")
        folder, fall_back = Path(chosen), again == "auto"
        if what == "resume" and (folds.is_whole(config) or folds.is_folds(folder)):
            folds.compare(folder, config)
        if folds.is_whole(config):
            return _all_folds(folder, config, events, world, command, fall_back=fall_back, force=force)
        if what == "resume":
            config = adopted(config, load_config(folder / run_folder.MARK, {}))
            return _resume(folder, config, events, world, fall_back=fall_back, finished_is_fine=True, spent=spent)
        return _new(folder, config, events, world, command, force=force, spent=spent)


def adopted(config: TrainConfig, decided: TrainConfig) -> TrainConfig:
    """The settings of a command that is given again, with what the run decided where they leave it open."""
    open_ones = [name for name in DECIDED if getattr(config, name) in (None, "auto")]
    if config.model == AUTO:
        open_ones.append("weights")
    return config.model_copy(update={name: getattr(decided, name) for name in open_ones})


def _new(
    folder: Path, config: TrainConfig, events: Events, world: World, command: str, *, force: bool = False,
    sister: Path | None = None, spent: float = 0.0,
) -> Run:  # fmt: skip
    """`sister`: a run that must have been made of the same pictures."""
    session = prepare(config, folder, events, world, spent=spent)
    if sister is not None:
        compare_split(session.dataset.split_rows(), sister, sets=False)
    with _held(folder, world):
        record = world.agree(lambda: _begin(session, command, force))
        return session.run(records.parse(record))


def _all_folds(
    folder: Path, config: TrainConfig, events: Events, world: World, command: str, *, fall_back: bool,
    force: bool = False,
) -> Folds:  # fmt: skip
    def one(settings: TrainConfig, own: Path, sister: Path | None, events: Events) -> Run:
        if world.agree(lambda: str(run_folder.is_run(own))) == "True":
            return _resume(own, settings, events, world, fall_back=fall_back, finished_is_fine=True)
        said = command or (records.read(sister).command if sister is not None else "")
        return _new(own, settings, events, world, said, sister=sister)

    if force:  # what is there goes only when the first run could begin
        prepare(config.model_copy(update={"fold": 1}), folder, Events(), world)
    was_there = folder.exists()
    try:
        with _held(folder, world):
            if force:
                world.alone(lambda: run_folder.empty(folder))
            return train_all(folder, config, events, world, one)
    except BaseException:
        if world.first and not was_there and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()  # refused before anything began
        raise


def folder_for(config: TrainConfig, out: str | Path | None, *, again: Again, force: bool) -> Path:
    """The folder that `start` would choose. Errors: as there."""
    if force and again != "never":
        raise UsageError("--force removes a run and --resume goes on with it", "give one of the two")
    name = AUTO if config.model == AUTO else lookup(config.model).spec.name  # a misspelt name costs no scan
    return run_folder.choose_folder(out, name, config.data, used=again != "never", force=force)


def resume(
    folder: str | Path, *, epochs: int | None = None, time: str | None = None, previous: bool = False,
    events: Events | None = None, spent: float = 0.0,
) -> Run | Folds:  # fmt: skip
    """Continues a run, or the folds in a folder, exactly where the checkpoint stands; `epochs` and `time` (a budget for
    all sittings) make a run longer. `previous`: from the state before, where the newest is damaged. `spent`: seconds
    of a time budget that are gone in this sitting.

    UsageError where the data are no longer those the run was started on, or nothing is left to do.
    """
    folder = Path(folder)
    run_folder.check_run(folder)
    if (folder / records.NAME).is_file():
        records.read(folder)  # a newer neocog's configuration would look like one with errors
    config = load_config(folder / "config.toml", {"epochs": epochs, "time": time})
    whole = folds.is_whole(config)
    if whole and epochs is not None:
        hint = f"give --epochs to each, as in `neocog resume {folder}/fold-01 --epochs {epochs}`"
        raise UsageError(f"{folder} holds the runs of folds, which are all of one length", hint)
    with joined(config.device) as world:
        if whole:
            return _all_folds(folder, config, events or Events(), world, "", fall_back=previous)
        return _resume(folder, config, events or Events(), world, fall_back=previous, spent=spent)


def _resume(
    folder: Path, config: TrainConfig, events: Events, world: World, *, fall_back: bool, finished_is_fine: bool = False,
    spent: float = 0.0,
) -> Run:  # fmt: skip
    with _held(folder, world):
        checkpoints = Checkpoints(folder)
        known = checkpoints.exist()
        if known and config.time is not None:
            spent += checkpoints.load(fall_back=fall_back).facts["progress"]["spent"]
        session = prepare(config, folder, events, world, spent=spent, resumed=known)
        compare_split(session.dataset.split_rows(), folder)
        record = records.read(folder)
        note = session.trainer.restore(fall_back=fall_back) if known else ""
        if records.manifest_of(folder) != record.manifest:
            raise ModelFileError(f"{folder}/split.csv is not the file that run.json names", "restore it from a copy")
        if session.trainer.finished() and record.sittings[-1].ended == "finished" and record.is_whole(folder):
            if finished_is_fine:
                return Run.open(folder)
            raise UsageError(f"{folder} is finished", f"`neocog resume {folder} --epochs N` makes it longer")
        changed = record.sit_down(session.machine, world, session.trainer.progress.done)
        if session.trainer.replanned:
            changed.append("the run has another length, and with it another schedule")
        if config.time is not None:
            changed.append("the clock decides the number of steps")
        record.exact = record.exact and not changed
        if world.first:
            if note:
                session.note("warning", note)
            if changed:
                session.note("warning", f"{'; '.join(changed)}: the result will not be exactly that of one sitting")
            write_record(session, record)
        return session.run(record)


def clean(folder: Path) -> None:
    """Removes the halves of files that a killed process left."""
    for place in (folder, folder / "checkpoints", folder / "model"):
        remove_unfinished(place)


@contextmanager
def _held(folder: Path, world: World) -> Iterator[None]:
    """The first process holds the folder for all."""
    if not world.first:
        world.agree(lambda: "")
        yield
        return
    with ExitStack() as stack:

        def hold() -> None:
            run_folder.create(folder)
            stack.enter_context(run_folder.held(folder))
            clean(folder)

        world.alone(hold)
        yield


def _begin(session: Session, command: str, force: bool) -> str:
    """What was found, how it was split, what was decided and by whom it is done, before the first step."""
    data, folder = session.dataset, session.folder
    if force:
        # Asked before the old run goes: with its room, is there enough for the new one?
        run_folder.check_space(folder, session.space() - run_folder.size(folder))
        run_folder.empty(folder)
    else:
        run_folder.check_space(folder, session.space())
    write_atomic(folder / "scan.json", data.scan.to_json())
    write_split(folder / "split.csv", data.split_rows())
    if session.choices:
        write_atomic(folder / run_folder.CHOICES, json.dumps(session.choices, indent=1, allow_nan=False) + "\n")
    record = records.Record(command, session.config.seed, records.manifest_of(folder), versions=records.versions())
    record.sit_down(session.machine, session.world, 0)
    write_record(session, record)
    session.note("run", str(folder))
    return record.to_json()


def write_record(session: Session, record: records.Record) -> None:
    """run.json, then config.toml, whose hash it holds and which makes the folder one of a run."""
    comment = f"neocog {neocog.__version__}; replay with: neocog train --config {session.folder}/config.toml"
    settings = session.config.to_toml(comment).encode("utf-8", "surrogateescape")
    record.config = hashlib.sha256(settings).hexdigest()
    record.write(session.folder)
    write_atomic(session.folder / run_folder.MARK, settings)
