"""The audit of a data set alone: what is there, what would be left out, how it would be split, what looks wrong."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neocog.app.label_errors import Doubts, find_label_errors
from neocog.core.config import TrainConfig
from neocog.core.errors import DataError
from neocog.core.events import Events
from neocog.data.dataset import Dataset, open_dataset
from neocog.data.decode import DecodeOptions
from neocog.data.scan import Duplicates, Kept, Scan, ScanError

KEPT_SIZE = 256  # pixels on the short side of what is kept of a picture; a run may reuse it
DONE_BY = {"tiny", "extreme_aspect", "multi_frame"}  # notes that are worth a look at the pictures


@dataclass
class Audit:
    """`dataset` is None, and `error` says why, where `train` would refuse the data. `run`: whose predictions were
    compared with the labels in `doubts`."""

    config: TrainConfig
    scan: Scan
    dataset: Dataset | None
    error: DataError | None = None
    run: Path | None = None
    doubts: Doubts | None = None
    splits: list[str] = field(default_factory=list)  # of scan.kept; empty where no sets could be drawn

    @property
    def name(self) -> str:
        return self.dataset.name if self.dataset else Path(self.config.data).resolve().name

    def found(self) -> dict[str, list[list[int]]]:
        """Rows of scan.kept by kind of finding, the gravest first; kinds of which there is nothing are left out."""
        place = {kept.file: row for row, kept in enumerate(self.scan.kept)}
        result: dict[str, list[list[int]]] = {}
        for name, of in (("", self.scan.duplicates), ("near_", self.scan.near)):
            for where, kind in (("across_classes", "conflict"), ("across_splits", "leak"), ("within_class", "copy")):
                files: list[list[str]] = getattr(of, where)
                result[name + kind] = [[place[file] for file in group] for group in files]
        order = ["conflict", "leak", "near_conflict", "near_leak", "copy", "near_copy"]
        result = {kind: result[kind] for kind in order}
        for outlier in self.scan.outliers:
            result.setdefault(outlier.kind, []).append([outlier.row])
        for row, kept in enumerate(self.scan.kept):
            for note in DONE_BY.intersection(kept.notes):
                result.setdefault(note, []).append([row])
        return {kind: groups for kind, groups in result.items() if groups}


def check(config: TrainConfig, events: Events, run: Path | None = None) -> Audit:
    """Reads every picture once, and the predictions of `run` where it is given. DataError where there is nothing to
    look at; what `train` would refuse after looking is in the result's `error`."""
    try:
        dataset = open_dataset(
            config.data, DecodeOptions(config.bands or 3, config.background, config.max_pixels, config.frames),
            resize=KEPT_SIZE, resident=False,
            val_fraction=config.val_fraction, test_fraction=config.test_fraction, seed=config.seed,
            threads=config.threads, max_excluded=config.max_excluded, strict=config.strict,
            follow_links=config.follow_links, allow_empty_classes=config.allow_empty_classes,
            group_by=config.group_by,
            on_progress=lambda done, total: events.emit("progress", what="scanning", done=done, total=total),
        )  # fmt: skip
    except ScanError as error:
        return Audit(config, error.scan, None, error)
    audit = Audit(config, dataset.scan, dataset, run=run, splits=[str(name) for name in dataset.splits])
    if run is not None:
        audit.doubts = find_label_errors(run, dataset.files, [kept.label for kept in dataset.scan.kept])
    return audit


def facts(audit: Audit) -> dict[str, Any]:
    """What was found, for a table or for JSON: plain values, all counts, every name."""
    scan = audit.scan
    result: dict[str, Any] = {
        "data": audit.name,
        "pictures": len(scan.kept),
        "classes": class_table(audit),
        "error": str(audit.error) if audit.error else None,
        "problems": scan.problems,
        "excluded": [{"file": e.file, "reason": e.reason, "detail": e.detail} for e in scan.excluded],
        "ignored": scan.ignored,
        "modes": scan.modes,
        "notes": scan.notes,
        "sizes": sizes(scan.kept),
        "duplicates": named(scan.duplicates),
        "near_duplicates": None if scan.near_pairs is None else named(scan.near),
        "outliers": [{"file": scan.kept[o.row].file, "kind": o.kind, "detail": o.detail} for o in scan.outliers],
        "warnings": scan.warnings,
    }
    if audit.doubts is not None:
        result["label_errors"] = {
            "covered": audit.doubts.covered,
            "total": audit.doubts.total,
            "agreement": audit.doubts.agreement,
            "found": [{"file": scan.kept[doubt.row].file, **vars(doubt)} for doubt in audit.doubts.found],
        }
    return result


def class_table(audit: Audit) -> dict[str, dict[str, int]]:
    """Pictures per class and set; without sets, per class as "all"."""
    if not audit.splits:
        return {name: {"all": count} for name, count in audit.scan.counts.items()}
    table = {name: {"train": 0, "val": 0, "test": 0, "unused": 0} for name in audit.scan.classes}
    for kept, split in zip(audit.scan.kept, audit.splits, strict=True):
        table[kept.label][split] += 1
    if not any(row["unused"] for row in table.values()):
        for row in table.values():
            del row["unused"]
    return table


def named(found: Duplicates) -> dict[str, list[list[str]]]:
    return dict(vars(found))


def sizes(kept: list[Kept]) -> str:
    """Widths and heights in one line."""
    if not kept:
        return ""
    parts = []
    for name, values in (("width", [one.width for one in kept]), ("height", [one.height for one in kept])):
        values = sorted(values)
        least, median, most = values[0], values[len(values) // 2], values[-1]
        parts.append(f"{name} {least:,}" if least == most else f"{name} {least:,} to {most:,}, median {median:,}")
    return "; ".join(parts)
