"""What a .safetensors file says it holds, read and checked before anything is allocated for it.

    8 bytes: length of the header | header: JSON, {name: {dtype, shape, data_offsets}} | the tensors' bytes

The tensors must fill the rest of the file exactly, one behind the other: a shape that asks for more than is there,
and anything hidden behind the last tensor, makes the file a damaged one.
"""

import json
import math
import stat
from pathlib import Path
from typing import Any, NamedTuple

from neocog.core.errors import ModelFileError

# Bytes per number. Whatever else the format knows (8-bit floats, complex numbers) is no network's weights here.
DTYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
MAX_HEADER_BYTES = 2_000_000  # the longest of the zoo's, nasnet_large's 1,824 tensors, has 236,000
MAX_RANK = 8


class Described(NamedTuple):
    """One tensor as the header describes it."""

    dtype: str
    shape: tuple[int, ...]
    start: int  # byte, counted from the end of the header
    end: int


def read_header(path: Path) -> dict[str, Described]:
    """The tensors by name. ModelFileError where the file is anything but what its header says."""
    try:
        return _read(path)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read ({error.strerror or error})", "check the path") from None
    except (ValueError, RecursionError) as error:
        reason = str(error) or type(error).__name__
        raise ModelFileError(f"{path} is not a sound safetensors file ({reason})", "restore it from a copy") from None


def _read(path: Path) -> dict[str, Described]:
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):  # opening a FIFO would wait for ever
        raise ValueError("it is no regular file")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if facts.st_size < 8 or not 2 <= length <= facts.st_size - 8:
            raise ValueError(f"{facts.st_size:,} bytes, and the header alone claims {length:,}")
        if length > MAX_HEADER_BYTES:
            raise ValueError(f"a header of {length:,} bytes, more than {MAX_HEADER_BYTES:,}")
        text = file.read(length).decode()
    header = json.loads(text, object_pairs_hook=_without_repeats)
    if not isinstance(header, dict):
        raise ValueError("its header is no table")
    header.pop("__metadata__", None)
    described = {name: _described(name, entry) for name, entry in header.items()}
    _check_places(described, facts.st_size - 8 - length)
    return described


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("its header names something twice")
    return table


def _described(name: str, entry: Any) -> Described:
    """One entry of the header; ValueError where its types, its shape or its length are wrong."""
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [start, end], **more} if not more:
            pass
        case _:
            raise ValueError(f"{name} is not described by dtype, shape and data_offsets")
    if dtype not in DTYPES:
        raise ValueError(f"{name} is of type {dtype[:20]}, which is none of {', '.join(DTYPES)}")
    if len(shape) > MAX_RANK or not all(type(n) is int and n >= 0 for n in [*shape, start, end]):
        raise ValueError(f"{name} has a shape or a place that no tensor has")
    if math.prod(shape) * DTYPES[dtype] != end - start:
        raise ValueError(f"{name} has a shape that does not fit its bytes")
    return Described(dtype, tuple(shape), start, end)


def _check_places(described: dict[str, Described], size: int) -> None:
    """The tensors lie one behind the other, from the header's end to the file's."""
    position = 0
    for name, tensor in sorted(described.items(), key=lambda item: (item[1].start, item[1].end)):
        if tensor.start != position:
            raise ValueError(f"{name} does not begin where the tensor before it ends")
        position = tensor.end
    if position != size:
        raise ValueError(f"{size:,} bytes of tensors, and its header describes {position:,}")
