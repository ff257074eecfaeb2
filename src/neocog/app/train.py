"""From a folder of pictures to a finished run, and on from wherever it stopped."""

from pathlib import Path
from typing import Any

import neocog
from neocog.app import folder as run_folder
from neocog.app.run import Run
from neocog.app.session import Session, prepare
from neocog.core.config import TrainConfig, load_config
from neocog.core.errors import UsageError
from neocog.core.events import Events
from neocog.core.files import write_atomic
from neocog.core.registry import lookup
from neocog.data.split import read_split, write_split


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


def start(config: TrainConfig, out: str | Path | None, events: Events) -> Run:
    name = lookup(config.model).spec.name  # a misspelt name costs no scan
    folder = run_folder.choose_folder(out, name, config.data)
    session = prepare(config, folder, events)
    run_folder.create(folder)
    with run_folder.held(folder):
        run_folder.check_space(folder, session.loaded.network)
        write_records(session)
        return session.run()


def resume(folder: str | Path, *, epochs: int | None = None, events: Events | None = None) -> Run:
    """Continues a run exactly where its checkpoint stands; `epochs` makes it longer.

    UsageError where the data are no longer those the run was started on, or nothing is left to do.
    """
    folder = Path(folder)
    if not run_folder.is_run(folder):
        raise UsageError(f"{folder} is not a run folder (it has no config.toml)", "give one that `neocog train` made")
    config = load_config(folder / "config.toml", {"epochs": epochs})
    with run_folder.held(folder):
        session = prepare(config, folder, events or Events())
        compare_split(session, folder)
        if (folder / "checkpoint.pt").is_file():
            session.trainer.restore()
        if session.trainer.finished() and (folder / "model" / "model.json").is_file():
            raise UsageError(f"{folder} is finished", f"`neocog resume {folder} --epochs N` makes it longer")
        write_records(session)
        return session.run()


def write_records(session: Session) -> None:
    """What was found, how it was split and what was decided, before the first step."""
    data, folder = session.dataset, session.folder
    write_atomic(folder / "scan.json", data.scan.to_json())
    write_split(folder / "split.csv", data.split_rows())
    comment = f"neocog {neocog.__version__}; replay with: neocog train --config {folder}/config.toml"
    write_atomic(folder / "config.toml", session.config.to_toml(comment))
    session.events.emit("note", label="run", text=str(folder))


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
