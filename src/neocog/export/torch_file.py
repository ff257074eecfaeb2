"""Weights in torch's own format, looked at before they are opened.

`torch.load(weights_only=True)` runs no code of the file's, but by itself it would unpack a compressed archive
to any size, allocate what a pickle of a hundred bytes asks for, and build sparse, quantised or endlessly
repeated tensors. So the pickle is first read as a list of instructions, without carrying out any: it may name
nothing but plain storages and the functions that make dense tensors of them. What comes out must then fit
into the bytes of the file.
"""

import io
import itertools
import os
import pickletools
import stat
import warnings
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from neocog.core.errors import ModelFileError

# How a file of torch before 1.6 begins: a pickle of its magic number.
LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
LEGACY_PICKLES = 5  # magic number, version, facts of the machine, the object, the storages' names
ZIP = b"PK\x03\x04"

_STORAGES = ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
HARMLESS = {
    "collections OrderedDict",
    *(f"torch._utils {name}" for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter")),
    *(f"torch {name}Storage" for name in _STORAGES),
}
# Other ways of naming a function or a class, none of which torch.save uses.
NAMING = {"STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"}
MAX_PICKLE_BYTES = 16_000_000
MAX_STEPS = 500_000  # nasnet_large with the state of its optimizer has about 160,000


class NotWeights(ValueError):
    """Why a file is refused, in words for people."""


def load_torch_file(path: Path) -> dict[str, Tensor]:
    """Dense tensors on the CPU by key: the table that the file holds, or the one under "state_dict" in it.

    ModelFileError for anything else. Tensors never take more memory than the file has bytes.
    """
    try:
        _inspect(path)
        with warnings.catch_warnings(action="ignore"):  # about old pickle protocols, which are read all the same
            loaded = torch.load(path, map_location="cpu", weights_only=True)
        return _table(loaded, path.stat().st_size)
    except NotWeights as error:
        raise ModelFileError(f"{path} {error}", "save the network's state_dict() and give that file") from None
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read ({error.strerror or error})", "check the path") from None
    # What restricted unpicklers raise at bytes that are no pickle is whatever they stumble over.
    except Exception as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise ModelFileError(f"{path} is not a readable weights file ({reason})", "get it again") from None


def _inspect(path: Path) -> None:
    """NotWeights, before anything is opened, for a file that holds more than a table of dense tensors may."""
    if not stat.S_ISREG(path.stat().st_mode):  # opening a FIFO would wait for ever
        raise NotWeights("is no regular file")
    with path.open("rb") as file:
        start = file.read(len(LEGACY))
        file.seek(0)
        if start == LEGACY:
            for _ in range(LEGACY_PICKLES):
                _check_pickle(file)
        elif start.startswith(ZIP):
            _check_pickle(io.BytesIO(_zipped_pickle(file)))
        else:
            raise NotWeights("is not in torch's format")


def _zipped_pickle(file: BinaryIO) -> bytes:
    """The archive's data.pkl, where no entry is compressed and all of them fit into the file."""
    size = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise NotWeights("is compressed, which torch's files are not")
        if sum(entry.file_size for entry in entries) > size:
            raise NotWeights(f"has {size:,} bytes and claims to hold more")
        pickles = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise NotWeights("holds no table of weights")
        if pickles[0].file_size > MAX_PICKLE_BYTES:
            raise NotWeights("describes more tensors than a network has")
        return archive.read(pickles[0])


def _check_pickle(file: BinaryIO) -> None:
    """Reads one pickle to its end, without carrying it out."""
    steps = 0
    for code, argument, _ in itertools.islice(pickletools.genops(file), MAX_STEPS):
        steps += 1
        if code.name in NAMING or (code.name == "GLOBAL" and argument not in HARMLESS):
            name = argument.replace(" ", ".")[:80] if isinstance(argument, str) else code.name
            raise NotWeights(f"holds Python objects, not only tensors ({name})")
    if steps == MAX_STEPS:
        raise NotWeights("describes more tensors than a network has")


def _table(loaded: Any, size: int) -> dict[str, Tensor]:
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not (isinstance(loaded, dict) and loaded):
        raise NotWeights("holds no table of weights")
    storages = {}
    for key, tensor in loaded.items():
        if not (isinstance(key, str) and isinstance(tensor, Tensor)):
            raise NotWeights("holds no table of weights")
        storage = tensor.untyped_storage()
        if tensor.nbytes > storage.nbytes():  # one number, repeated by a stride of 0
            raise NotWeights(f"claims {tensor.nbytes:,} bytes for {key} and holds {storage.nbytes():,}")
        storages[storage.data_ptr()] = storage.nbytes()
    if sum(storages.values()) > size:
        raise NotWeights(f"has {size:,} bytes and claims tensors of {sum(storages.values()):,}")
    return {key: tensor.detach() for key, tensor in loaded.items()}
