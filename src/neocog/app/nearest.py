"""Whose weights are these? For the message about a file that does not fit the network it was given to."""

from collections import defaultdict
from collections.abc import Mapping

from torch import Tensor

from neocog.core.registry import Entry, lookup, names
from neocog.core.shapes import shapes_only
from neocog.models.weights import layouts

LEAST = 0.3  # of the keys must fit, to say anything


def owner_of(state: Mapping[str, Tensor]) -> str:
    """A sentence that names the network and the layout whose keys and shapes come nearest; "" where none is near."""
    keys = {key.removeprefix("module."): tuple(tensor.shape) for key, tensor in state.items()}
    families: dict[str, list[Entry]] = defaultdict(list)
    for name in names("*"):
        entry = lookup(name)
        families[entry.build.__module__].append(entry)
    # The smallest of each family first: building all of them would take a minute.
    smallest = [min(family, key=lambda entry: entry.spec.params) for family in families.values()]
    best = max(smallest, key=lambda entry: _fit(entry, keys)[:1])
    found = [(*_fit(entry, keys), entry.spec.name) for entry in families[best.build.__module__]]
    share, layout, count, name = max(found, key=lambda one: (one[2], one[0]))
    if share < LEAST:
        return ""
    return f"its keys come nearest to {name}'s in the layout of {layout} ({count} of {len(keys)} fit in name and shape)"


def _fit(entry: Entry, keys: Mapping[str, tuple[int, ...]]) -> tuple[float, str, int]:
    """(the share of all names that both sides have, in which layout, how many of these also have the same shape)."""
    with shapes_only():
        ours = {key: tuple(tensor.shape) for key, tensor in entry.build().state_dict().items()}
    best = 0.0, "neocog", 0
    for layout, read in layouts(entry).items():
        theirs = {read(key): shape for key, shape in keys.items()}
        common = ours.keys() & theirs.keys()
        alike = sum(ours[key] == theirs[key] for key in common)
        share = len(common) / len(ours.keys() | theirs.keys())
        if share > best[0]:  # our own layout comes first
            best = share, layout, alike
    return best
