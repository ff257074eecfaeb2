"""A model in a folder: `model.safetensors` and `model.json`. Opening it runs no code.

`model.json` says everything that turns a picture into an answer: the network's name and options, the
classes in order, how pictures are decoded and preprocessed, where the weights came from, and the sha256
of the weights file, which is checked on opening.
"""

import json
import re
import stat
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, ValidationError
from safetensors.torch import save_file
from torch import Tensor

from neocog.core.errors import ModelFileError
from neocog.core.files import sha256_of, write_atomic
from neocog.core.head import HeadSpec
from neocog.core.problems import problems
from neocog.core.safetensors_header import Described, read_header
from neocog.core.spec import MAX_CHANNELS, Preprocessing

FORMAT = 1
WEIGHTS = "model.safetensors"
MAX_JSON_BYTES = 10_000_000  # enough for 100,000 classes
MAX_SIDE = 8192  # pixels
SHOWN = 3  # wrong fields that a message names

_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)
Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
PerChannel = Annotated[list[float], Field(min_length=1, max_length=MAX_CHANNELS)]


class _Preprocessing(BaseModel):
    """What `Preprocessing` may hold in a file."""

    model_config = _STRICT

    size: Side
    resize: Side
    mean: PerChannel
    std: PerChannel
    interpolation: Literal["bilinear", "bicubic"]


def _preprocessing(value: Any) -> Preprocessing:
    given = asdict(value) if isinstance(value, Preprocessing) else value
    if isinstance(given, dict):
        given = {key: list(item) if isinstance(item, tuple) else item for key, item in given.items()}
    try:
        read = _Preprocessing.model_validate(given)
    except ValidationError as error:
        raise ValueError(" | ".join(problems(error, _Preprocessing)[:SHOWN])) from None
    if read.resize < read.size:
        raise ValueError(f"a picture resized to {read.resize} holds no crop of {read.size}")
    if len(read.mean) != len(read.std) or min(read.std) <= 0:
        raise ValueError("mean and std must have one number per channel, and std numbers above 0")
    return Preprocessing(read.size, read.resize, tuple(read.mean), tuple(read.std), read.interpolation)


def _distinct(classes: list[str]) -> list[str]:
    if len(set(classes)) < len(classes):
        raise ValueError("a class is named twice")
    return classes


class ModelCard(BaseModel):
    """The contents of `model.json`."""

    model_config = _STRICT

    model: str
    task: Literal["classification", "reconstruction"] = "classification"
    knobs: dict[str, bool | int | float | str | list[int | float] | None]
    classes: Annotated[list[str], Field(min_length=1), AfterValidator(_distinct)]
    in_channels: int = Field(ge=1, le=MAX_CHANNELS)
    background: str = Field(pattern=r"^(white|black|grey|#[0-9a-fA-F]{6})$")  # behind transparent pixels
    preprocessing: Annotated[Preprocessing, PlainValidator(_preprocessing)]
    head: HeadSpec | None = None  # where it is not the network's own classifier
    provenance: dict[str, Any] = {}  # regime, starting weights, their licence, seed
    written_by: str = ""
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")  # of model.safetensors
    format: int = FORMAT


def write_bundle(folder: Path, state: Mapping[str, Tensor], card: ModelCard) -> None:
    """Writes both files, weights first: a folder without `model.json` is no bundle yet."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / WEIGHTS
    dense = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    write_atomic(weights, lambda temporary: save_file(dense, temporary))
    values = dict(card) | {"preprocessing": asdict(card.preprocessing), "sha256": sha256_of(weights)}
    values["head"] = card.head and card.head.model_dump()
    write_atomic(folder / "model.json", json.dumps(values, indent=2, ensure_ascii=True, allow_nan=False))


def inspect_bundle(folder: Path) -> tuple[ModelCard, dict[str, Described]]:
    """The card, and the tensors that the weights file holds, of which none has been read yet.

    ModelFileError for anything missing, altered, cut or from a newer neocog.
    """
    card, weights = read_card(folder), folder / WEIGHTS
    if not weights.is_file():
        raise ModelFileError(f"{weights} does not exist", "restore it, or train again")
    if sha256_of(weights) != card.sha256:
        raise ModelFileError(
            f"{weights} is not the file that model.json describes (its sha256 differs)",
            "it was changed or cut: restore it from a copy, or train again",
        )
    return card, read_header(weights)


def read_card(folder: Path) -> ModelCard:
    """`model.json`, every field of it checked."""
    path = folder / "model.json"
    try:
        values = _read_json(path)
    except FileNotFoundError:
        raise ModelFileError(f"{path} does not exist", "give a finished run, or `neocog resume` it first") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} cannot be read ({error})", "restore it from a copy") from None
    version = values.get("format") if isinstance(values, dict) else None
    if type(version) is not int or version < 1:
        raise ModelFileError(f"{path} is no description of a neocog model", "give the folder of a run")
    if version > FORMAT:
        writer = str(values.get("written_by"))
        needed = f"neocog >= {writer}" if re.fullmatch(r"[0-9][0-9a-z.+]{0,30}", writer) else "a newer neocog"
        raise ModelFileError(f"{path} needs {needed} (format {version}, this one reads {FORMAT})", "upgrade neocog")
    try:
        return ModelCard.model_validate(values)
    except ValidationError as error:
        found = problems(error, ModelCard)
        more = f" | and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        cause = f"{path} is damaged: {' | '.join(found[:SHOWN])}{more}"
        raise ModelFileError(cause, "restore it from a copy") from None


def _read_json(path: Path) -> Any:
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):  # reading a FIFO would wait for ever
        raise ValueError("it is no regular file")
    if facts.st_size > MAX_JSON_BYTES:
        raise ValueError(f"it has more than {MAX_JSON_BYTES:,} bytes, which no model.json has")
    return json.loads(path.read_bytes(), parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
