"""What libtiff, inside Pillow, says of a damaged file: heard instead of printed on the terminal.

Pillow passes over libtiff's errors where some pixels came out, and libtiff prints them. A fax coding with one
flipped bit decodes to other pixels and a complaint; here the complaint is kept, so that `decode` can refuse.
"""

import contextlib
import ctypes
import threading
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

Image.preinit()  # libtiff is part of Pillow's own library

_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)  # module, format, its arguments
_heard = threading.local()


def _hear(module: bytes | None, text: bytes | None, arguments: int | None) -> None:
    getattr(_heard, "modules", []).append((module or b"").decode("ascii", "replace"))


_handler = _HANDLER(_hear)  # kept: libtiff holds only its address


def _listen() -> None:
    """Takes the place of libtiff's own printing, in the very copy that Pillow has loaded. Linux."""
    with contextlib.suppress(OSError, AttributeError):
        lines = Path("/proc/self/maps").read_text().splitlines()
        for path in {line.split(maxsplit=5)[5] for line in lines if "/libtiff" in line}:
            ctypes.CDLL(path).TIFFSetErrorHandler(_handler)


_listen()


@contextlib.contextmanager
def complaints() -> Iterator[list[str]]:
    """The modules of libtiff that found an error in what this thread decodes meanwhile, as they come."""
    _heard.modules = []
    yield _heard.modules
