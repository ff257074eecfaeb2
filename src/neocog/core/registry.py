"""Names to builders: one place where a network's name, facts and function meet."""

import fnmatch
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from neocog.core.errors import UsageError, did_you_mean
from neocog.core.spec import Spec

KeyMap = Callable[[str], str]  # a published checkpoint's key -> ours

Builder = TypeVar("Builder", bound=Callable[..., Any])


@dataclass(frozen=True)
class Entry:
    """A network's facts, its builder, and how each published key layout is read."""

    spec: Spec
    build: Callable[..., Any]
    key_maps: Mapping[str, KeyMap]  # layout ("torchvision", "timm") -> key map


_entries: dict[str, Entry] = {}
_aliases: dict[str, str] = {}


def register(spec: Spec, key_maps: Mapping[str, KeyMap] | None = None) -> Callable[[Builder], Builder]:
    """Decorator: `@register(Spec(name=...))` above a builder `f(*, num_classes, in_channels, **knobs)`."""

    def add(builder: Builder) -> Builder:
        for name in (spec.name, *spec.aliases):
            if name in _entries or name in _aliases:
                raise ValueError(f"the network name {name!r} is registered twice")
        _entries[spec.name] = Entry(spec, builder, key_maps or {})
        _aliases.update(dict.fromkeys(spec.aliases, spec.name))
        return builder

    return add


def names(pattern: str = "*") -> list[str]:
    """Registered names that match a shell pattern (`resnet*`), themselves or by an alias, in the order of
    registration."""
    wanted = pattern.lower().replace("-", "_")
    spelt = {name: (name, *entry.spec.aliases) for name, entry in _entries.items()}
    return [name for name in _entries if any(fnmatch.fnmatchcase(word, wanted) for word in spelt[name])]


def lookup(name: str) -> Entry:
    """The entry of a name or alias; UsageError with the nearest names otherwise."""
    key = name.lower().replace("-", "_")
    key = _aliases.get(key, key)
    if key not in _entries:
        hint = did_you_mean(key, [*_entries, *_aliases]) or "`neocog models` lists them all"
        raise UsageError(f"there is no network called {name!r}", hint)
    return _entries[key]
