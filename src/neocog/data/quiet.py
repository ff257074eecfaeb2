"""Pillow's warnings, silenced while pictures decode and only then.

`warnings.catch_warnings` swaps a global list and is not safe with threads. Here the first thread that enters
adds one filter for warnings raised inside PIL, and the last one that leaves takes it away again. What those
warnings say (large pictures, dropped transparency, odd metadata) is dealt with by decode.py and noted.
"""

import contextlib
import logging
import threading
import warnings
from collections.abc import Iterator

for library in ("PIL", "tifffile"):
    logging.getLogger(library).addHandler(logging.NullHandler())  # without one, its errors go to the terminal

_lock = threading.Lock()
_inside = 0
_filter: object = None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    global _inside, _filter
    with _lock:
        _inside += 1
        if _inside == 1:
            warnings.filterwarnings("ignore", module=r"PIL\.[A-Za-z]+$")
            _filter = warnings.filters[0]
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                # Someone else's catch_warnings may have put another list in place; then ours left with it.
                with contextlib.suppress(ValueError):
                    warnings.filters.remove(_filter)  # type: ignore[attr-defined]
