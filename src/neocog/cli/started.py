"""When the command was given: a time budget counts from there."""

import os
import time

_started = time.monotonic()


def begin() -> None:
    """A command is given now; or earlier, where another process that shares the clock passes it on."""
    global _started
    _started = float(os.environ.pop("NEOCOG_STARTED", time.monotonic()))


def since_start() -> float:
    """Seconds."""
    return time.monotonic() - _started
