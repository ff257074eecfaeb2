"""Run folders: created once, overwritten only when asked to, held by one process at a time."""

import json
import os
import platform
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from neocog.core.errors import ResourceError, UsageError

LOCK = "lock"
MARK = "config.toml"  # is written last: with it a folder holds a run that can be continued
CHOICES = "choices.json"  # what was measured to decide on open settings
BEGINNING = {LOCK, "scan.json", "split.csv", CHOICES, "run.json"}  # what is written before it
# All that a run, or several of them, write: nothing else is ever removed.
OWN = BEGINNING | {MARK, "metrics.jsonl", "diverged.json", "checkpoint.json", "checkpoints", "model", "predictions.csv",
                   "reconstructions.csv", "codes.npy", "watch.jsonl", "surface.json",
                   "report.html", "folds.json"}  # fmt: skip


def choose_folder(out: str | Path | None, name: str, data: str, *, used: bool = False, force: bool = False) -> Path:
    """`out`, or a new name under `runs/`. UsageError where it is a file, lies inside the data, or holds anything,
    unless it holds a run and `used` ones are welcome. With `force` it must hold nothing but a run's own files."""
    stamp = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"  # UTC, and a random tail: clocks go backwards
    folder = Path(out) if out is not None else Path("runs") / f"{stamp}-{name}-{secrets.token_hex(2)}"
    if folder.is_file():
        raise UsageError(f"{folder} is a file", "give --out a folder that does not exist yet")
    if folder.exists() and not is_free(folder) and not ((used or force) and is_run(folder)):
        hint = "give another --out"
        if is_run(folder) and not strangers(folder):
            hint = f"`neocog resume {folder}` continues it; --force starts anew in its place; or {hint}"
        raise UsageError(f"{folder} exists already, and is not overwritten unasked", hint)
    inside = Path(data)
    if force and folder.exists() and (others := strangers(folder)):
        cause = f"{folder} holds what no run wrote, such as {others[0]}: --force leaves it alone"
        raise UsageError(cause, "give another --out")
    if force and inside.exists() and folder.resolve() in inside.resolve().parents:
        raise UsageError(f"the data {data} lie inside {folder}, which --force would empty", "give another --out")
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


def empty(folder: Path) -> None:
    """Removes a run, but not its lock, which whoever calls this holds. What makes it a run goes last."""
    for path in folder.iterdir():
        if not is_own(path):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name not in (LOCK, MARK):
            path.unlink()
    (folder / MARK).unlink(missing_ok=True)


def strangers(folder: Path) -> list[str]:
    """The names in a folder that no run wrote."""
    return sorted(path.name for path in folder.iterdir() if not is_own(path))


def is_own(path: Path) -> bool:
    if path.name.startswith("fold-") and path.is_dir() and not path.is_symlink():
        return all(is_own(inner) for inner in path.iterdir())
    return path.name in OWN or path.name.endswith(".tmp")


def size(folder: Path) -> int:
    """Bytes of all files in it."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def check_space(folder: Path, needed: int) -> None:
    """ResourceError where `needed` bytes are not free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ResourceError(
            f"{folder} needs {needed:,} bytes for checkpoints, and {free:,} are free",
            "make room, or give --out on another disk",
        )


def is_run(folder: Path) -> bool:
    return (folder / MARK).is_file()


def check_run(folder: Path) -> None:
    if not is_run(folder):
        raise UsageError(f"{folder} is not a run folder (it has no {MARK})", "give one that `neocog train` made")


def is_free(folder: Path) -> bool:
    """Nothing is in it but what a start that was killed left."""
    return all(path.name in BEGINNING or path.name.endswith(".tmp") for path in folder.iterdir())


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """One process at a time: ResourceError, naming it, where another holds the folder.

    The kernel's lock ends with its process. Where there is none (Windows, some network shares) the file's own words
    count: a process of that number, started at that time, on this host, still runs; else the lock is stale.
    """
    path = folder / LOCK
    file = path.open("a+")
    try:
        while not _lock(file.fileno(), path):
            file.close()  # the file that was locked had just been removed by its owner
            file = path.open("a+")
    except BlockingIOError:
        file.close()
        raise _in_use(folder, path) from None
    except (ImportError, OSError):
        if _owner_runs(path):
            file.close()
            raise _in_use(folder, path) from None
    try:
        file.truncate(0)
        file.write(json.dumps(_self()))
        file.flush()
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()


def _lock(descriptor: int, path: Path) -> bool:
    """Whether the lock that was taken is that of the file which still has the name."""
    import fcntl  # not on Windows

    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return path.exists() and os.fstat(descriptor).st_ino == path.stat().st_ino


def _in_use(folder: Path, path: Path) -> ResourceError:
    owner = _read(path)
    who = f"process {owner['pid']} on {owner['host']}" if owner else "another process"
    return ResourceError(f"{folder} is in use by {who}", "wait for it, or stop it first")


def _self() -> dict[str, object]:
    return {"pid": os.getpid(), "started": started(os.getpid()), "host": platform.node()}


def _owner_runs(path: Path) -> bool:
    owner = _read(path)
    if not owner:
        return False
    if owner["host"] != platform.node():
        return True  # nobody here can tell
    return owner["started"] is not None and started(int(owner["pid"])) == owner["started"]


def _read(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text())
        return {name: found[name] for name in ("pid", "started", "host")}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def started(pid: int) -> str | None:
    """When a process began, in the kernel's clock ticks since boot; None where there is none, or no telling. A number
    may be given to a new process; the two together are given once."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None
