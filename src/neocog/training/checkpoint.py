"""The states from which a run can go on: whole or absent, two at a time, and opening them runs no code.

    checkpoint.json                            names the newest state and the one before it
    checkpoints/state-000007-1f0c….safetensors  weights, optimizer, average; the rest as JSON in its header
    checkpoints/best-00012-9a3e….safetensors    the weights that did best on the validation pictures

Each file's name holds the beginning of its own sha256, so a file that was cut, flipped or emptied is recognised
whatever the pointer says. A new state is written and renamed first; only then does the pointer name it; only
then is the oldest one removed. So a crash at any moment leaves at least one whole state that is named.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from neocog.core.errors import ModelFileError, ResourceError
from neocog.core.files import sha256_of, write_atomic

POINTER = "checkpoint.json"
FOLDER = "checkpoints"
FORMAT = 1
KEEP = 2
DIGITS = 16  # of the hash, in the name


class State(NamedTuple):
    """`facts`: anything JSON can hold. `tensors`: by name. `note`: what a person should know about where it is from."""

    facts: dict[str, Any]
    tensors: dict[str, Tensor]
    note: str = ""


class Checkpoints:
    """All that lies below a run's folder under the names above."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / FOLDER
        self.pointer = folder / POINTER
        self._damaged: set[str] = set()

    def exist(self) -> bool:
        return self.pointer.exists() or any(self.folder.glob("state-*"))

    def save(self, facts: Mapping[str, Any], tensors: Mapping[str, Tensor], best: str | None) -> None:
        """Adds a state that goes with the file of best weights `best`. ResourceError, with everything that was there
        before untouched, where the disk is full."""
        number = max((_number(path.name) for path in self.folder.glob("state-*")), default=0) + 1
        header = {"format": str(FORMAT), "facts": json.dumps(_to_json(facts), allow_nan=False)}
        newest = {"file": self._write(f"state-{number:06d}", tensors, header), "best": best}
        entries = [newest, *(one for one in self._entries() if one["file"] not in self._damaged)][:KEEP]
        write_atomic(self.pointer, json.dumps({"format": FORMAT, "states": entries}, indent=1) + "\n")
        wanted = {name for entry in entries for name in (entry["file"], entry["best"])}
        for path in self.folder.iterdir():
            if path.name not in wanted:
                path.unlink()

    def save_best(self, epoch: int, weights: Mapping[str, Tensor]) -> str:
        """Writes weights and returns their file's name, which the next `save` must be given to keep them."""
        return self._write(f"best-{epoch:05d}", weights, {"format": str(FORMAT)})

    def load_best(self, name: str) -> dict[str, Tensor]:
        return self._read(self.folder / name)[1]

    def load(self, *, fall_back: bool = False) -> State:
        """The newest state. ModelFileError where it is damaged, unless `fall_back`: then the one before it. A newest
        file that is missing or empty, which is what a power cut leaves, is passed over without being asked."""
        entries = self._named(fall_back)
        problem: ModelFileError | None = None
        for entry in entries:
            path = self.folder / entry
            try:
                header, tensors = self._read(path)
            except ModelFileError as error:
                problem = problem or error
                empty = not path.is_file() or path.stat().st_size == 0
                if _is_newer(error) or not (fall_back or (empty and len(entries) > 1)):
                    raise self._with_way_out(error, entries, entry) from None
                self._damaged.add(entry)
                continue
            note = f"{problem.cause}; going on from the state before it" if problem else ""
            return State(_from_json(json.loads(header["facts"])), tensors, note)
        if problem is None:
            raise ModelFileError(f"{self.folder.parent} holds no checkpoint", "train again")
        raise ModelFileError(f"no checkpoint of {self.folder.parent} is whole: {problem.cause}", "train again")

    def _with_way_out(self, error: ModelFileError, entries: list[str], entry: str) -> ModelFileError:
        older = [name for name in entries[entries.index(entry) + 1 :] if (self.folder / name).is_file()]
        if _is_newer(error) or not older:
            return error
        hint = f"`neocog resume {self.folder.parent} --previous` goes on from the state before it"
        return ModelFileError(error.cause, hint)

    def _named(self, fall_back: bool) -> list[str]:
        try:
            return [entry["file"] for entry in self._entries(strict=True)]
        except ModelFileError as error:
            if _is_newer(error) or not fall_back:
                raise
            return [path.name for path in sorted(self.folder.glob("state-*"), reverse=True)]

    def _entries(self, strict: bool = False) -> list[dict[str, Any]]:
        """What the pointer names, the newest first; nothing where it cannot be read, unless `strict`."""
        try:
            pointer = json.loads(self.pointer.read_bytes())
            if pointer["format"] > FORMAT:
                raise _newer(self.pointer)
            states = [{"file": one["file"], "best": one["best"]} for one in pointer["states"]]
            if not all(_is_name(name) for one in states for name in (one["file"], one["best"] or one["file"])):
                raise ValueError("it names what is no checkpoint")
            return states
        except ModelFileError:
            raise
        except (OSError, ValueError, KeyError, TypeError) as error:
            if not strict:
                return []
            hint = f"`neocog resume {self.folder.parent} --previous` looks for the newest whole state"
            raise ModelFileError(f"{self.pointer} is damaged ({error or type(error).__name__})", hint) from None

    def _write(self, stem: str, tensors: Mapping[str, Tensor], header: dict[str, str]) -> str:
        self.folder.mkdir(exist_ok=True)
        dense = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}

        def write(temporary: Path) -> Path:
            save_file(dense, temporary, metadata=header)
            return self.folder / f"{stem}-{sha256_of(temporary)[:DIGITS]}.safetensors"

        try:
            return write_atomic(self.folder / stem, write, sum(value.nbytes for value in dense.values())).name
        except ResourceError as error:
            hint = f"make room, then `neocog resume {self.folder.parent}`; the previous checkpoint is intact"
            raise ResourceError(error.cause, hint) from error

    def check(self, name: str) -> None:
        """ModelFileError where the file is not exactly what was written under its name."""
        path = self.folder / name
        if not path.is_file():
            raise ModelFileError(f"{path} does not exist", "train again, or restore it from a copy")
        if sha256_of(path)[:DIGITS] != path.stem.rpartition("-")[2]:
            found = f"{path.stat().st_size:,} bytes"
            raise ModelFileError(f"{path} is damaged: {found} that are not those its name is the sha256 of",
                                 "train again, or restore it from a copy")  # fmt: skip

    def _read(self, path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
        self.check(path.name)
        try:
            with safe_open(path, "pt") as file:
                header = file.metadata() or {}
                if int(header.get("format", 0)) > FORMAT:
                    raise _newer(path)
                return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, ValueError) as error:
            raise ModelFileError(f"{path} is no checkpoint ({error})", "give the folder of a neocog run") from None


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and Path(value).name == value and value.startswith(("state-", "best-"))


def _newer(path: Path) -> ModelFileError:
    return ModelFileError(f"{path} needs a newer neocog: it has format {FORMAT + 1} or above", "upgrade neocog")


def _is_newer(error: ModelFileError) -> bool:
    return error.hint == "upgrade neocog"


def _number(name: str) -> int:
    number = name.split("-")[1]
    return int(number) if number.isdigit() else 0


def _to_json(value: Any) -> Any:
    """Infinities, which JSON has not, as {"float": "-inf"}."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if isinstance(value, Mapping):
        return {str(key): _to_json(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_json(one) for one in value]
    return value


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"float"}:
            return float(value["float"])
        return {key: _from_json(one) for key, one in value.items()}
    return [_from_json(one) for one in value] if isinstance(value, list) else value
