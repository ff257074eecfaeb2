"""Pictures of any number of bands, taken as they are stored: NumPy arrays, TIFFs, and the bands that Pillow keeps.

A band is a number per pixel: a colour, near infrared, depth, a stain. Nothing is converted but 16 bits to 8, and
transparency is a band like any other. Sizes are read from the header and judged before anything is unpacked.
"""

import io
import lzma
import math
import re
import struct
import zlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from neocog.core.errors import UsageError, remedy
from neocog.data.bad_picture import BadPicture

Bytes = NDArray[np.uint8]
Stored = NDArray[np.uint8] | NDArray[np.uint16]
COLOUR = (1, 3)  # channels of grey and of colour, into which each other's pictures are converted
BYTES_A_PIXEL = 8  # of 16-bit RGBA: with more bands, fewer pixels are taken
# What tifffile unpacks without a limit of its own; imagecodecs, which has one, unpacks the rest.
_UNPACKERS: dict[int, Callable[[], Any]] = {
    8: zlib.decompressobj, 32946: zlib.decompressobj, 34925: lzma.LZMADecompressor,
}  # fmt: skip


def judge(height: int, width: int, bands: int, kind: str, *, channels: int, max_pixels: int) -> None:
    """BadPicture where this size, so many bands or this `kind` of number (uint8, float32...) are not taken."""
    if kind.startswith("float"):
        raise BadPicture("ambiguous_range", f"{kind} has no agreed white; scale it to 0..255 and save it as uint8")
    if kind not in ("uint8", "uint16"):
        raise BadPicture("unsupported_format", f"numbers of the kind {kind}; save it as uint8 or uint16")
    if min(height, width, bands) < 1:
        raise BadPicture("empty", f"{width} x {height} pixels of {bands} bands")
    check_channels(bands, channels)
    if height * width * max(1, bands * np.dtype(kind).itemsize / BYTES_A_PIXEL) > max_pixels:
        text = f"{width} x {height} of {bands} bands, the limit is {max_pixels:,} pixels (max_pixels)"
        raise BadPicture("too_many_pixels", text)


def check_channels(bands: int, channels: int) -> None:
    """BadPicture where the network's `channels` cannot be made of these bands: only grey and colour are converted."""
    if bands == channels or (bands in COLOUR and channels in COLOUR):
        return
    number = "1 band" if bands == 1 else f"{bands} bands"
    raise BadPicture(
        "channels", f"{number}: give --channels {bands}" if channels in COLOUR else f"{number}, not {channels}"
    )


def eight_bits(stored: Stored) -> tuple[Bytes, list[str]]:
    """uint8 or uint16 -> uint8, writable, rounded to nearest, and the notes of what was done."""
    if stored.dtype == np.uint8:
        return np.array(stored, np.uint8, order="C"), []
    return ((stored.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8, order="C"), ["sixteen_bit"]


def of_image(image: Image.Image, data: bytes, channels: int) -> Bytes:
    """A loaded image of several bands -> (H, W, channels) as it is stored."""
    if image.format == "PNG" and image.mode == "RGBA" and data[25] == 4:
        image = image.convert("LA")  # which is what Pillow widens where it has 16 bits
    check_channels(len(image.getbands()), channels)
    return np.array(image)


def read_npy(data: bytes, channels: int, max_pixels: int) -> Stored:
    """(H, W, C) of an array file (H, W, C) or (H, W). The header is searched, never evaluated, and nothing pickled is
    read. ValueError where the pixels are fewer or more than the header says. Source of the format: numpy.lib.format."""
    wide = data[6:7] != b"\1"
    start = 12 if wide else 10
    (length,) = struct.unpack_from("<I" if wide else "<H", data, 8)
    header, body = data[start : start + length], data[start + length :]
    if len(header) < length:
        raise BadPicture("truncated", f"NPY of {len(data):,} bytes ends in its header")
    kind = re.search(rb"'descr': *'([<>=|]?[a-zA-Z][0-9]*)'", header)
    order = re.search(rb"'fortran_order': *(True|False)", header)
    axes = re.search(rb"'shape': *\(([0-9, ]*)\)", header)
    if not (kind and order and axes):
        raise BadPicture("unsupported_format", "NPY without plain numbers; save it as uint8 or uint16")
    dtype = np.dtype(kind[1].decode("ascii"))
    shape = tuple(int(number) for number in axes[1].split(b",") if number.strip())
    if len(shape) not in (2, 3):
        raise BadPicture("unsupported_format", f"an array of {len(shape)} axes; (height, width, bands) are read")
    height, width, bands = (*shape, 1)[:3]
    judge(height, width, bands, dtype.name, channels=channels, max_pixels=max_pixels)
    pixels: Stored = np.frombuffer(body, dtype).reshape(shape, order="F" if order[1] == b"True" else "C")
    return pixels.reshape(height, width, bands)


def samples(data: bytes) -> int:
    """Numbers per pixel that a TIFF's first page claims."""
    tags = ImageFileDirectory_v2(data[:16] if data[2:4] in (b"+\0", b"\0+") else data[:8])
    file = io.BytesIO(data)
    file.seek(tags.next)
    tags.load(file)
    found = tags.get(277, 1)
    return found if isinstance(found, int) else 1


def read_tiff(data: bytes, channels: int, max_pixels: int) -> tuple[Stored, int, bool]:
    """The first page: (H, W, C), its orientation 1..8, and whether there are other pages. UsageError without
    tifffile."""
    tifffile = _load()
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages[0]
            separate, depth, height, width, together = page.shaped
            whole = page.dtype is not None and page.dtype.itemsize * 8 == page.bitspersample
            kind = page.dtype.name if whole else f"{page.bitspersample} bits"
            judge(height, width, separate * together, kind, channels=channels, max_pixels=max_pixels)
            if depth != 1:
                raise BadPicture("unsupported_format", f"TIFF of {depth} layers")
            _check_parts(page, data)
            pixels = page.asarray(squeeze=False, maxworkers=1)[:, 0].transpose(1, 2, 0, 3)
            turn = page.tags.valueof(274, default=1)
            return pixels.reshape(height, width, -1), turn if turn in range(1, 9) else 1, len(file.pages) > 1
    except BadPicture:
        raise
    except Exception as error:  # whatever tifffile and its codecs come upon
        codec = "imagecodecs" in str(error)
        raise BadPicture("unsupported_format" if codec else "truncated", f"TIFF: {error}") from None


def _check_parts(page: Any, data: bytes) -> None:
    """Every strip or tile is there, and none unpacks to more than it may: tifffile leaves holes as they are."""
    parts = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    if not page.is_contiguous and len(parts) != math.prod(page.chunked):
        raise BadPicture("truncated", f"TIFF with {len(parts)} of {math.prod(page.chunked)} parts")
    largest = math.prod(page.chunks) * page.dtype.itemsize
    for offset, count in parts:
        if offset < 8 or count < 1 or offset + count > len(data):
            raise BadPicture("truncated", f"TIFF of {len(data):,} bytes with a part at {offset:,}")
        unpacker = _UNPACKERS.get(page.compression)
        if unpacker and len(unpacker().decompress(data[offset : offset + count], largest + 1)) > largest:
            raise BadPicture("too_many_pixels", f"TIFF with a part of more than {largest:,} bytes")


def _load() -> ModuleType:
    try:
        import tifffile
    except ImportError:
        raise UsageError("TIFFs of several bands need tifffile", f"install it with `{remedy('bands')}`") from None
    return tifffile
