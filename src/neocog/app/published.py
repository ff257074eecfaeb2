"""Published weights: the words that name them, and where their files lie."""

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from neocog.core.errors import ModelFileError, UsageError, did_you_mean
from neocog.core.folders import cache_folder
from neocog.core.registry import Entry
from neocog.core.spec import Weights
from neocog.data.fetch import fetch, matches


def find_published(entry: Entry, weights: str) -> Weights | None:
    """The published weights that a word names; None where it is the path of a file or of a run's folder."""
    tags = {tag: w for w in entry.spec.weights for tag in (w.tag, *w.aliases)}
    for w in reversed(entry.spec.weights):  # the first is the best
        if w.categories.startswith("imagenet"):
            tags["imagenet"] = w
    if weights in tags:
        return tags[weights]
    if Path(weights).is_file() or bundle_in(weights) is not None:
        return None
    if Path(weights).is_dir():
        raise ModelFileError(f"the folder {weights} holds no finished run", "give a run's folder or a weights file")
    if Path(weights).suffix in (".safetensors", ".pth", ".pt", ".th") or os.sep in weights:
        raise ModelFileError(
            f"the weights file {weights} does not exist", "give the path of a .safetensors or .pth file"
        )
    have = f"it has {', '.join(tags)}" if tags else "none are published for it"
    hint = (did_you_mean(weights, tags) if tags else "") or "give the path of a weights file"
    raise UsageError(f"{entry.spec.name} has no weights called {weights!r} ({have})", hint)


def bundle_in(weights: str) -> Path | None:
    """The model's folder, where `weights` is the folder of a finished run or that folder itself."""
    folders = (Path(weights) / "model", Path(weights))
    return next((folder for folder in folders if (folder / "model.json").is_file()), None)


def file_in(folder: Path, entry: Entry) -> Path | None:
    """A network's weights in a folder with those of several: NAME.safetensors, NAME.pth, or a published file's name."""
    published = [one.url.rpartition("/")[2] for one in entry.spec.weights]
    names = (f"{entry.spec.name}.safetensors", f"{entry.spec.name}.pth", *published)
    return next((folder / name for name in names if (folder / name).is_file()), None)


def weights_folder() -> Path:
    """$NEOCOG_WEIGHTS, or the user's cache."""
    return Path(os.environ.get("NEOCOG_WEIGHTS") or cache_folder() / "weights")


def local_copy(published: Weights, on_progress: Callable[[int, int], None] | None = None) -> Path:
    """The file in the weights folder, downloaded the first time. ModelFileError where it has another hash."""
    path = weights_folder() / published.url.rpartition("/")[2]
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        fetch(published.url, path, published.sha256, on_progress=on_progress)
    elif not matches(path, published.sha256):
        raise ModelFileError(
            f"{path} is not the file that was published (its sha256 differs)", "remove it, and it is downloaded again"
        )
    return path


def describe_weights(published: Weights) -> dict[str, Any]:
    """A published file's facts, and whether it lies in the weights folder."""
    at_hand = (weights_folder() / published.url.rpartition("/")[2]).is_file()
    return asdict(published) | {"at_hand": at_hand}
