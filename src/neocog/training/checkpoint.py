"""The state of a run on disk: whole or absent, and opening it runs no code."""

import errno
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch

from neocog.core.errors import ModelFileError, ResourceError
from neocog.core.files import write_atomic

NAME = "checkpoint.pt"


def save(path: Path, state: dict[str, Any]) -> None:
    """Raises ResourceError, with the old file untouched, where the disk is full."""
    try:
        write_atomic(path, lambda temporary: torch.save(state, temporary))
    except (OSError, RuntimeError) as error:
        # torch reports a full disk as "unexpected pos" or "file write failed"; ask the disk itself.
        free = shutil.disk_usage(path.parent).free
        needed = sum(tensor_bytes(value) for value in state.values())
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if full or free < needed or "write" in str(error) or "unexpected pos" in str(error):
            raise ResourceError(
                f"{path} could not be written: {needed:,} bytes needed, {free:,} free ({error})",
                "make room, then `neocog resume`; the previous checkpoint is intact",
            ) from error
        raise


def load(path: Path) -> dict[str, Any]:
    """Tensors, numbers, strings and containers only: anything else is refused (`weights_only`)."""
    try:
        if not path.is_file():
            raise ModelFileError(f"{path} does not exist", "give the folder of a run that was started")
        if not zipfile.is_zipfile(path):  # what torch.save writes; a bare pickle is not even looked into
            raise ValueError("it is no zip archive")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError, OSError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise ModelFileError(
            f"{path} is not a readable checkpoint ({reason})", "train again, or restore the file from a copy"
        ) from None
    if not isinstance(state, dict):
        raise ModelFileError(f"{path} holds no checkpoint", "give the folder of a neocog run")
    return state


def tensor_bytes(value: Any) -> int:
    """The bytes of all tensors inside nested containers."""
    if isinstance(value, torch.Tensor):
        return value.nbytes
    if isinstance(value, dict):
        return sum(tensor_bytes(v) for v in value.values())
    if isinstance(value, (list, tuple)):
        return sum(tensor_bytes(v) for v in value)
    return 0
