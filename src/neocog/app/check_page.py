"""`check.html` and `scan.json`: the audit, with the pictures themselves."""

import io
import shlex
from datetime import UTC, datetime
from pathlib import Path

from neocog import report
from neocog.app import folder as run_folder
from neocog.app.checking import Audit, class_table, sizes
from neocog.core.cells import to_cell
from neocog.core.errors import DataError, UsageError
from neocog.core.files import write_atomic
from neocog.data.bad_picture import BadPicture
from neocog.data.colour import to_image
from neocog.data.decode import DecodeOptions, decode

THUMBNAIL = 112  # pixels
SHOWN = 24  # groups of a kind
ABREAST = 4  # pictures of a group

# kind: title, what it means, what to do about it
KINDS = {
    "conflict": (
        "One picture, several classes",
        "The same file lies in different classes, so whatever a network answers is called wrong.",
        "Decide on one class for each picture that lies in several ({n}), and remove the other copies.",
    ),
    "leak": (
        "Leaks between sets",
        "The same file lies in several sets. A run leaves the training copies out; another tool would be tested on "
        "pictures that it has learned.",
        "Keep each picture that lies in several sets ({n}) in one of them.",
    ),
    "near_conflict": (
        "Nearly one picture, different classes",
        "The same picture, re-encoded, resized, brightened or cropped, under two labels.",
        "Look at each pair of nearly equal pictures with different labels ({n}): one of the labels is wrong.",
    ),
    "near_leak": (
        "Near leaks between sets",
        "Nearly the same picture lies in two sets that the data itself defines, so the result flatters.",
        "Move or remove one picture of each pair that lies in different sets ({n}).",
    ),
    "doubt": (
        "Labels in doubt",
        "A network that had not learned from these pictures gives another class the confidence it usually has there. "
        "A weak network's doubts are mostly its own mistakes. The widest margin is first.",
        "Look at the labels in doubt ({n}), the first ones first.",
    ),
    "copy": ("Copies", "The same file, several times in one class. Copies stay in one set.", ""),
    "near_copy": (
        "Near duplicates",
        "Nearly the same picture, twice in one class. When sets are drawn, near duplicates stay in one.",
        "If several pictures show one thing, person or patient, keep them in one set: --group-by REGEX.",
    ),
    "one_colour": ("Of one colour", "Nothing can be seen in them.", "Remove what is of one colour ({n})."),
    "dark": ("Dark", "Far darker than the rest of the set.", ""),
    "light": ("Light", "Far lighter than the rest of the set.", ""),
    "blurred": ("Blurred", "With far less fine detail than the rest of the set.", ""),
    "odd_size": ("Of an odd size", "With far more or fewer pixels than the rest of the set.", ""),
    "odd_shape": ("Of an odd shape", "Far longer than the rest of the set.", ""),
    "tiny": ("Tiny", "Fewer than 8 pixels on the short side.", ""),
    "extreme_aspect": ("Very long", "More than four times as long as wide: a network sees the middle part.", ""),
    "multi_frame": ("Of several frames", "Animations and files of several pages: the first frame is used.", ""),
}
PROBLEMS = ("conflict", "leak", "near_conflict", "near_leak")


def choose_folder(out: Path | None, data: str) -> Path | None:
    """Where the page goes; None where no folder was asked for and none can be made here."""
    try:
        return run_folder.choose_folder(out, "check", data)
    except UsageError:
        if out is not None:
            raise
        return None


def write(audit: Audit, folder: Path) -> Path:
    """The path of the page. Beside it scan.json, and label_errors.csv where labels were looked at."""
    run_folder.create(folder)
    write_atomic(folder / "scan.json", audit.scan.to_json())
    if audit.doubts is not None:
        lines = ["file,class,likely,p_class,p_likely\n"]
        for doubt in audit.doubts.found:
            names = ",".join(to_cell(text) for text in (audit.scan.kept[doubt.row].file, doubt.label, doubt.likely))
            lines.append(f"{names},{doubt.label_probability:.4f},{doubt.likely_probability:.4f}\n")
        write_atomic(folder / "label_errors.csv", "".join(lines))
    write_atomic(folder / "check.html", report.render_audit(make_page(audit)))
    return folder / "check.html"


def make_page(audit: Audit) -> report.AuditPage:
    scan, table = audit.scan, class_table(audit)
    splits = tuple(name for name in next(iter(table.values()), {}) if name != "all")
    return report.AuditPage(
        data_name=audit.name,
        source=audit.config.data,
        pictures=len(scan.kept),
        problems=scan.problems,
        verdict=verdict(audit),
        created=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        error=str(audit.error) if audit.error else "",
        todo=tuple(todo(audit)),
        warnings=tuple(scan.warnings),
        findings=tuple(findings(audit)),
        splits=splits,
        classes=tuple(report.ClassCount(name, tuple(row.values())) for name, row in table.items()),
        how_split=audit.dataset.how_split if audit.dataset else "",
        excluded=tuple((one.file, one.label, one.reason, one.detail) for one in scan.excluded),
        modes=tuple(scan.modes.items()),
        notes=tuple(scan.notes.items()),
        ignored=tuple(scan.ignored.items()),
        sizes=sizes(scan.kept),
        command=f"neocog check {shlex.quote(audit.config.data)}",
    )


def verdict(audit: Audit) -> str:
    counts = {kind: len(groups) for kind, groups in audit.found().items()}
    conflicts = counts.get("conflict", 0) + counts.get("near_conflict", 0)
    leaks = counts.get("leak", 0) + counts.get("near_leak", 0)
    if audit.scan.near_pairs is None:
        return "Pictures that cannot be used stood in the way: near duplicates were not looked for."
    if conflicts or leaks:
        parts = [f"{n:,} {what}{'s' * (n != 1)}" for n, what in ((conflicts, "label conflict"), (leaks, "leak")) if n]
        return f"{' and '.join(parts)} would make a result wrong."
    return "No picture lies in several classes, and none on both sides of the data's own split."


def todo(audit: Audit) -> list[str]:
    scan, data = audit.scan, shlex.quote(audit.config.data)
    steps = [audit.error.hint] if audit.error else []
    counts = {kind: len(groups) for kind, groups in audit.found().items()}
    if audit.doubts is not None:
        counts["doubt"] = len(audit.doubts.found)
    steps += [KINDS[kind][2].format(n=f"{counts[kind]:,}") for kind in KINDS if counts.get(kind) and KINDS[kind][2]]
    if scan.excluded and not audit.error:
        steps.append(f"Repair or remove the files that are left out ({len(scan.excluded):,}).")
    if audit.error:
        return steps
    if audit.doubts is None:
        steps.append(f"After training, neocog check {data} --run RUN names labels that are probably wrong.")
    elif audit.doubts.covered < audit.doubts.total:
        few = f"{audit.doubts.covered:,} of {audit.doubts.total:,} pictures"
        steps.append(f"Labels were compared for {few}: a run with --folds 5 predicts its training pictures as well.")
    return steps


def findings(audit: Audit) -> list[report.AuditFinding]:
    found = audit.found()
    details = {(one.kind, one.row): one.detail for one in audit.scan.outliers}
    if audit.doubts is not None and audit.doubts.found:
        found["doubt"] = [[doubt.row] for doubt in audit.doubts.found]
        for doubt in audit.doubts.found:
            text = f"rather {doubt.likely} ({doubt.likely_probability:.0%} against {doubt.label_probability:.0%})"
            details["doubt", doubt.row] = text
    return [
        report.AuditFinding(
            kind, KINDS[kind][0], KINDS[kind][1], len(found[kind]),
            tuple(
                tuple(shown(audit, row, details.get((kind, row), "")) for row in group[:ABREAST])
                for group in found[kind][:SHOWN]
            ),
            kind in PROBLEMS,
        )
        for kind in KINDS
        if kind in found
    ]  # fmt: skip


def shown(audit: Audit, row: int, detail: str) -> report.AuditPicture:
    kept = audit.scan.kept[row]
    split = audit.splits[row] if audit.splits else kept.split or ""
    png = thumbnail(audit, row)
    return report.AuditPicture(kept.file, kept.label, split, report.Picture(png, kept.file) if png else None, detail)


def thumbnail(audit: Audit, row: int) -> bytes | None:
    """A PNG of the picture as every run decodes it; None where it has gone since, or was never a file."""
    path = audit.scan.kept[row].path
    try:
        if path is not None:
            options = DecodeOptions(audit.config.bands or 3, audit.config.background, audit.config.max_pixels)
            pixels = decode(path, options).pixels
        elif audit.dataset is not None:
            pixels = audit.dataset.store.picture(row).permute(1, 2, 0).numpy()
        else:
            return None
    except (BadPicture, DataError):
        return None
    picture = to_image(pixels)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    out = io.BytesIO()
    picture.save(out, "PNG", optimize=True)
    return out.getvalue()
