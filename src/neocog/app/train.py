"""From a folder of pictures to a finished run, and on from wherever it stopped."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import neocog
from neocog.app import folder as run_folder
from neocog.app import records
from neocog.app.processes import joined
from neocog.app.run import Run
from neocog.app.session import Session, prepare
from neocog.core.config import TrainConfig, load_config
from neocog.core.errors import UsageError
from neocog.core.events import Events
from neocog.core.files import write_atomic
from neocog.core.registry import lookup
from neocog.data.split import read_split, write_split
from neocog.training.checkpoint import Checkpoints
from neocog.training.world import World

Again = Literal["never", "exact", "auto"]


def train(
    data: str | Path, model: str = "resnet18", *, regime: str = "auto", time: str | None = None,
    epochs: int | None = None, out: str | Path | None = None, events: Events | None = None, **more: Any,
) -> Run:  # fmt: skip
    """Trains `model` on `data` and returns the finished run.

    `data`: a folder of class folders, a folder with train/ val/ test/, a CSV, or a named set. `out`: the run
    folder, which must not exist yet (default: a new one under runs/). `more`: any setting of
    `neocog.core.config.TrainConfig`. Errors: see `neocog.core.errors`.
    """
    given = {"data": str(data), "model": model, "regime": regime, "time": time, "epochs": epochs, **more}
    return start(load_config(None, given), out, events or Events())


def start(
    config: TrainConfig, out: str | Path | None, events: Events, *, command: str = "", again: Again = "never",
    force: bool = False,
) -> Run:  # fmt: skip
    """A new run in `out`. `again`: what to do where a run lies there already: refuse ("never"), go on with it
    ("exact"), and go on from the state before where the newest is damaged ("auto"). `force`: remove it first."""
    lookup(config.model)  # a misspelt name costs no scan
    with joined(config.device) as world:

        def choose() -> str:
            folder = folder_for(config, out, used=force or again != "never")
            return f"{'resume' if again != 'never' and run_folder.is_run(folder) else 'start'} {folder}"

        what, _, chosen = world.agree(choose).partition(" ")
        folder = Path(chosen)
        if what == "resume":
            return _resume(folder, config, events, world, fall_back=again == "auto")
        session = prepare(config, folder, events, world)
        with _held(folder, world):
            record = world.agree(lambda: _begin(session, command, force))
            return session.run(records.parse(record))


def folder_for(config: TrainConfig, out: str | Path | None, *, used: bool) -> Path:
    """The folder that `start` would choose. Errors: as there."""
    return run_folder.choose_folder(out, lookup(config.model).spec.name, config.data, used=used)


def resume(
    folder: str | Path, *, epochs: int | None = None, previous: bool = False, events: Events | None = None
) -> Run:
    """Continues a run exactly where its checkpoint stands; `epochs` makes it longer. `previous`: from the state
    before, where the newest is damaged.

    UsageError where the data are no longer those the run was started on, or nothing is left to do.
    """
    folder = Path(folder)
    if not run_folder.is_run(folder):
        raise UsageError(f"{folder} is not a run folder (it has no config.toml)", "give one that `neocog train` made")
    if (folder / records.NAME).is_file():
        records.read(folder)  # a newer neocog's configuration would look like one with errors
    config = load_config(folder / "config.toml", {"epochs": epochs})
    with joined(config.device) as world:
        return _resume(folder, config, events or Events(), world, fall_back=previous)


def _resume(folder: Path, config: TrainConfig, events: Events, world: World, *, fall_back: bool) -> Run:
    with _held(folder, world):
        checkpoints = Checkpoints(folder)
        world.alone(checkpoints.clean)
        known = checkpoints.exist()
        spent = checkpoints.load(fall_back=fall_back).facts["progress"]["spent"] if known else 0.0
        session = prepare(config, folder, events, world, spent=spent)
        compare_split(session, folder)
        record = records.read(folder)
        note = session.trainer.restore(fall_back=fall_back) if known else ""
        if session.trainer.finished() and (folder / "model" / "model.json").is_file():
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
    write_config(session)
    record = records.Record(command, session.config.seed, records.manifest_of(folder), records.versions())
    record.sit_down(session.machine, session.world, 0)
    record.write(folder)
    session.note("run", str(folder))
    return record.to_json()


def write_config(session: Session) -> None:
    comment = f"neocog {neocog.__version__}; replay with: neocog train --config {session.folder}/config.toml"
    write_atomic(session.folder / "config.toml", session.config.to_toml(comment))


def compare_split(session: Session, folder: Path) -> None:
    """UsageError that names what changed in the data since the run was started."""
    before = {row.file: row for row in read_split(folder / "split.csv")}
    now = {row.file: row for row in session.dataset.split_rows()}
    changed = [file for file in before.keys() & now.keys() if before[file].sha256 != now[file].sha256]
    moved = [file for file in before.keys() & now.keys() if before[file] != now[file] and file not in changed]
    differences = [
        f"{len(files)} {what} ({', '.join(sorted(files)[:3])})"
        for what, files in (
            ("files are gone", before.keys() - now.keys()),
            ("files are new", now.keys() - before.keys()),
            ("files have changed", changed),
            ("files have another class or set", moved),
        )
        if files
    ]
    if differences:
        raise UsageError(
            f"the data of {folder} are not those it was started on: {'; '.join(differences)}",
            "restore them, or train a new run",
        )
