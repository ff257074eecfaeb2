"""What is done to a picture that an autoencoder must give back as it was, and to the code on its way."""

import math
from typing import NamedTuple

#                 what its number means, its range, and what it is where none is given
KINDS: dict[str, tuple[str, float, float, float]] = {
    "gaussian": ("standard deviation on the 0..1 scale", 0.0, 2.0, 0.3),
    "salt_pepper": ("share of the pixels that become black or white", 0.0, 1.0, 0.2),
    "mask": ("share of the pixels that become grey", 0.0, 1.0, 0.5),
    "patches": ("share of the patches, 7 by 7 of them, that become grey", 0.0, 1.0, 0.75),
    "low_resolution": ("how many times smaller the picture becomes before it is enlarged again", 2.0, 16.0, 4.0),
    "binary": ("share of the values that become 0 or 1, with their own value as probability of 1", 1.0, 1.0, 1.0),
    "grey": ("how much of the colour goes", 0.0, 1.0, 1.0),
    "adversarial": (
        "largest change of a value on the 0..1 scale, by a step that makes the result worse",
        0.0,
        1.0,
        0.1,
    ),
}


class Noise(NamedTuple):
    """`kind` of KINDS; "none" leaves the picture as it is."""

    kind: str = "none"
    strength: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "Noise":
        """ "gaussian:0.3", "grey", "0.3" (gaussian). ValueError that says what would be right."""
        kind, _, number = text.partition(":")
        if not number and _is_number(kind):
            kind, number = "gaussian", kind
        if kind == "none" and not number:
            return cls()
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is none of none, {', '.join(KINDS)}")
        what, least, most, usual = KINDS[kind]
        if number and not _is_number(number):
            raise ValueError(f"{number!r} is no number: {kind}:N, N the {what}")
        strength = float(number) if number else usual
        if not least <= strength <= most:
            raise ValueError(f"{kind}:{number} must lie from {least:g} to {most:g}: the {what}")
        return cls(kind, strength) if strength else cls()

    def __str__(self) -> str:
        return "none" if self.kind == "none" else f"{self.kind}:{self.strength:g}"


class Sparsity(NamedTuple):
    """`kind`: "k", "l1" or "kl"; `strength`: how many activations stay, the weight, or the wanted mean activation."""

    kind: str
    strength: float

    @classmethod
    def parse(cls, text: str) -> "Sparsity":
        """ "k:16". ValueError that says what would be right."""
        kind, _, number = text.partition(":")
        if kind not in ("k", "l1", "kl") or not _is_number(number):
            raise ValueError("must be k:N, l1:WEIGHT or kl:TARGET, such as k:16, l1:0.1 or kl:0.05")
        strength = float(number)
        if kind == "k" and (strength < 1 or strength != int(strength)):
            raise ValueError(f"k:{number} must be a whole number of activations, at least 1")
        if kind == "l1" and not 0 < strength <= 1000:
            raise ValueError(f"l1:{number} must lie above 0, up to 1000")
        if kind == "kl" and not 0 < strength < 1:
            raise ValueError(f"kl:{number} must lie between 0 and 1: it is the mean activation of a unit")
        return cls(kind, strength)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
