"""Pictures unlike the rest of their set: dark, light, blurred, of one colour, of an odd size or shape.

A picture is named only if it is far from the set's median (in deviations, measured by the median absolute deviation)
and beyond a floor as well, so that a set of like pictures has none, and a set of night skies is not all "dark".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neocog.data.looks import log_sharpness, unpack

if TYPE_CHECKING:
    from neocog.data.scan import Kept

DARK, LIGHT = 48, 208  # grey levels: the lightest place of a dark picture, the darkest of a light one
DEVIATIONS = 5.0
BEYOND = 3.0  # deviations where the limit itself says enough
FEWEST = 10  # pictures below which there is no "rest of the set"
SIZE_RATIO = 12.0  # pixels in all
SHAPE_RATIO = 2.0  # long side over short side

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Outlier:
    """`kind`: one_colour, dark, light, blurred, odd_size, odd_shape. `row`: of the kept pictures."""

    row: int
    kind: str
    detail: str


def find_outliers(kept: "Sequence[Kept]") -> list[Outlier]:
    """In the order of the pictures. A picture of one colour is not called dark or blurred too."""
    if not kept:
        return []
    table = unpack([one.look for one in kept])
    known = np.array([bool(one.look) for one in kept])
    flat = np.array(["one_colour" in one.notes for one in kept])
    width, height = (np.array([getattr(one, name) for one in kept], np.float64) for name in ("width", "height"))
    darkest, lightest = table["darkest"].astype(np.float64), table["lightest"].astype(np.float64)
    sharpness = log_sharpness(table["sharpness"])
    area, shape = np.log(width * height), np.log(np.maximum(width, height) / np.minimum(width, height))
    found = [Outlier(row, "one_colour", "nothing can be seen in it") for row in np.flatnonzero(flat).tolist()]
    if len(kept) < FEWEST:
        return found
    seen = known & ~flat
    sharp = seen & ~np.isnan(sharpness)
    everyone = np.ones(len(kept), bool)
    usual = float(np.median(sharpness[sharp])) if sharp.any() else 0.0
    strange = {
        "dark": seen & (lightest <= DARK) & (_deviations(lightest, seen, 5.0) < -BEYOND),
        "light": seen & (darkest >= LIGHT) & (_deviations(darkest, seen, 5.0) > BEYOND),
        "blurred": sharp & (_deviations(sharpness, sharp, 0.45) < -DEVIATIONS),
        "odd_size": (np.abs(area - np.median(area)) > np.log(SIZE_RATIO))
        & (np.abs(_deviations(area, everyone, 0.05)) > DEVIATIONS),
        "odd_shape": (shape - np.median(shape) > np.log(SHAPE_RATIO))
        & (_deviations(shape, everyone, 0.05) > DEVIATIONS),
    }

    def describe(kind: str, row: int) -> str:
        if kind == "dark":
            return f"no place is lighter than {lightest[row] / 255:.0%} of white"
        if kind == "light":
            return f"no place is darker than {darkest[row] / 255:.0%} of white"
        if kind == "blurred":
            return f"its fine detail is 1/{np.exp(usual - sharpness[row]):,.0f} of the usual"
        one = kept[row]
        return f"{one.width} x {one.height}; the medians are {np.median(width):.0f} and {np.median(height):.0f}"

    found += [
        Outlier(row, kind, describe(kind, row)) for kind in strange for row in np.flatnonzero(strange[kind]).tolist()
    ]
    return sorted(found, key=lambda one: (one.row, one.kind))


def _deviations(values: Numbers, of: NDArray[np.bool_], least: float) -> Numbers:
    """How many standard deviations from the median; `least`: the smallest deviation that is believed."""
    if not of.any():
        return np.zeros(len(values))
    median = np.median(values[of])
    spread = max(least, 1.4826 * float(np.median(np.abs(values[of] - median))))
    deviations: Numbers = (values - median) / spread
    return deviations
