"""The rows of a watcher, in the run's folder as they come."""

from pathlib import Path

from neocog.core.files import write_json_lines
from neocog.training.contracts import Watcher
from neocog.training.progress import Progress

FILE = "watch.jsonl"
ROWS = 400  # of more, every second one of the older half goes


def add_row(watcher: Watcher, progress: Progress, batches: int, folder: Path) -> None:
    """One more of what it sees now. `batches` of an epoch."""
    rows = progress.watched
    if rows and rows[-1]["steps"] == progress.steps:
        return  # a time budget ended the epoch where a row was due
    rows.append({"epoch": progress.done / batches, "steps": progress.steps} | watcher.row())
    if len(rows) > ROWS:
        half = len(rows) // 2
        rows[:half] = rows[:half:2]
    write_json_lines(folder / FILE, rows)
