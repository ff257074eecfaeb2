"""Published weights, whatever library wrote them, made to fit a network here. State dicts in, state dicts out."""

import re
from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor

from neocog.core.contracts import Network
from neocog.core.errors import ModelFileError
from neocog.core.registry import Entry, KeyMap
from neocog.core.shapes import shapes_only

State = Mapping[str, Tensor]


def recognise(entry: Entry, state: State) -> str:
    """The key layout of `state`: "neocog" when its keys are ours, else the layout whose map yields most of ours.

    ModelFileError where no key fits at all: the file belongs to another network.
    """
    with shapes_only():
        ours = set(entry.build().state_dict())
    keys = [_bare(key) for key in state]
    hits = Counter({name: len(ours.intersection(map(read, keys))) for name, read in layouts(entry).items()})
    layout, found = hits.most_common(1)[0]
    if found == 0:
        raise ModelFileError(
            f"the file holds {_some(state)}, and no key is one of {entry.spec.name}'s",
            "give weights of that network, or name the network they belong to",
        )
    return layout


def adapt(
    network: Network, entry: Entry, state: State, layout: str, *, whole: bool = False
) -> tuple[dict[str, Tensor], list[str]]:
    """`state` under our keys and in our shapes, complete for a strict `load_state_dict`, and notes on what changed.

    - "module." in front of every key (nn.DataParallel's) is stripped, keys are renamed through the layout's map.
    - Another number of classes: the classifiers are left out, the network's own new ones stand in their place.
    - Auxiliary heads that only one side has start anew or are left out.
    - Another number of channels: the first convolution's filters are summed or repeated (`other_channels`).
    - A tensor that differs only in axes of length 1, or a dense layer that was published as a convolution over
      its whole input, is reshaped.
    - What belongs to another size of picture is fitted by the network itself (`Network.fit_weights`).
    - Batch norm's step counter may be missing (files before PyTorch 0.4.1) and is then 0.

    ModelFileError names the first few keys that are missing, unknown or of another shape; with `whole` also where the
    number of classes is another.
    """
    read = layouts(entry)[layout]
    theirs = {read(_bare(key)): tensor for key, tensor in state.items()}
    ours = network.state_dict()
    for key in ours.keys() - theirs.keys():
        if key.endswith(".num_batches_tracked"):
            theirs[key] = torch.zeros_like(ours[key])
    notes = _match_auxiliary(ours, theirs)
    _check_keys(entry, ours, theirs)
    notes += network.fit_weights(theirs)

    classifiers = [key for key in ours if _is_classifier(key, network.classifier)]
    first = next((key for key, tensor in ours.items() if tensor.dim() == 4), None)
    if any(theirs[key].shape[:1] != ours[key].shape[:1] for key in classifiers):
        had = theirs[classifiers[0]].shape[0]
        if whole:
            cause = f"the weights are for {had} classes, not {network.num_classes}"
            raise ModelFileError(cause, f"name the {had} classes, a line each, in a file: --classes FILE")
        notes.append(f"new classifier for {network.num_classes} classes (the weights had {had})")
        theirs |= {key: ours[key] for key in classifiers}
    # Not the network's channels but the filters': a depthwise first layer has filters of one channel.
    if first is not None and theirs[first].dim() == 4 and theirs[first].shape[1] != ours[first].shape[1]:
        had = theirs[first].shape[1]
        theirs[first] = other_channels(theirs[first], ours[first].shape[1])
        how = "summed" if network.in_channels < had else "repeated, each divided by its copies,"
        notes.append(f"first convolution's filters {how} for {network.in_channels} channels (the weights had {had})")
    adapted = {key: _reshaped(theirs[key], ours[key]) for key in ours}
    wrong = [key for key in ours if adapted[key].shape != ours[key].shape]
    if wrong:
        shapes = ", ".join(f"{k} {tuple(adapted[k].shape)} for {tuple(ours[k].shape)}" for k in wrong[:3])
        raise ModelFileError(
            f"{len(wrong)} tensors do not have {entry.spec.name}'s shapes: {shapes}",
            "build the network with the options its weights were trained with",
        )
    return adapted, notes


def other_channels(filters: Tensor, channels: int) -> Tensor:
    """(C_out, C, kH, kW) -> (C_out, channels, kH, kW): for fewer channels summed in turn, for more repeated in turn and
    divided by the number of copies.

    A picture whose channels are all alike gives the same output through the old filters and the new.
    """
    had = filters.shape[1]
    turns = torch.arange(max(had, channels))
    shares = filters.new_zeros(channels, had)
    shares[turns % channels, turns % had] = 1
    return torch.einsum("ochw,nc->onhw", filters, shares / shares.sum(dim=0))


def layouts(entry: Entry) -> dict[str, KeyMap]:
    """By name, what turns a published key into ours."""
    return {"neocog": lambda key: key, **entry.key_maps}


def _bare(key: str) -> str:
    return key.removeprefix("module.")


def _is_classifier(key: str, name: str) -> bool:
    """head.fc.weight, auxiliary.4a.fc.bias"""
    return re.match(rf"(head|auxiliary\.[^.]+)\.{re.escape(name)}\.", key) is not None


def _match_auxiliary(ours: State, theirs: dict[str, Tensor]) -> list[str]:
    """Gives `theirs` the auxiliary heads of `ours`, no more and no fewer; returns notes."""
    mine, published = ({key for key in state if key.startswith("auxiliary.")} for state in (ours, theirs))
    if mine and not published:
        theirs |= {key: ours[key] for key in mine}
        return ["new auxiliary heads (the weights have none)"]
    if published and not mine:
        for key in published:
            del theirs[key]
        return ["auxiliary heads of the weights left out"]
    return []


def _reshaped(theirs: Tensor, ours: Tensor) -> Tensor:
    if theirs.dim() == 4 and ours.dim() == 2 and theirs.flatten(1).shape == ours.shape:
        return theirs.flatten(1)
    if theirs.shape != ours.shape and theirs.squeeze().shape == ours.squeeze().shape:
        return theirs.reshape(ours.shape)
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
