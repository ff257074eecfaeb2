"""Networks by name, with or without published weights."""

import inspect
import os
import pickle
import struct
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

import neocog.models  # noqa: F401  (importing it registers the networks)
from neocog.core.contracts import Network
from neocog.core.errors import ModelFileError, UsageError, did_you_mean
from neocog.core.registry import Entry, lookup, names
from neocog.core.spec import Preprocessing, Weights
from neocog.data.fetch import fetch
from neocog.data.named import cache_folder
from neocog.models.weights import adapt, recognise

SMALL = 64  # pixels: networks for pictures like CIFAR's or MNIST's see the whole of them


@dataclass(frozen=True)
class Loaded:
    """A network and where its weights came from."""

    network: Network
    preprocessing: Preprocessing | None  # the weights' own; None for a network that starts from nothing
    provenance: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def list_models(pattern: str = "*", *, task: str | None = None, pretrained: bool | None = None) -> list[str]:
    """Names that match a shell pattern; `pretrained=True` keeps those with published weights."""
    found = names(pattern)
    if task is not None:
        found = [name for name in found if lookup(name).spec.task == task]
    if pretrained is not None:
        found = [name for name in found if bool(lookup(name).spec.weights) == pretrained]
    return found


def create_model(
    name: str, *, weights: str | None = None, num_classes: int | None = None, in_channels: int | None = None,
    **knobs: Any,
) -> Network:  # fmt: skip
    """A network of the zoo, in training mode, on the CPU.

    `weights`: None, "imagenet", a published tag, or the path of a .safetensors or .pth file. With another
    `num_classes` than the weights have, the classifier starts anew; with another `in_channels`, the first
    convolution's filters are summed or repeated. UsageError for unknown names and knobs, ModelFileError for
    a file that does not fit.
    """
    return load_model(name, weights=weights, num_classes=num_classes, in_channels=in_channels, knobs=knobs).network


def load_model(
    name: str, *, weights: str | None = None, num_classes: int | None = None, in_channels: int | None = None,
    knobs: Mapping[str, Any] | None = None, on_progress: Callable[[int, int], None] | None = None,
) -> Loaded:  # fmt: skip
    """`create_model` with the story of its weights."""
    entry = lookup(name)
    knobs = dict(knobs or {})
    if weights is None:
        return Loaded(build(entry, num_classes, in_channels, knobs), None)
    published = find_published(entry, weights)
    path = Path(weights) if published is None else local_copy(published, on_progress)
    if published is not None:
        knobs = published.knobs | knobs
    network = build(entry, num_classes, in_channels, knobs)
    state = read_weights(path)
    try:
        layout = recognise(entry, state)
        state, notes = adapt(network, entry, state, layout)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error.cause}", error.hint) from None
    network.load_state_dict(state, strict=False)  # adapt has checked every key; only a new classifier is missing
    provenance = {"weights": str(path) if published is None else published.tag, "layout": layout}
    if published is not None:
        provenance |= {"url": published.url, "licence": published.licence, "categories": published.categories}
    return Loaded(network, preprocessing_of(entry, weights), provenance, notes)


def preprocessing_of(entry: Entry, weights: str) -> Preprocessing:
    """How pictures reach these weights. A file does not say: then ImageNet's way, at the network's own size;
    tiny pictures are not cropped."""
    published = find_published(entry, weights)
    if published is None:  # a published file keeps its name, which holds a hash, wherever it lies
        published = next((w for w in entry.spec.weights if w.url.endswith("/" + Path(weights).name)), None)
    if published is not None:
        return published.preprocessing
    size = entry.spec.input_shape[-1]
    return Preprocessing(size, size if size < SMALL else round(size * 256 / 224))


def build(entry: Entry, num_classes: int | None, in_channels: int | None, knobs: Mapping[str, Any]) -> Network:
    arguments = dict(knobs)
    if num_classes is not None:
        arguments["num_classes"] = num_classes
    if in_channels is not None:
        arguments["in_channels"] = in_channels
    check_options(entry, arguments)
    try:
        network = entry.build(**arguments)
    except ValueError as error:
        name, size = entry.spec.name, entry.spec.input_shape[-1]
        sized = "image_size" in str(error)
        hint = f"the paper's is --image-size {size}" if sized else f"`neocog models {name}` shows its options"
        raise UsageError(f"{name}: {error}", hint) from None
    assert isinstance(network, Network)
    return network


def check_options(entry: Entry, given: dict[str, Any]) -> None:
    """UsageError for an option that the builder does not have, or a value of another type than it says."""
    name, known = entry.spec.name, inspect.signature(entry.build).parameters
    for option, value in given.items():
        if option not in known:
            options = ", ".join(options_of(entry)) or "none"
            hint = did_you_mean(option, known) or f"`neocog models {name}` shows them"
            raise UsageError(f"{name} has no option {option!r} (it has {options})", hint)
        try:
            # Models in files have lists where Python has tuples.
            strict = tuple(value) if isinstance(value, list) else value
            TypeAdapter(known[option].annotation).validate_python(strict, strict=True)
        except ValidationError as error:
            reason = error.errors()[0]["msg"].lower()
            raise UsageError(f"{name}: {option} = {value!r}: {reason}", f"`neocog models {name}` shows it") from None
        if option in ("num_classes", "in_channels") and value < 1:
            raise UsageError(f"{name}: {option} = {value} must be at least 1", "give a positive number")


def find_published(entry: Entry, weights: str) -> Weights | None:
    """The published weights that a word names; None where it is the path of a file."""
    tags = {tag: w for w in entry.spec.weights for tag in (w.tag, *w.aliases)}
    for w in reversed(entry.spec.weights):  # the first is the best
        if w.categories.startswith("imagenet"):
            tags["imagenet"] = w
    if weights in tags:
        return tags[weights]
    if Path(weights).is_file():
        return None
    if Path(weights).suffix in (".safetensors", ".pth", ".pt", ".th") or os.sep in weights:
        raise ModelFileError(
            f"the weights file {weights} does not exist", "give the path of a .safetensors or .pth file"
        )
    have = f"it has {', '.join(tags)}" if tags else "none are published for it"
    hint = (did_you_mean(weights, tags) if tags else "") or "give the path of a weights file"
    raise UsageError(f"{entry.spec.name} has no weights called {weights!r} ({have})", hint)


def weights_folder() -> Path:
    """$NEOCOG_WEIGHTS, or the user's cache."""
    return Path(os.environ.get("NEOCOG_WEIGHTS") or cache_folder() / "weights")


def local_copy(published: Weights, on_progress: Callable[[int, int], None] | None = None) -> Path:
    """The file in the weights folder, downloaded and checked the first time."""
    path = weights_folder() / published.url.rpartition("/")[2]
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        fetch(published.url, path, published.sha256, on_progress=on_progress)
    return path


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by key from a .safetensors or a torch file; no code in it is run."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings(action="ignore"):  # about old pickle protocols, which are read all the same
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error):  # torch names the first class or function that it will not load
            cause, hint = "holds Python objects, not only tensors", "save the network's state_dict() and give that file"
        else:
            cause, hint = "is not a readable weights file", "download it again"
        raise ModelFileError(f"{path} {cause}", hint) from None
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read ({error.strerror or error})", "check the path") from None
    # What torch's restricted unpickler raises on bytes that are no pickle is whatever it stumbles over.
    except (
        SafetensorError, struct.error, RuntimeError, EOFError, ValueError, LookupError,
        AttributeError, TypeError,
    ) as error:  # fmt: skip
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise ModelFileError(f"{path} is not a readable weights file ({reason})", "download it again") from None
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not (isinstance(state, dict) and state and all(isinstance(v, Tensor) for v in state.values())):
        raise ModelFileError(f"{path} holds no table of weights", "give a file that holds a state dict")
    for key, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise ModelFileError(f"{path} holds numbers that are not finite ({key})", "give an undamaged file")
    return dict(state)


def describe_models(pattern: str = "*") -> list[dict[str, Any]]:
    """The facts of the networks whose names match, one dict each, for the table and for JSON."""
    rows = []
    for name in names(pattern):
        entry = lookup(name)
        spec = entry.spec
        weights = [describe_weights(published) for published in spec.weights]
        best = weights[0] if weights else {"top1": None, "top5": None}
        where = "at hand" if any(w["at_hand"] for w in weights) else "published" if weights else "none"
        rows.append({
            "name": name, "aliases": list(spec.aliases), "year": spec.year, "params": spec.params, "macs": spec.macs,
            "input": " x ".join(str(n) for n in spec.input_shape), "classes": spec.num_classes, "task": spec.task,
            "top1": best["top1"], "top5": best["top5"], "weights": where, "published": weights,
            "options": options_of(entry), "file": f"models/{entry.build.__module__.rpartition('.')[2]}.py",
            "idea": spec.idea, "paper": spec.title, "link": spec.link, "table": spec.table,
        })  # fmt: skip
    return rows


def describe_weights(published: Weights) -> dict[str, Any]:
    """A published file's facts, and whether it lies in the weights folder."""
    at_hand = (weights_folder() / published.url.rpartition("/")[2]).is_file()
    return asdict(published) | {"at_hand": at_hand}


def options_of(entry: Entry) -> dict[str, Any]:
    """The builder's own options with their defaults: what --knob takes."""
    common = ("num_classes", "in_channels")
    parameters = inspect.signature(entry.build).parameters
    return {name: parameter.default for name, parameter in parameters.items() if name not in common}
