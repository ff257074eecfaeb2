"""A model in a folder: `model.safetensors` and `model.json`. Opening it runs no code.

`model.json` says everything that turns a picture into an answer: the network's name and options, the
classes in order, how pictures are decoded and preprocessed, where the weights came from, and the sha256
of the weights file, which is checked on opening.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from neocog.core.errors import ModelFileError
from neocog.core.files import sha256_of, write_atomic
from neocog.core.spec import Preprocessing

FORMAT = 1
MAX_JSON_BYTES = 50_000_000


@dataclass(frozen=True)
class ModelCard:
    """The contents of `model.json`."""

    model: str
    knobs: dict[str, Any]
    classes: list[str]
    in_channels: int
    background: str  # behind transparent pixels
    preprocessing: Preprocessing
    provenance: dict[str, Any] = field(default_factory=dict)  # regime, starting weights, their licence, seed
    written_by: str = ""
    sha256: str = ""  # of model.safetensors
    format: int = FORMAT


def write_bundle(folder: Path, state: Mapping[str, Tensor], card: ModelCard) -> None:
    """Writes both files, weights first: a folder without `model.json` is no bundle yet."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "model.safetensors"
    dense = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    write_atomic(weights, lambda temporary: save_file(dense, temporary))
    values = asdict(card) | {"sha256": sha256_of(weights)}
    write_atomic(folder / "model.json", json.dumps(values, indent=2, ensure_ascii=True, allow_nan=False))


def read_bundle(folder: Path) -> tuple[ModelCard, dict[str, Tensor]]:
    """ModelFileError for anything missing, altered, cut or from a newer neocog."""
    card = read_card(folder)
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise ModelFileError(f"{weights} does not exist", "restore it, or train again")
    if sha256_of(weights) != card.sha256:
        raise ModelFileError(
            f"{weights} is not the file that model.json describes (its sha256 differs)",
            "it was changed or cut: restore it from a copy, or train again",
        )
    try:
        return card, load_file(weights)
    except SafetensorError as error:
        raise ModelFileError(f"{weights} is not a safetensors file ({error})", "restore it from a copy") from None


def read_card(folder: Path) -> ModelCard:
    path = folder / "model.json"
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ModelFileError(f"{path} is larger than 50 MB, which no model.json is", "restore it from a copy")
        values = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ModelFileError(f"{path} does not exist", "give a finished run, or `neocog resume` it first") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} cannot be read ({error})", "restore it from a copy") from None
    version = values.get("format") if isinstance(values, dict) else None
    if not isinstance(version, int):
        raise ModelFileError(f"{path} is no description of a neocog model", "give the folder of a run")
    if version > FORMAT:
        raise ModelFileError(f"{path} was written by neocog {values.get('written_by')}", "upgrade neocog to open it")
    try:
        pre = values["preprocessing"]
        values["preprocessing"] = Preprocessing(**pre | {"mean": tuple(pre["mean"]), "std": tuple(pre["std"])})
        return ModelCard(**values)
    except (KeyError, TypeError) as error:
        raise ModelFileError(f"{path} lacks or repeats a field ({error})", "restore it from a copy") from None
