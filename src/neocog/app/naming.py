"""The named data sets, for people who want one."""

from pathlib import Path
from typing import Any

from neocog.core.events import Events
from neocog.data.named import NAMED, get, places


def describe_sets() -> list[dict[str, Any]]:
    """One dict per set: classes, pictures, megabytes to download, licence, and where it lies on this machine."""
    return [describe(name) for name in NAMED]


def describe(name: str) -> dict[str, Any]:
    known = NAMED[name]
    here = "built in" if not known.files else next((str(p) for p in places(name) if p.is_dir()), "no")
    return {
        "name": name, "what": known.what, "classes": known.classes, "pictures": sum(known.counts.values()),
        "shape": known.shape, "MB": known.megabytes, "licence": known.licence, "at hand": here,
    }  # fmt: skip


def get_set(name: str, folder: Path | None, events: Events) -> Path:
    """Downloads and checks a set. DataError for unknown names, wrong hashes and no network."""
    return get(
        name, folder or places(name)[-1],
        on_progress=lambda file, done, total: events.emit("progress", what=file, done=done, total=total),
    )  # fmt: skip
