"""A finished run's network continued as a deeper one of the same family, written as a model to train from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import neocog
from neocog.app.folder import choose_folder, create
from neocog.app.published import bundle_in
from neocog.app.zoo import build, open_network, options_of
from neocog.core.contracts import Network
from neocog.core.errors import ModelFileError, UsageError
from neocog.core.registry import Entry, lookup, names
from neocog.core.shapes import shapes_only
from neocog.export.bundle import ModelCard, read_card, write_bundle
from neocog.transfer.grow import grow

PICTURES = 4  # drawn, on which both networks are asked
TOLERANCE = 1e-4  # of the largest score; rounding leaves about a hundredth of it


@dataclass(frozen=True)
class Grown:
    """What came of it. `difference`: the largest one between the scores of both networks on drawn pictures."""

    folder: Path  # holds model/
    grown_from: str
    model: str
    notes: list[str]
    parameters_before: int
    parameters_after: int
    difference: float


def grow_run(
    folder: str | Path, model: str, out: str | Path | None = None, knobs: Mapping[str, Any] | None = None, *,
    seed: int = 0,
) -> Grown:  # fmt: skip
    """Writes `model` with the weights of the run in `folder` (or of a model's folder) to `out`/model.

    The new blocks begin as the identity (`neocog.transfer.grow`), so both networks give the same scores; that is
    looked at on drawn pictures of the run's size. Classes, preprocessing and the network's own options, where
    `knobs` says nothing else, are the run's. `seed` draws the weights inside the new blocks. `out`: a new folder,
    or an empty one (default: a new one under runs/). UsageError where the networks do not fit, naming the block and
    the networks that would; ModelFileError for a damaged run.
    """
    source, entry = _model_of(Path(folder)), lookup(model)
    card = read_card(source)
    if card.head is not None or card.task != "classification":
        raise UsageError(f"{folder} has another head than a classifier", "grow the classifier that it came from")
    target = _free_folder(out, entry.spec.name, Path(folder))
    with torch.random.fork_rng():
        card, small = open_network(source)
        options = _options(card, entry) | dict(knobs or {})
        torch.manual_seed(seed)
        large = build(entry, len(card.classes), card.in_channels, options)
    try:
        notes = grow(small, large)
    except UsageError as error:
        cause = f"{card.model} does not grow into {entry.spec.name}: {error.cause}"
        raise UsageError(cause, _advice(card, small)) from None
    difference = _compare(small, large, card)
    story = {"model": card.model, "sha256": card.sha256, "seed": seed, "notes": notes}
    grown = card.model_copy(
        update={
            "model": entry.spec.name, "knobs": options, "provenance": card.provenance | {"grown_from": story},
            "written_by": neocog.__version__,
        }
    )  # fmt: skip
    create(target)
    write_bundle(target / "model", large.state_dict(), grown)
    return Grown(target, card.model, entry.spec.name, notes, _parameters(small), _parameters(large), difference)


def _model_of(folder: Path) -> Path:
    source = bundle_in(str(folder))
    if source is not None:
        return source
    if not folder.is_dir():
        raise UsageError(f"the run folder {folder} does not exist", "give a folder that `neocog train` made")
    raise ModelFileError(f"the folder {folder} holds no finished run", "give one, or `neocog resume` it first")


def _free_folder(out: str | Path | None, name: str, run: Path) -> Path:
    folder = None if out is None else Path(out)
    if folder is not None and folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder} exists already and is not empty", "give another --out")
    if folder is not None and run.resolve() in folder.resolve().parents:
        raise UsageError(f"{folder} lies inside the run {run}", "give an --out outside of it")
    return choose_folder(folder, name, str(run))


def _options(card: ModelCard, entry: Entry) -> dict[str, Any]:
    """The run's options that the other network has as well; what the rest change would not fit anyway."""
    return {name: value for name, value in card.knobs.items() if name in options_of(entry)}


def _advice(card: ModelCard, small: Network) -> str:
    """Which networks of the same family it would grow into, tried without memory."""
    family = lookup(card.model).build.__module__
    fitting = []
    with shapes_only():
        planned = build(lookup(card.model), len(card.classes), card.in_channels, card.knobs)
        for name in names():
            entry = lookup(name)
            if entry.build.__module__ != family:
                continue
            try:
                grow(planned, build(entry, len(card.classes), card.in_channels, _options(card, entry)))
            except UsageError:
                continue
            fitting.append(name)
    if not fitting:
        return f"no network of the zoo continues {card.model}"
    *others, last = fitting
    return f"{card.model} can grow into {', '.join(others) + ' or ' if others else ''}{last}"


def _compare(small: Network, large: Network, card: ModelCard) -> float:
    """The largest difference of the scores. UsageError where it is more than rounding."""
    size = card.preprocessing.size
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn(PICTURES, card.in_channels, size, size, generator=generator)
    with torch.inference_mode():
        before, after = small.eval()(pictures), large.eval()(pictures)
    difference = float((after - before).abs().max())
    if not difference <= TOLERANCE * max(float(before.abs().max()), 1e-30):  # also where a score is no number
        cause = f"the grown {type(large).__name__} gives other scores than {card.model}, by up to {difference:.3g}"
        raise UsageError(cause, "look for a --knob in which they differ")
    return difference


def _parameters(network: Network) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
