"""Networks by name, with or without published weights."""

import inspect
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

import neocog
import neocog.models  # importing it registers the networks
from neocog.app.nearest import owner_of
from neocog.app.published import bundle_in, describe_weights, find_published, local_copy
from neocog.core.contracts import Network
from neocog.core.errors import ModelFileError, UsageError, did_you_mean
from neocog.core.head import HeadSpec
from neocog.core.registry import Entry, lookup, names
from neocog.core.safetensors_header import Described
from neocog.core.shapes import shapes_only
from neocog.core.spec import Preprocessing
from neocog.export.bundle import WEIGHTS, ModelCard, inspect_bundle, read_card
from neocog.export.weights_file import load_safetensors, read_weights
from neocog.models.weights import adapt, recognise
from neocog.transfer.heads import attach

CUT = 10  # times the tensors of a network with its default options, as many as a cut one may have had
SMALL = 64  # pixels: networks for pictures like CIFAR's or MNIST's see the whole of them


@dataclass(frozen=True)
class Loaded:
    """A network and where its weights came from."""

    network: Network
    preprocessing: Preprocessing | None  # the weights' own; None for a network that starts from nothing
    provenance: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    knobs: dict[str, Any] = field(default_factory=dict)  # the network's own options: those given, those of the weights
    head: HeadSpec | None = None  # where it is not the network's own classifier


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

    `weights`: None, "imagenet", a published tag, the path of a .safetensors or .pth file, or the folder of a
    finished run. With another `num_classes` than the weights have, the classifier starts anew; with another
    `in_channels`, the first convolution's filters are summed or repeated. UsageError for unknown names and
    knobs, ModelFileError for a file that does not fit.
    """
    return load_model(name, weights=weights, num_classes=num_classes, in_channels=in_channels, knobs=knobs).network


def load_model(
    name: str, *, weights: str | None = None, num_classes: int | None = None, in_channels: int | None = None,
    knobs: Mapping[str, Any] | None = None, on_progress: Callable[[int, int], None] | None = None,
    whole: bool = False,
) -> Loaded:  # fmt: skip
    """`create_model` with the story of its weights. `whole`: with their classifier or not at all; ModelFileError where
    they have another number of classes."""
    entry = lookup(name)
    knobs = dict(knobs or {})
    if weights is None:
        return Loaded(build(entry, num_classes, in_channels, knobs), None, knobs=knobs)
    published = find_published(entry, weights)
    if published is None and (folder := bundle_in(weights)) is not None:
        return _load_run(entry, folder, num_classes, in_channels, knobs, whole)
    path = Path(weights) if published is None else local_copy(published, on_progress)
    if published is not None:
        knobs = published.knobs | knobs
    network = build(entry, num_classes, in_channels, knobs)
    state = read_weights(path)
    try:
        layout = recognise(entry, state)
        state, notes = adapt(network, entry, state, layout, whole=whole)
    except ModelFileError as error:
        owner = owner_of(state)
        raise ModelFileError(f"{path}: {error.cause}{owner and f'; {owner}'}", error.hint) from None
    network.load_state_dict(state, strict=False)  # adapt has checked every key; only a new classifier is missing
    provenance = {"weights": str(path) if published is None else published.tag, "layout": layout}
    if published is not None:
        provenance |= {"url": published.url, "licence": published.licence, "categories": published.categories}
    return Loaded(network, preprocessing_of(entry, weights), provenance, notes, knobs)


def _load_run(
    entry: Entry, folder: Path, num_classes: int | None, in_channels: int | None, knobs: dict[str, Any], whole: bool
) -> Loaded:
    """`load_model` from the network of a finished run; its options hold where no others are given."""
    card, trained = open_network(folder)
    if lookup(card.model) is not entry:
        raise UsageError(f"{folder} holds {card.model}, not {entry.spec.name}", f"use --model {card.model}")
    knobs = card.knobs | knobs
    classes = outputs_of(card) if num_classes is None else num_classes
    network = build(entry, classes, in_channels or card.in_channels, knobs)
    head, more = card.head, []
    if head is not None and head.kind in ("knn", "prototype"):
        more = [f"a new linear classifier in the place of the run's {head.kind}, which cannot learn on"]
        head = HeadSpec(stage=head.stage)
        attach(trained, HeadSpec())
    elif head is not None:
        more = [f"with the run's {head.kind} classifier{(head.stage and f' after {head.stage}') or ''}"]
    if head is not None:
        attach(network, head)
    state = trained.state_dict()
    if classes and card.task == "reconstruction":
        state = {key: value for key, value in state.items() if not key.startswith("head.decoder.")}
        state |= {key: value for key, value in network.state_dict().items() if key.startswith("head.fc.")}
        more.append("a classifier of the code in the place of the decoder")
    state, notes = adapt(network, entry, state, "neocog", whole=whole)
    network.load_state_dict(state)
    provenance = {"weights": str(folder), "layout": "neocog", "sha256": card.sha256}
    provenance |= {key: card.provenance[key] for key in ("licence",) if key in card.provenance}
    return Loaded(network, card.preprocessing, provenance, more + notes, knobs, head)


def open_network(folder: Path) -> tuple[ModelCard, Network]:
    """The card and the trained network, in training mode and on the CPU, of a model's folder.

    The network is first built without memory of its own and compared with what the weights file holds, so that a
    description that asks for more than the file has is refused before anything is allocated. ModelFileError.
    """
    card, described = inspect_bundle(folder)
    try:
        entry = lookup(card.model)
        with shapes_only():
            # Another head is put on a network that is built whole, its own classifier and all its stages; a classifier
            # of a code takes the place of a decoder.
            cut = card.head is not None or entry.spec.task != card.task
            more = CUT * len(entry.build().state_dict()) if cut else 0
            with _AtMost(len(described) + more):
                planned = _build(entry, card)
    # Builders raise whatever they stumble over at options that nobody would give them.
    except Exception as error:
        reason = error.cause if isinstance(error, UsageError) else str(error).splitlines()[0] if str(error) else error
        raise _misfit(folder, card, str(reason)) from None
    _compare(folder, card, planned, described)
    network = _build(entry, card)
    network.load_state_dict(load_safetensors(folder / WEIGHTS))
    return card, network


def _build(entry: Entry, card: ModelCard) -> Network:
    network = build(entry, outputs_of(card), card.in_channels, card.knobs)
    if card.head is not None:
        attach(network, card.head)
    return network


def outputs_of(card: ModelCard) -> int:
    """0 for an autoencoder: its classes are those of the pictures it learned from."""
    return len(card.classes) if card.task == "classification" else 0


class _AtMost:
    """Inside `with`, this thread builds no network of more than so many parameters: each of them is a tensor in the
    weights file, and without a bound an option could ask for a billion layers."""

    def __init__(self, tensors: int) -> None:
        self.left = tensors
        self.thread = threading.get_ident()

    def __enter__(self) -> None:
        self.hook = torch.nn.modules.module.register_module_parameter_registration_hook(self.count)

    def __exit__(self, *_: object) -> None:
        self.hook.remove()

    def count(self, *_: object) -> None:
        if threading.get_ident() == self.thread:
            self.left -= 1
        if self.left < 0:
            raise ValueError("it describes more layers than the weights file holds")


def _compare(folder: Path, card: ModelCard, planned: Network, described: Mapping[str, Described]) -> None:
    """ModelFileError where the file's tensors are not the network's, or its pictures not of a size it takes."""
    ours = {name: tuple(tensor.shape) for name, tensor in planned.state_dict().items()}
    theirs = {name: tensor.shape for name, tensor in described.items()}
    if ours.keys() != theirs.keys():
        names = sorted(ours.keys() ^ theirs.keys())
        raise _misfit(folder, card, f"{len(names)} tensors are missing or unknown, such as {names[0]}")
    wrong = [name for name in ours if ours[name] != theirs[name]]
    if wrong:
        had = f"{wrong[0]} {theirs[wrong[0]]} for {ours[wrong[0]]}"
        raise _misfit(folder, card, f"{len(wrong)} tensors have other shapes, such as {had}")
    size = card.preprocessing.size
    if size < planned.min_size or planned.fixed_size not in (None, size):
        raise _misfit(folder, card, f"pictures of {size} x {size} pixels are none that it takes")


def _misfit(folder: Path, card: ModelCard, reason: str) -> ModelFileError:
    cause = f"{folder} does not fit {card.model[:80]} ({reason[:160]})"
    versions = f"it was written by neocog {card.written_by[:30] or 'of no known version'}, this is {neocog.__version__}"
    return ModelFileError(cause, f"restore it from a copy; {versions}")


def preprocessing_of(entry: Entry, weights: str) -> Preprocessing:
    """How pictures reach these weights. A run says; a file does not: then ImageNet's way, at the network's own
    size; tiny pictures are not cropped."""
    published = find_published(entry, weights)
    if published is None and (folder := bundle_in(weights)) is not None:
        return read_card(folder).preprocessing
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
        least = min(1, known[option].default) if option == "num_classes" else 1  # an autoencoder has no classes
        if option in ("num_classes", "in_channels") and value < least:
            raise UsageError(f"{name}: {option} = {value} must be at least {least}", "give a positive number")


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


def options_of(entry: Entry) -> dict[str, Any]:
    """The builder's own options with their defaults: what --knob takes."""
    common = ("num_classes", "in_channels")
    parameters = inspect.signature(entry.build).parameters
    return {name: parameter.default for name, parameter in parameters.items() if name not in common}
