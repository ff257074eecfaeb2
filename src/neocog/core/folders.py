"""Where neocog keeps what it downloads."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """~/.cache/neocog, or inside $XDG_CACHE_HOME. Not created here."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "neocog"
