"""Other libraries' names for the same tensors, as a short list of rules per network."""

import re

from neocog.core.registry import KeyMap


def rename(*rules: tuple[str, str]) -> KeyMap:
    """A key map from (pattern, replacement) pairs: the first pattern that matches the key's start is applied,
    the rest of the key is kept. A key that no pattern matches comes back unchanged, and so is reported as
    unexpected by whoever checks the keys."""
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in rules]

    def translate(key: str) -> str:
        for pattern, replacement in compiled:
            if pattern.match(key):
                return pattern.sub(replacement, key, count=1)
        return key

    return translate
