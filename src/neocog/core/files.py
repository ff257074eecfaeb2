"""Files that are either whole or absent."""

import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path


def write_atomic(path: Path, write: Callable[[Path], object] | bytes | str) -> None:
    """Writes a temporary file in the same folder, fsyncs it, renames it over `path`, fsyncs the folder.

    A reader, or a crash, sees the old file or the new one, never half of either. On failure the
    temporary file is removed and the old file is untouched.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        if callable(write):
            write(temporary)
        else:
            temporary.write_bytes(write.encode("utf-8", "surrogateescape") if isinstance(write, str) else write)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def sha256_of(path: Path) -> str:
    """The hex digest of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
