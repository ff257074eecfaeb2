"""Folders of class folders, with or without train/val/test above them."""

import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from neocog.core.errors import DataError
from neocog.core.words import counted
from neocog.data.bad_picture import BadPicture
from neocog.data.decode import SUFFIXES, sniff
from neocog.data.source import ARCHIVES, LAYOUT, SPLITS, Item, Source, check_names

SYSTEM = {"thumbs.db", "desktop.ini", "__macosx", "icon\r", "ehthumbs.db"}
# Pictures of kinds that are not read: they are looked at, and excluded by name, instead of passed over.
OTHER_PICTURES = {".heic", ".heif", ".avif", ".jp2", ".jxl", ".psd", ".ico", ".tga", ".svg", ".dng", ".cr2", ".nef"}


def read(root: Path, follow_links: bool, allow_empty_classes: bool, unlabelled: bool = False) -> Source:
    """Every file below a class folder that is, or is called, a picture. DataError names what is wrong. `unlabelled`:
    where there are no class folders, pictures of one class that is called as the folder."""
    walk = Walk(root, follow_links)
    folders, files = walk.list(root)
    source = Source(root.resolve().name, [], ignored=walk.ignored)
    splits = split_folders(root, [folder.name for folder in folders])
    if splits:
        for folder in folders:
            if folder.name in splits:
                inner, loose = walk.list(folder)
                if unlabelled and not inner and any(map(is_picture, loose)):
                    _unlabelled(source, walk, loose, splits[folder.name])
                    continue
                _loose(source, folder, inner, loose)
                _classes(source, walk, inner, splits[folder.name], allow_empty_classes)
            else:
                source.warnings.append(f"the folder {folder.name!a} beside train/ is not used")
        _same_classes(source, root)
    elif unlabelled and not folders and any(map(is_picture, files)):
        _unlabelled(source, walk, files, None)
    else:
        _loose(source, root, folders, files)
        _classes(source, walk, folders, None, allow_empty_classes)
    return source


def split_folders(root: Path, names: list[str]) -> dict[str, str]:
    """{folder name: train, val or test}, empty where the folders are classes.

    `train` among other names is a split only if val or test stand beside it: there are pictures of trains.
    """
    found = {name: SPLITS[name.lower()] for name in names if name.lower() in SPLITS}
    kinds = sorted(found.values())
    if "train" not in kinds:
        if found and len(found) == len(names):
            raise DataError(f"{root} has {', '.join(sorted(found))} but no train folder", "add train/ with its classes")
        return {}
    if len(found) == 1 and len(names) > 1:
        return {}
    if len(set(kinds)) < len(kinds):
        raise DataError(f"{root}: {', '.join(sorted(found))} name one split twice", "keep train, val and test")
    return found


def _classes(source: Source, walk: "Walk", folders: list[Path], split: str | None, allow_empty: bool) -> None:
    check_names([folder.name for folder in folders])
    for folder in folders:
        before, nested = len(source.items), 0
        for path in walk.pictures(folder):
            nested += path.parent != folder
            source.items.append(Item(path.relative_to(walk.root).as_posix(), path, folder.name, split))
        where = folder.relative_to(walk.root).as_posix()
        if nested:
            text = f"in folders below {where!a} {'counts' if nested == 1 else 'count'} to the class {folder.name!a}"
            source.warnings.append(f"{counted(nested, 'picture')} {text}")
        if len(source.items) == before:
            if not allow_empty:
                hint = "add pictures, remove the folder, or give --allow-empty-classes"
                raise DataError(f"the class folder {where!a} holds no pictures", hint)
            source.warnings.append(f"the class folder {where!a} holds no pictures and is left out")


def _unlabelled(source: Source, walk: "Walk", files: list[Path], split: str | None) -> None:
    for path in walk.pictures_of(files):
        source.items.append(Item(path.relative_to(walk.root).as_posix(), path, source.name, split))


def _same_classes(source: Source, root: Path) -> None:
    by_split: dict[str, set[str]] = {}
    for item in source.items:
        by_split.setdefault(str(item.split), set()).add(item.label)
    train = by_split.get("train", set())
    for split, labels in by_split.items():
        check_names(sorted(train | labels))
        if new := sorted(labels - train):
            cause = f"{root}: {split} has classes that train has not: {', '.join(new[:5])}"
            raise DataError(cause, "add them to train")
        if missing := sorted(train - labels):
            source.warnings.append(f"{split} has no pictures of {', '.join(missing[:5])}")


def _loose(source: Source, folder: Path, inner: list[Path], loose: list[Path]) -> None:
    """Files that stand where class folders should: the reason to fail where nothing else is there, else a warning."""
    pictures = [path for path in loose if is_picture(path)]
    if inner:
        if pictures:
            source.ignored["in_root"] = source.ignored.get("in_root", 0) + len(pictures)
            text = f"{'is' if len(pictures) == 1 else 'are'} not used, such as {pictures[0].name!a}"
            text = f"{counted(len(pictures), 'picture')} outside the class folders {text}"
            source.warnings.append(text)
        return
    if pictures:
        cause = f"{folder} holds {counted(len(pictures), 'picture')} but no class folders"
        raise DataError(cause, f"make {LAYOUT}; or list them in a CSV of path,label")
    archives = [path.name for path in loose if path.suffix.lower() in ARCHIVES]
    if archives:
        raise DataError(f"{folder} holds an archive, {archives[0]}", "unpack it and give the folder")
    raise DataError(f"{folder} is empty" if not loose else f"{folder} holds no pictures", f"give {LAYOUT}")


def is_picture(path: Path) -> bool:
    """By suffix, or else by the first bytes; a file of unknown suffix that cannot be read is none."""
    suffix = path.suffix.lower()
    if suffix in SUFFIXES or suffix in OTHER_PICTURES:
        return True
    try:
        with path.open("rb") as file:
            sniff(file.read(16))
    except BadPicture as error:
        return error.reason == "unsupported_format"
    except OSError:
        return False
    return True


class Walk:
    """Sorted, depth-first, counting what it passes over.

    With links followed, each file and folder comes once: a link to something that is met anyway is passed over.
    """

    def __init__(self, root: Path, follow_links: bool = False) -> None:
        self.root = root
        self.follow_links = follow_links
        self._ignored: Counter[str] = Counter()
        facts = root.stat()
        self._seen = {(facts.st_dev, facts.st_ino)}  # a link back to the root is a loop

    @property
    def ignored(self) -> dict[str, int]:
        return self._ignored

    def list(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """(folders, regular files) of one folder, by name."""
        folders, files = [], []
        try:
            names = sorted(os.listdir(folder))
        except OSError as error:
            raise DataError(f"the folder {folder} cannot be read ({error.strerror})", "check its permissions") from None
        for name in names:
            path = folder / name
            if name.startswith(".") or name.lower() in SYSTEM:
                self._ignored["hidden"] += 1
                continue
            try:
                facts = path.lstat()
                if stat.S_ISLNK(facts.st_mode):
                    if not self.follow_links:
                        self._ignored["link"] += 1
                        continue
                    facts = path.stat()
                    if self._is_met_anyway(path):
                        self._ignored["same_file"] += 1
                        continue
            except OSError:  # a dangling link, a loop of links, or a file that vanished
                self._ignored["link"] += 1
                continue
            if self.follow_links:
                if (facts.st_dev, facts.st_ino) in self._seen:
                    self._ignored["same_file"] += 1
                    continue
                self._seen.add((facts.st_dev, facts.st_ino))
            if stat.S_ISDIR(facts.st_mode):
                folders.append(path)
            elif stat.S_ISREG(facts.st_mode):
                files.append(path)
            else:
                self._ignored["not_regular_file"] += 1
        return folders, files

    def _is_met_anyway(self, link: Path) -> bool:
        target, root = link.resolve(), self.root.resolve()
        return target == root or (
            target.is_relative_to(root) and not any(p.startswith(".") for p in target.relative_to(root).parts)
        )

    def pictures(self, folder: Path) -> Iterator[Path]:
        pending = [folder]
        while pending:
            folders, files = self.list(pending.pop())
            yield from self.pictures_of(files)
            pending += reversed(folders)

    def pictures_of(self, files: Iterable[Path]) -> Iterator[Path]:
        for path in files:
            if is_picture(path):
                yield path
            else:
                self._ignored[f"*{path.suffix.lower()}" if path.suffix else "no suffix"] += 1
