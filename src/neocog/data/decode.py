"""One picture file in, one array of 8-bit pixels out: the only place where picture files are understood.

Scan, training, evaluation, prediction and serving all call `decode`, so they all see the same pixels. A
file either decodes completely or raises `BadPicture` with a reason; nothing is guessed, filled with grey or
clipped. What was done to a good picture (turned upright, laid on the background, scaled to 8 bits) is in its
`notes`. Pillow does the decoding, behind a list of formats and behind our own limit on pixels; bands.py reads what has
more bands than a screen shows.
"""

import errno
import io
import os
import stat
import struct
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from neocog.core.errors import DataError
from neocog.data import bands, colour
from neocog.data.bad_picture import BadPicture as BadPicture
from neocog.data.libtiff import complaints
from neocog.data.quiet import quiet

BACKGROUNDS = {"white": (255, 255, 255), "black": (0, 0, 0), "grey": (128, 128, 128)}
TINY = 8  # pixels on the short side below which a picture is called tiny
EXTREME_ASPECT = 4.0  # long side / short side above which only the middle part is used (see preprocess.py)

# Opened by these classes and no others: an EPS called .jpg would start Ghostscript. A JPEG with a second
# picture (MPO: depth maps and previews of telephones) is read as the plain JPEG that it begins with.
# None: an array file, which is none of Pillow's.
FORMATS: dict[str, tuple[type[ImageFile.ImageFile] | None, tuple[str, ...]]] = {
    "JPEG": (JpegImageFile, (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo")),
    "PNG": (PngImageFile, (".png", ".apng")),
    "WEBP": (WebPImageFile, (".webp",)),
    "GIF": (GifImageFile, (".gif",)),
    "BMP": (BmpImageFile, (".bmp",)),
    "TIFF": (TiffImageFile, (".tif", ".tiff")),
    "PPM": (PpmImageFile, (".ppm", ".pgm", ".pbm", ".pnm")),
    "NPY": (None, (".npy",)),
}
SUFFIXES = frozenset(suffix for _, suffixes in FORMATS.values() for suffix in suffixes)
# What Pillow's parsers raise at damaged files.
_BROKEN: tuple[type[Exception], ...] = (OSError, ValueError, SyntaxError, IndexError, TypeError, KeyError, EOFError)
_BROKEN += (AttributeError, struct.error, ArithmeticError, AssertionError, MemoryError, NotImplementedError)


@dataclass(frozen=True)
class DecodeOptions:
    """`channels` 3: RGB, 1: grey, else so many bands as they are stored. `background`: the colour behind transparent
    pixels. `frames`: of animations and of TIFFs with several pages, "first" uses the first and notes it, "error"
    refuses the file."""

    channels: int = 3
    background: str = "white"  # white, black, grey or #rrggbb
    max_pixels: int = 64_000_000
    frames: Literal["first", "error"] = "first"

    def rgb(self) -> tuple[int, int, int]:
        if self.background in BACKGROUNDS:
            return BACKGROUNDS[self.background]
        red, green, blue = bytes.fromhex(self.background.removeprefix("#"))
        return red, green, blue


@dataclass(frozen=True)
class Picture:
    """`pixels`: uint8 (H, W, channels), writable. `mode`: Pillow's name of the stored pixels (RGB, L, CMYK...),
    or "5 bands".
    `notes`: multi_frame, rotated, wrong_suffix, tiny, extreme_aspect, alpha, sixteen_bit, icc, icc_broken."""

    pixels: NDArray[np.uint8]
    mode: str
    format: str
    notes: tuple[str, ...] = ()


def read_bytes(path: Path, options: DecodeOptions, pause: float = 0.5) -> bytes:
    """The file's content. BadPicture where it is no readable regular file; DataError where a disk or a network
    share gives no answer three times in a row."""
    largest = 8 * options.max_pixels + 2**26  # uncompressed 16-bit RGBA, with room for metadata
    for attempt in range(3):
        try:
            facts = path.stat()  # before open: opening a FIFO would wait for ever
            if not stat.S_ISREG(facts.st_mode):
                raise BadPicture("not_regular_file", "a folder, pipe, socket or device, not a file")
            if facts.st_size > largest:
                raise BadPicture("too_many_pixels", f"{facts.st_size:,} bytes, more than {options.max_pixels:,} pixels")
            return path.read_bytes()
        except PermissionError:
            raise BadPicture("permission", "no permission to read it") from None
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENAMETOOLONG):
                raise BadPicture("missing", os.strerror(error.errno).lower()) from None
            if error.errno == errno.EISDIR:
                raise BadPicture("not_regular_file", "a folder, not a file") from None
            if attempt == 2:
                cause = f"{path} cannot be read ({error.strerror})"
                raise DataError(cause, "check the disk or network share") from None
            time.sleep(pause * 4**attempt)
    raise AssertionError("unreachable")


def decode(source: Path | bytes, options: DecodeOptions = DecodeOptions(), *, name: str = "") -> Picture:
    """Decodes the first frame completely. `name` (default: the path's) is compared with the content's format.

    Raises BadPicture; UsageError where bands of a TIFF are asked for without tifffile. Thread-safe; leaves no global
    setting changed; never uses JPEG's draft mode, so pixels do not depend on the size they are wanted in.
    """
    if isinstance(source, Path):
        name = name or source.name
        source = read_bytes(source, options)
    if not source:
        raise BadPicture("empty", "0 bytes")
    kind = sniff(source)
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise RuntimeError("ImageFile.LOAD_TRUNCATED_IMAGES is set: truncated pictures would come out as grey filler")
    with quiet():
        try:
            with complaints() as found:
                picture = _decode(source, kind, options, Path(name).suffix.lower())
            # A fax coding goes on behind a wrong code word, with other pixels.
            if any("Decode" in module for module in found):
                raise BadPicture("truncated", f"{kind} of {len(source):,} bytes: {', '.join(sorted(set(found)))}")
            return picture
        except BadPicture:
            raise
        except Image.DecompressionBombError as error:  # not an OSError; raised by frames and tiles
            raise BadPicture("too_many_pixels", str(error)) from None
        except _BROKEN as error:
            raise _diagnose(error, source, kind) from None


def sniff(data: bytes) -> str:
    """The format by its first bytes: a key of FORMATS, or BadPicture."""
    for kind, start in _MAGIC:
        if data.startswith(start):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[:1] == b"P" and data[1:2] in (b"1", b"2", b"3", b"4", b"5", b"6") and data[2:3].isspace():
        return "PPM"
    if data[4:8] == b"ftyp" or data[:4] in (b"8BPS", b"\0\0\1\0") or data[4:8] == b"jP  " or data[:2] == b"\xff\x0a":
        raise BadPicture("unsupported_format", "HEIC, AVIF, PSD, ICO, JPEG 2000 and JPEG XL are not read: save as PNG")
    if any(b"\xff\xd8\xff"[:n] == data for n in (1, 2)) or any(start.startswith(data) for _, start in _MAGIC):
        raise BadPicture("truncated", f"{len(data)} bytes")
    raise BadPicture("not_an_image", "its content is no " + ", ".join(FORMATS))


_MAGIC = [
    ("JPEG", b"\xff\xd8\xff"),
    ("PNG", b"\x89PNG\r\n\x1a\n"),
    ("GIF", b"GIF87a"),
    ("GIF", b"GIF89a"),
    ("BMP", b"BM"),
    ("NPY", b"\x93NUMPY"),
    *(("TIFF", start) for start in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
]


def _decode(data: bytes, kind: str, options: DecodeOptions, suffix: str) -> Picture:
    opener, suffixes = FORMATS[kind]
    notes = [] if not suffix or suffix in suffixes else ["wrong_suffix"]
    if opener is None:
        return _as_stored(bands.read_npy(data, options.channels, options.max_pixels), kind, options, notes)
    in_colour = options.channels in bands.COLOUR
    if kind == "TIFF":
        if not in_colour:
            stored, turn, several = bands.read_tiff(data, options.channels, options.max_pixels)
            return _as_stored(stored, kind, options, notes, turn=turn, several=several)
        if bands.samples(data) > 4:  # of which Pillow would leave some out
            bands.check_channels(bands.samples(data), options.channels)
    try:
        image = opener(io.BytesIO(data))
    except SyntaxError:
        if kind == "TIFF":
            bands.check_channels(bands.samples(data), options.channels)
        raise
    width, height = image.size
    if width * height > options.max_pixels:
        raise BadPicture("too_many_pixels", f"{width} x {height}, the limit is {options.max_pixels:,} (max_pixels)")
    mode, was = image.mode, orientation(image)
    image.load()
    bits = colour.depth(image, data)
    if in_colour:
        pixels, more = colour.to_array(image, options.channels, options.rgb(), bits)
        notes += more
    else:
        pixels = bands.of_image(image, data, options.channels)
        notes += ["sixteen_bit"] if bits == 16 else []
    turn = orientation(image)  # Pillow has turned TIFF already, and a PNG's EXIF may stand behind its pixels
    return _finished(
        Picture(pixels, mode, kind, tuple(notes)), options, turn, rotated=(was, turn) != (1, 1),
        several=kind in ("GIF", "PNG", "WEBP", "TIFF") and _animated(image),
    )  # fmt: skip


def _as_stored(
    stored: bands.Stored, kind: str, options: DecodeOptions, notes: list[str], *, turn: int = 1, several: bool = False
) -> Picture:
    """(H, W, C) uint8 or uint16 whose bands are those asked for, or grey where colour is, or the reverse."""
    pixels, more = bands.eight_bits(stored)
    count = pixels.shape[2]
    if count != options.channels:
        pixels, _ = colour.to_array(colour.to_image(pixels), options.channels, options.rgb(), bits=8)
    mode = {1: "L", 3: "RGB"}.get(count, f"{count} bands")
    return _finished(Picture(pixels, mode, kind, (*notes, *more)), options, turn, rotated=turn != 1, several=several)


def _finished(picture: Picture, options: DecodeOptions, turn: int, *, rotated: bool, several: bool) -> Picture:
    """The picture turned upright, with the notes on its frames and its shape."""
    pixels, notes = picture.pixels, list(picture.notes)
    if turn != 1:
        pixels = turn_upright(pixels, turn)
    if rotated:
        notes.append("rotated")
    if several:
        if options.frames == "error":
            raise BadPicture("multi_frame", "an animation or a file of several pages (frames error)")
        notes.append("multi_frame")
    short, long = sorted(pixels.shape[:2])
    if short < TINY:
        notes.append("tiny")
    if long > EXTREME_ASPECT * short:
        notes.append("extreme_aspect")
    return replace(picture, pixels=pixels, notes=tuple(notes))


def _animated(image: ImageFile.ImageFile) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except _BROKEN:
        return True  # there is a second frame, and it is broken; the first one was read


def orientation(image: ImageFile.ImageFile) -> int:
    """EXIF orientation 1..8; 1 where there is none, or none that means anything."""
    tags = getattr(image, "tag_v2", None)
    value = tags.get(0x0112, 1) if tags is not None else _exif_orientation(image.info.get("exif", b""))
    return value if value in range(1, 9) else 1


def _exif_orientation(exif: bytes) -> int:
    """Tag 0x0112 of the first directory. Read here because Pillow's reader follows every pointer of the block."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 10:
        return 1
    (start,) = struct.unpack_from(order + "I", exif, 4)
    if start + 2 > len(exif):
        return 1
    (count,) = struct.unpack_from(order + "H", exif, start)
    for entry in range(start + 2, min(start + 2 + 12 * count, len(exif) - 11), 12):
        tag, kind = struct.unpack_from(order + "HH", exif, entry)
        if tag == 0x0112 and kind in (3, 4):
            value: int = struct.unpack_from(order + ("H" if kind == 3 else "I"), exif, entry + 8)[0]
            return value
    return 1


def turn_upright(pixels: NDArray[np.uint8], value: int) -> NDArray[np.uint8]:
    """(H, W, C) as stored -> as meant to be seen. Values 5..8 swap height and width."""
    if value >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if value in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if value in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _diagnose(error: BaseException, data: bytes, kind: str) -> BadPicture:
    text = str(error) or type(error).__name__
    lower = text.lower()
    if "decompressed data too large" in lower or "text memory" in lower:
        return BadPicture("metadata_bomb", text)
    if isinstance(error, MemoryError):
        return BadPicture("too_many_pixels", "not enough memory to decode it")
    if isinstance(error, NotImplementedError) or "unsupported" in lower or "unknown" in lower:
        return BadPicture("unsupported_format", f"{kind}: {text}")
    if isinstance(error, OverflowError):
        return BadPicture("too_many_pixels", text)
    return BadPicture("truncated", f"{kind} of {len(data):,} bytes: {text}")
