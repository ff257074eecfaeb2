"""Run folders: created once, never overwritten, held by one process at a time."""

import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from torch import nn

from neocog.core.errors import ResourceError, UsageError


def choose_folder(out: str | Path | None, name: str, data: str) -> Path:
    """`out`, or a new name under `runs/`. UsageError where it exists, is a file or lies inside the data."""
    stamp = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"  # UTC, and a random tail: clocks go backwards
    folder = Path(out) if out is not None else Path("runs") / f"{stamp}-{name}-{secrets.token_hex(2)}"
    if folder.is_file():
        raise UsageError(f"{folder} is a file", "give --out a folder that does not exist yet")
    if folder.exists() and any(folder.iterdir()):
        hint = (
            f"`neocog resume {folder}` continues it, or give another --out" if is_run(folder) else "give another --out"
        )
        raise UsageError(f"{folder} exists already, and a run is never overwritten", hint)
    inside = Path(data)
    if inside.is_dir() and inside.resolve() in [folder.resolve(), *folder.resolve().parents]:
        raise UsageError(f"{folder} lies inside the data folder {data}", "give an --out outside of it")
    parent = next(p for p in [folder, *folder.absolute().parents] if p.exists())
    if not os.access(parent, os.W_OK):
        raise UsageError(f"{parent} cannot be written to", "give --out a folder where you may write")
    return folder


def create(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be created ({error.strerror})", "give another --out") from None


def check_space(folder: Path, network: nn.Module) -> None:
    """A checkpoint holds the weights and two moments of the optimizer, perhaps an average; then there are the
    best weights, the bundle, and a second checkpoint while the first is being replaced."""
    weights = sum(value.nbytes for value in network.state_dict().values())
    needed, free = 10 * weights + 1_000_000, shutil.disk_usage(folder).free
    if free < needed:
        raise ResourceError(
            f"{folder} needs {needed:,} bytes for checkpoints, and {free:,} are free",
            "make room, or give --out on another disk",
        )


def is_run(folder: Path) -> bool:
    return (folder / "config.toml").is_file()


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """One process at a time. The lock dies with its process, so none is ever stale."""
    if sys.platform == "win32":
        yield
        return
    import fcntl  # not on Windows

    with (folder / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise ResourceError(f"{folder} is in use by process {owner}", "wait for it, or stop it first") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            (folder / "lock").unlink(missing_ok=True)
