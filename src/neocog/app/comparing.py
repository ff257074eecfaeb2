"""Whether the pictures are still those that a run was started on."""

from collections.abc import Iterable
from pathlib import Path

from neocog.core.errors import UsageError
from neocog.data.split import Row, read_split


def compare_split(rows: Iterable[Row], folder: Path, *, sets: bool = True) -> None:
    """UsageError that names in what `rows`, the pictures as they are now, differ from those the run in `folder` was
    started on. Without `sets` they may be in other sets."""
    before = {row.file: row for row in read_split(folder / "split.csv")}
    now = {row.file: row for row in rows}
    both = before.keys() & now.keys()
    changed = [file for file in both if before[file].sha256 != now[file].sha256]
    other = [file for file in both if before[file].label != now[file].label]
    moved = [file for file in both if sets and before[file].set != now[file].set]
    classes, known = ({row.label for row in rows.values()} for rows in (now, before))
    count = f"{len(classes)} classes, the run has {len(known)}"
    differences = [
        f"{count} ({what}: {', '.join(sorted(names)[:3])})"
        for what, names in (("new", classes - known), ("gone", known - classes))
        if names
    ] + [
        f"{len(files)} {what} ({', '.join(sorted(files)[:3])})"
        for what, files in (
            ("gone", before.keys() - now.keys()),
            ("new", now.keys() - before.keys()),
            ("changed_since_scan", changed),
            ("in another class", other),
            ("in another set", moved),
        )
        if files
    ]
    if differences:
        raise UsageError(
            f"the pictures of {folder} are not those it was started on: {'; '.join(differences)}",
            "restore them, or train a new run",
        )
