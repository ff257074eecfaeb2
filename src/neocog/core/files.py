"""Files that are either whole or absent."""

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neocog.core.errors import ResourceError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# A disk, a quota or a process's limit that is exhausted.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_atomic(path: Path, write: Callable[[Path], object] | bytes | str, needed: int = 0) -> Path:
    """Writes a temporary file in the same folder, fsyncs it, renames it over `path`, fsyncs the folder.

    A reader, or a crash, sees the old file or the new one, never half of either. On failure the
    temporary file is removed and the old file is untouched. ResourceError, with the bytes needed
    (`needed`, where `write` is a function) and free, where there is no room. A function may return another
    path in the same folder, a name that depends on the content; the path that was written is what comes back.
    UsageError where the path is a folder, a device or the like, or in no folder; what a link points to is written.
    """
    path = path.resolve() if path.is_symlink() else path
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is no ordinary file", "give the name of a file that may be written")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent} is no folder", "make it first, or give another name")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    if isinstance(write, str):
        write = write.encode("utf-8", "surrogateescape")
    if isinstance(write, bytes):
        needed = len(write)
    try:
        if isinstance(write, bytes):
            temporary.write_bytes(write)
        else:
            named = write(temporary)
            path = named if isinstance(named, Path) else path
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, Exception) and is_full(error):
            free = shutil.disk_usage(path.parent).free
            raise ResourceError(
                f"{path} could not be written: {needed:,} bytes needed, {free:,} free ({error})",
                "make room and do it again; nothing that was there before is lost",
            ) from error
        raise
    return path


def write_json_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """A line of JSON for each. ValueError for a number that is not finite."""
    return write_atomic(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def write_array(path: Path, values: "NDArray[Any]") -> Path:
    """An array as a .npy file, whole or not at all, without pickle."""
    import numpy as np

    def save(temporary: Path) -> None:
        with temporary.open("wb") as file:  # a name would be given another ending
            np.save(file, values, allow_pickle=False)

    return write_atomic(path, save, needed=values.nbytes)


def is_full(error: Exception) -> bool:
    """Whether a write failed for lack of room. Libraries that are not Python say so in their message only."""
    if isinstance(error, OSError):
        return error.errno in FULL
    return any(f"os error {number})" in str(error) for number in FULL)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder survive a power cut."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_unfinished(folder: Path) -> None:
    """Removes what `write_atomic` of a killed process left in a folder that nobody else writes to."""
    for left in folder.glob(".*.tmp"):
        left.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """The hex digest of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
