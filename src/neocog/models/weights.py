"""Published weights, whatever library wrote them, made to fit a network here. State dicts in, state dicts out."""

from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor

from neocog.core.contracts import Network
from neocog.core.errors import ModelFileError
from neocog.core.registry import Entry, KeyMap

State = Mapping[str, Tensor]


def recognise(entry: Entry, state: State) -> str:
    """The key layout of `state`: "neocog" when its keys are ours, else the layout whose map yields most of ours.

    ModelFileError where no key fits at all: the file belongs to another network.
    """
    with torch.device("meta"):
        ours = set(entry.build().state_dict())
    keys = [_bare(key) for key in state]
    hits = Counter({name: len(ours.intersection(map(read, keys))) for name, read in _layouts(entry).items()})
    layout, found = hits.most_common(1)[0]
    if found == 0:
        raise ModelFileError(
            f"the file holds {_some(state)}, and no key is one of {entry.spec.name}'s",
            "give weights of that network, or name the network they belong to",
        )
    return layout


def adapt(network: Network, entry: Entry, state: State, layout: str) -> tuple[dict[str, Tensor], list[str]]:
    """`state` under our keys and in our shapes, complete for a strict `load_state_dict`, and notes on what changed.

    - "module." in front of every key (nn.DataParallel's) is stripped, keys are renamed through the layout's map.
    - Another number of classes: the classifier is left out, the network's own new one stands in its place.
    - Another number of channels: the first convolution's filters are summed for grey, else repeated.
    - A dense layer that was published as a convolution over its whole input is reshaped.
    - Batch norm's step counter may be missing (files before PyTorch 0.4.1) and is then 0.

    ModelFileError names the first few keys that are missing, unknown or of another shape.
    """
    read = _layouts(entry)[layout]
    theirs = {read(_bare(key)): tensor for key, tensor in state.items()}
    ours = network.state_dict()
    for key in ours.keys() - theirs.keys():
        if key.endswith(".num_batches_tracked"):
            theirs[key] = torch.zeros_like(ours[key])
    _check_keys(entry, ours, theirs)

    notes: list[str] = []
    classifier = f"head.{network.classifier}."
    first = next((key for key, tensor in ours.items() if tensor.dim() == 4), None)
    if any(theirs[key].shape[:1] != ours[key].shape[:1] for key in ours if key.startswith(classifier)):
        had = next(theirs[key].shape[0] for key in ours if key.startswith(classifier))
        notes.append(f"new classifier for {network.num_classes} classes (the weights had {had})")
        theirs |= {key: tensor for key, tensor in ours.items() if key.startswith(classifier)}
    if first is not None and theirs[first].dim() == 4 and theirs[first].shape[1] != network.in_channels:
        had = theirs[first].shape[1]
        theirs[first] = other_channels(theirs[first], network.in_channels)
        how = "summed" if network.in_channels == 1 else "repeated and rescaled"
        notes.append(f"first convolution's filters {how} for {network.in_channels} channels (the weights had {had})")
    adapted = {key: _as_dense(theirs[key], ours[key]) for key in ours}
    wrong = [key for key in ours if adapted[key].shape != ours[key].shape]
    if wrong:
        shapes = ", ".join(f"{k} {tuple(adapted[k].shape)} for {tuple(ours[k].shape)}" for k in wrong[:3])
        raise ModelFileError(
            f"{len(wrong)} tensors do not have {entry.spec.name}'s shapes: {shapes}",
            "build the network with the options its weights were trained with",
        )
    return adapted, notes


def other_channels(filters: Tensor, channels: int) -> Tensor:
    """(C_out, C, kH, kW) -> (C_out, channels, kH, kW): the sum for one channel, else repeated in turn and rescaled.

    A picture whose channels are all alike gives the same output through the old filters and the new, where
    every old channel is repeated equally often; else about the same.
    """
    if channels == 1:
        return filters.sum(dim=1, keepdim=True)
    had = filters.shape[1]
    return filters[:, [i % had for i in range(channels)]] * (had / channels)


def _layouts(entry: Entry) -> dict[str, KeyMap]:
    return {"neocog": lambda key: key, **entry.key_maps}


def _bare(key: str) -> str:
    return key.removeprefix("module.")


def _as_dense(theirs: Tensor, ours: Tensor) -> Tensor:
    if theirs.dim() == 4 and ours.dim() == 2 and theirs.flatten(1).shape == ours.shape:
        return theirs.flatten(1)
    return theirs


def _check_keys(entry: Entry, ours: State, theirs: State) -> None:
    missing = [key for key in ours if key not in theirs]
    unknown = [key for key in theirs if key not in ours]
    if missing or unknown:
        parts = []
        if missing:
            parts.append(f"{len(missing)} missing ({', '.join(missing[:3])})")
        if unknown:
            parts.append(f"{len(unknown)} unknown ({', '.join(unknown[:3])})")
        raise ModelFileError(
            f"the keys are not {entry.spec.name}'s: {' and '.join(parts)}",
            "give weights of exactly this network and these options",
        )


def _some(state: State) -> str:
    return ", ".join(list(state)[:3]) or "nothing"
