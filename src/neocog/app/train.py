"""From a folder of pictures to a finished run, and on from wherever it stopped."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import neocog
from neocog.app import folder as run_folder
from neocog.app import folds, records
from neocog.app.folding import train_all
from neocog.app.folds import Folds
from neocog.app.processes import joined
from neocog.app.run import Run
from neocog.app.session import Session, prepare
from neocog.core.config import TrainConfig, load_config
from neocog.core.errors import NeocogError, UsageError
from neocog.core.events import Events
from neocog.core.files import remove_unfinished, write_atomic
from neocog.core.registry import lookup
from neocog.data.split import read_split, write_split
from neocog.training.checkpoint import Checkpoints
from neocog.training.world import World

Again = Literal["never", "exact", "auto"]


def train(
    data: str | Path, model: str = "resnet18", *, regime: str = "auto", time: str | None = None,
    epochs: int | None = None, out: str | Path | None = None, events: Events | None = None, **more: Any,
) -> Run | Folds:  # fmt: skip
    """Trains `model` on `data` and returns the finished run; with `folds` or `repeats` and no `fold` the `Folds`:
    `.runs`, one for each, `.numbers` of each and over all, and `.predictions()` and `.metrics()` of all together.

    `data`: a folder of class folders, a folder with train/ val/ test/, a CSV, or a named set. `out`: the run
    folder, which must not exist yet (default: a new one under runs/). `more`: any setting of
    `neocog.core.config.TrainConfig`. Errors: see `neocog.core.errors`.
    """
    given = {"data": str(data), "model": model, "regime": regime, "time": time, "epochs": epochs, **more}
    return start(load_config(None, given), out, events or Events())


def start(
    config: TrainConfig, out: str | Path | None, events: Events, *, command: str = "", again: Again = "never",
    force: bool = False,
) -> Run | Folds:  # fmt: skip
    """A new run in `out`, or those of all folds. `again`: what to do where a run lies there already: refuse ("never"),
    go on with it ("exact"), and go on from the state before where the newest is damaged ("auto"). `force`: remove it
    first."""
    lookup(config.model)  # a misspelt name costs no scan
    folds.check(config)
    with joined(config.device) as world:

        def choose() -> str:
            folder = folder_for(config, out, used=force or again != "never")
            return f"{'resume' if again != 'never' and run_folder.is_run(folder) else 'start'} {folder}"

        what, _, chosen = world.agree(choose).partition(" ")
        folder, fall_back = Path(chosen), again == "auto"
        if what == "resume" and (folds.is_whole(config) or folds.is_folds(folder)):
            folds.compare(folder, config)
        if folds.is_whole(config):
            return _all_folds(folder, config, events, world, command, fall_back=fall_back, force=force)
        if what == "resume":
            return _resume(folder, config, events, world, fall_back=fall_back, finished_is_fine=True)
        return _new(folder, config, events, world, command, force=force)


def _new(
    folder: Path, config: TrainConfig, events: Events, world: World, command: str, *, force: bool = False,
    sister: Path | None = None,
) -> Run:  # fmt: skip
    """`sister`: a run that must have been made of the same pictures."""
    session = prepare(config, folder, events, world)
    if sister is not None:
        compare_split(session, sister, sets=False)
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
    except NeocogError:
        if world.first and not was_there and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()  # refused before anything began
        raise


def folder_for(config: TrainConfig, out: str | Path | None, *, used: bool) -> Path:
    """The folder that `start` would choose. Errors: as there."""
    return run_folder.choose_folder(out, lookup(config.model).spec.name, config.data, used=used)


def resume(
    folder: str | Path, *, epochs: int | None = None, previous: bool = False, events: Events | None = None
) -> Run | Folds:
    """Continues a run, or the folds in a folder, exactly where the checkpoint stands; `epochs` makes a run longer.
    `previous`: from the state before, where the newest is damaged.

    UsageError where the data are no longer those the run was started on, or nothing is left to do.
    """
    folder = Path(folder)
    if not run_folder.is_run(folder):
        raise UsageError(f"{folder} is not a run folder (it has no config.toml)", "give one that `neocog train` made")
    if (folder / records.NAME).is_file():
        records.read(folder)  # a newer neocog's configuration would look like one with errors
    config = load_config(folder / "config.toml", {"epochs": epochs})
    whole = folds.is_whole(config)
    if whole and epochs is not None:
        hint = f"give --epochs to each, as in `neocog resume {folder}/fold-01 --epochs {epochs}`"
        raise UsageError(f"{folder} holds the runs of folds, which are all of one length", hint)
    with joined(config.device) as world:
        if whole:
            return _all_folds(folder, config, events or Events(), world, "", fall_back=previous)
        return _resume(folder, config, events or Events(), world, fall_back=previous)


def _resume(
    folder: Path, config: TrainConfig, events: Events, world: World, *, fall_back: bool, finished_is_fine: bool = False
) -> Run:
    with _held(folder, world):
        checkpoints = Checkpoints(folder)
        known = checkpoints.exist()
        timed = known and config.time is not None
        spent = checkpoints.load(fall_back=fall_back).facts["progress"]["spent"] if timed else 0.0
        session = prepare(config, folder, events, world, spent=spent)
        compare_split(session, folder)
        record = records.read(folder)
        note = session.trainer.restore(fall_back=fall_back) if known else ""
        if session.trainer.finished() and record.sittings[-1].ended == "finished":
            if finished_is_fine:
                return Run.open(folder)
            raise UsageError(f"{folder} is finished", f"`neocog resume {folder} --epochs N` makes it longer")
        changed = record.sit_down(session.machine, world, session.trainer.progress.done)
        if world.first:
            if note:
                session.note("warning", note)
            if changed:
                session.note("warning", f"{'; '.join(changed)}: the result will not be exactly that of one sitting")
            write_config(session)
            record.write(folder)
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
        run_folder.empty(folder)
    run_folder.check_space(folder, session.space())
    write_atomic(folder / "scan.json", data.scan.to_json())
    write_split(folder / "split.csv", data.split_rows())
    record = records.Record(command, session.config.seed, records.manifest_of(folder), records.versions())
    record.sit_down(session.machine, session.world, 0)
    record.write(folder)
    write_config(session)
    session.note("run", str(folder))
    return record.to_json()


def write_config(session: Session) -> None:
    comment = f"neocog {neocog.__version__}; replay with: neocog train --config {session.folder}/config.toml"
    write_atomic(session.folder / "config.toml", session.config.to_toml(comment))


def compare_split(session: Session, folder: Path, *, sets: bool = True) -> None:
    """UsageError that names what changed in the data since the run in `folder` was started. Without `sets` they may
    be other ones."""
    before = {row.file: row for row in read_split(folder / "split.csv")}
    now = {row.file: row for row in session.dataset.split_rows()}
    both = before.keys() & now.keys()
    changed = [file for file in both if before[file].sha256 != now[file].sha256]
    other = [file for file in both if before[file].label != now[file].label]
    moved = [file for file in both if sets and before[file].set != now[file].set]
    differences = [
        f"{len(files)} {what} ({', '.join(sorted(files)[:3])})"
        for what, files in (
            ("gone", before.keys() - now.keys()),
            ("new", now.keys() - before.keys()),
            ("changed_since_scan", changed),
            ("in another class", other),
            ("in another set", moved),
        )
        if files
    ]
    if differences:
        raise UsageError(
            f"the pictures of {folder} are not those it was started on: {'; '.join(differences)}",
            "restore them, or train a new run",
        )
