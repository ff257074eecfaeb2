"""Embeddings that are computed once: K augmented views of every picture, kept as float16 files.

A head that learns from a fresh view each epoch sees what a frozen network with augmentation on the fly would show it,
and the network is called K times instead of once an epoch. A folder belongs to one key: whatever the numbers depend
on. In it, `view-003-<sha256>.npy` is view 3 of all pictures, (N, D); `part-003-…` are portions of one that is still
being computed, so that an interrupted computation goes on and several processes can share one. A name says what the
file must hold: one that a disk has changed is removed and computed again.
"""

import errno
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neocog.core.errors import DivergedError, ResourceError
from neocog.core.files import sha256_of, write_atomic
from neocog.training.world import World

PORTION = 256  # pictures that are embedded between two files
DIGITS = 16  # of a sha256 in a name

Embeddings = NDArray[np.float16]


def folder_of(root: Path, key: Mapping[str, Any]) -> Path:
    """The folder for everything that `key` (what JSON can hold) describes."""
    return root / hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]


class Views:
    """`compute(view, first, last)` -> (last - first, D) float32: the embeddings of some of the n pictures."""

    def __init__(
        self, folder: Path, n: int, compute: Callable[[int, int, int], NDArray[np.float32]], world: World | None = None
    ) -> None:
        self.folder, self.n, self.compute, self.world = folder, n, compute, world or World()
        self.damaged: list[str] = []  # files that did not hold what their names say
        self.computed = 0  # pictures that were embedded here, not found
        self._open: dict[int, Embeddings] = {}

    def __getitem__(self, view: int) -> Embeddings:
        """(N, D), mapped from the file; computed by `fill`."""
        return self._open[view]

    def has(self, view: int) -> bool:
        """Whether a view lies in the folder, whole and as it was written. It is then open."""
        if view not in self._open:
            found = self._load(f"view-{view:03}", self.n)
            if found is not None:
                self._open[view] = found
        return view in self._open

    def fill(self, view: int, on_progress: Callable[[int], object] = lambda _: None) -> None:
        """Opens a view, computing what is missing: of several processes each takes its share of the portions.
        `on_progress` is told how many pictures of the view are done. ResourceError where they cannot be kept."""
        try:
            self._fill(view, on_progress)
        except OSError as error:
            cause = f"embeddings cannot be kept in {self.folder} ({error.strerror or error})"
            raise ResourceError(cause, "free some space there, or set XDG_CACHE_HOME to another folder") from None

    def _fill(self, view: int, on_progress: Callable[[int], object]) -> None:
        known = self.world.gather([float(self.has(view))])
        if all(one for (one,) in known):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        starts = range(0, self.n, PORTION)
        self._portions(view, starts[self.world.rank :: self.world.size], on_progress)
        self.world.meet()
        # Hosts that share no disk miss what the others computed.
        portions = self._portions(view, starts, lambda _: None)
        self.world.meet()
        if self.world.first:
            self._save(f"view-{view:03}", np.concatenate(portions))
        self.world.meet()
        if not self.has(view):  # on a host that shares no disk with the first
            self._save(f"view-{view:03}", np.concatenate(portions))
        self.world.meet()
        if not self.has(view):
            raise FileNotFoundError(errno.ENOENT, "what was just written is gone")
        for path in self.folder.glob(f"part-{view:03}-*"):
            path.unlink(missing_ok=True)

    def _portions(self, view: int, starts: range, on_progress: Callable[[int], object]) -> list[Embeddings]:
        found = []
        for place, first in enumerate(starts, 1):
            last = min(first + PORTION, self.n)
            name = f"part-{view:03}-{first // PORTION:06}"
            part = self._load(name, last - first)
            if part is None:
                part = halved(self.compute(view, first, last))
                self._save(name, part)
                self.computed += last - first
            found.append(part)
            on_progress(min(self.n, self.n * place // len(starts)))
        return found

    def _load(self, name: str, n: int) -> Embeddings | None:
        """The file of a name, if it holds what it says. Others of that name are removed."""
        for path in sorted(self.folder.glob(f"{name}-*.npy")):
            try:
                if path.stem.rpartition("-")[2] == sha256_of(path)[:DIGITS]:
                    found: Embeddings = np.load(path, mmap_mode="r", allow_pickle=False)
                    if found.dtype == np.float16 and found.ndim == 2 and len(found) == n:
                        return found
            except FileNotFoundError:
                continue  # another run has just removed what it no longer needs
            self.damaged.append(path.name)
            path.unlink(missing_ok=True)
        return None

    def _save(self, name: str, values: Embeddings) -> None:
        def save(temporary: Path) -> Path:
            with temporary.open("wb") as file:
                np.save(file, values, allow_pickle=False)
            return self.folder / f"{name}-{sha256_of(temporary)[:DIGITS]}.npy"

        write_atomic(self.folder / f"{name}.npy", save, needed=values.nbytes)


def halved(values: NDArray[np.float32]) -> Embeddings:
    """float32 -> float16. DivergedError where a value is not finite in it (its largest is 65,504)."""
    with np.errstate(over="ignore"):
        small = values.astype(np.float16)
    if not np.isfinite(small).all():
        most = float(np.abs(values).max())
        raise DivergedError(
            f"the embeddings are not finite as 16-bit numbers (the largest is {most:g})",
            "check the weights, or train with --regime probe, which keeps no embeddings",
        )
    return small
