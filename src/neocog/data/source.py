"""What DATA means: a folder, a table or a name becomes a list of pictures with labels. Nothing is decoded here.

folder of class folders        cats/1.jpg  dogs/x/2.jpg      pictures in sub-folders count to the class
folder of split folders        train/cats/1.jpg  val/...  test/...       (val and test are optional)
table                          a CSV with the columns path,label and perhaps split
named set                      digits, mnist, cifar10, ... (named.py), found by name or by its original files
"""

import csv
import io
import os
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neocog.core.errors import DataError, did_you_mean

SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
SPLITS |= {"testing": "test"}
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".xz", ".bz2", ".7z", ".rar")
LAYOUT = "one folder per class with its pictures inside, as in DATA/cats/1.jpg and DATA/dogs/2.jpg"


@dataclass(frozen=True, slots=True)
class Item:
    """One picture. `file`: its name in tables and reports, relative to the data, with forward slashes."""

    file: str
    path: Path | None  # None: the pixels are in Source.arrays
    label: str
    split: str | None = None  # train, val, test where the data itself says so


@dataclass
class Source:
    """`arrays`: None, or {"pixels": uint8 (N, H, W, C)} in the order of `items`. `ignored`: what was passed over
    while looking for pictures, counted by kind (hidden, link, not_regular_file, in_root, "*.txt"...)."""

    name: str
    items: list[Item]
    arrays: dict[str, Any] | None = None
    warnings: list[str] = field(default_factory=list)
    ignored: dict[str, int] = field(default_factory=dict)

    @property
    def classes(self) -> list[str]:
        return sorted({item.label for item in self.items})


def open_source(
    data: str, *, follow_links: bool = False, allow_empty_classes: bool = False, unlabelled: bool = False
) -> Source:
    """DataError, with what to do, where `data` is nothing that can be learned from. `unlabelled`: one class is enough,
    and pictures need no class folder: those of a folder of pictures are of one class that is called as the folder."""
    from neocog.data import folders, named, originals  # each knows Source and Item

    path = Path(data).expanduser()
    try:
        is_folder, is_file, exists = path.is_dir(), path.is_file(), os.path.lexists(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{data!r} cannot be a path ({error})", "give a folder, a CSV or a named set") from None
    if is_folder:
        source = originals.find(path) or folders.read(path, follow_links, allow_empty_classes, unlabelled)
    elif is_file and path.suffix.lower() in (".csv", ".tsv"):
        source = read_table(path)
    elif is_file and path.suffix.lower() in ARCHIVES:
        raise DataError(f"{path} is an archive, not a folder", "unpack it and give the folder")
    elif is_file:
        raise DataError(f"{path} is a single file", f"give a folder: {LAYOUT}; or a CSV of path,label")
    elif data in named.NAMED:
        source = named.open_named(data)
    elif exists:
        raise DataError(f"{path} is neither a folder nor a file, or a broken link", f"give a folder: {LAYOUT}")
    else:
        near = did_you_mean(data, [*named.NAMED, *_neighbours(path)])
        hint = near or f"give a folder, a CSV, or one of {', '.join(named.NAMED)}"
        raise DataError(f"there is no folder, table or named set {data!r}", hint)
    check_classes(source, least=1 if unlabelled else 2)
    return source


def _neighbours(path: Path) -> list[str]:
    try:
        return [str(path.parent / entry.name) for entry in os.scandir(path.parent) if entry.is_dir()][:1000]
    except OSError:
        return []


def check_classes(source: Source, least: int = 2) -> None:
    """So many classes at least, and no two whose names a file system or a person would take for one."""
    check_names(source.classes)
    if not source.items:
        raise DataError(f"{source.name} holds no pictures", f"give {LAYOUT}")
    if len(source.classes) < least:
        raise DataError(f"{source.name} has only one class, {source.classes[0]!r}", "at least two classes are needed")


def check_names(names: Iterable[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if other != name:
            spelt = "" if name.casefold() != other.casefold() else " in upper and lower case"
            how = spelt or " in their Unicode form (NFC and NFD)"
            raise DataError(f"the classes {other!a} and {name!a} differ only{how}", "rename or merge one of them")


def read_table(path: Path) -> Source:
    """A CSV (or tab-separated) file with a header; paths are relative to the file's own folder."""
    try:
        text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})", "check its permissions") from None
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise DataError(f"{path} is not a valid CSV ({error})", "save it as comma-separated UTF-8") from None
    header = [name.strip().lower() for name in rows[0]] if rows else []
    if "path" not in header or "label" not in header:
        found = ", ".join(header[:8]) or "nothing"
        raise DataError(f"{path}: the first line must name the columns path,label[,split] (found: {found})", "add it")
    source = Source(path.name, [])
    extra = [name for name in header if name not in ("path", "label", "split")]
    if extra:
        source.warnings.append(f"{path.name}: the columns {', '.join(extra)} are not used")
    seen: dict[str, tuple[int, str]] = {}
    for number, row in enumerate(rows[1:], 2):
        if not any(row):
            continue
        item = _table_item(path, number, header, row)
        if item.file in seen:
            line, label = seen[item.file]
            if label != item.label:
                cause = f"{path}: {item.file} is {label!r} in row {line} and {item.label!r} in row {number}"
                raise DataError(cause, "one picture has one label; keep one of the rows")
            source.warnings.append(f"{path.name}: {item.file} is listed twice (rows {line} and {number})")
            continue
        seen[item.file] = number, item.label
        source.items.append(item)
    with_split = sum(item.split is not None for item in source.items)
    if 0 < with_split < len(source.items):
        missing = len(source.items) - with_split
        raise DataError(f"{path}: {missing} rows have an empty split", "fill the column for every row, or leave it out")
    if source.items and _decimal(source.classes):
        raise DataError(f"{path}: the labels are decimal numbers, not classes", "give class names in the label column")
    return source


def _table_item(table: Path, number: int, header: list[str], row: list[str]) -> Item:
    if len(row) != len(header):
        cause = f"{table}: row {number} has {len(row)} cells, the header {len(header)}"
        raise DataError(cause, "quote cells that contain the separator")
    cells = dict(zip(header, row, strict=True))
    if not cells["path"] or not cells["label"].strip():
        raise DataError(f"{table}: row {number} has an empty path or label", "fill it or remove the row")
    split = cells.get("split", "").strip().lower()
    if split and split not in SPLITS:
        raise DataError(f"{table}: row {number} has the split {split!r}", "use train, val or test")
    file = cells["path"]
    return Item(file, table.parent / file, cells["label"].strip(), SPLITS.get(split))


def _decimal(labels: list[str]) -> bool:
    try:
        return any(not float(label).is_integer() for label in labels)
    except (ValueError, OverflowError):
        return False
