"""Near duplicates: one picture stored twice, re-encoded, resized, brightened or slightly cropped.

First the pairs whose signatures (looks.py) lie close together are found without comparing all with all (close.py);
then each pair is registered (register.py), and counts only if next to nothing is left unexplained. What "next to
nothing" is depends on how alike the set's pictures are anyway: two digits 1 of different writers differ less than two
photographs of one street. Mirrored, turned and recoloured copies are not looked for.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from neocog.data.close import close_pairs, neighbours
from neocog.data.looks import unpack
from neocog.data.register import same_colours, thumbnail, unexplained, unmoved
from neocog.data.threads import ordered_map

if TYPE_CHECKING:
    from neocog.data.scan import Kept

RADIUS = (0.05, 0.30)  # least and largest distance of signatures at which a pair is registered
RADIUS_SHARE = 0.35  # of the typical distance to the NEIGHBOUR-th nearest picture
LEFT = (0.0015, 0.02)  # least and largest limit of what may be left unexplained: noise of JPEG; photographs
LEFT_SHARE = 0.055  # of the square of what the typical NEIGHBOUR-th nearest picture leaves
LOCAL = 0.12  # largest mean of what may be left in the parts of a picture
NEIGHBOUR = 20
SAMPLE = 100  # pictures from which "typical" is measured
FEWEST = 5  # different pictures below which nothing is typical
UNMOVED = 2.0  # times the limit that signatures may leave: they know nothing of what a crop cut off
ROUNDING = 0.001  # of signatures, which are whole numbers
ASPECT = 1.12  # largest ratio of the two aspect ratios
BATCH = 256

Floats = NDArray[np.float32]
Pairs = NDArray[np.int64]
Pictures = Callable[[int], Tensor]  # row -> uint8 (C, H, W)


def near_pairs(kept: "Sequence[Kept]", picture: Pictures) -> list[tuple[int, int]]:
    """Pairs of rows of `kept`, the smaller first, that are near duplicates and no exact copies. Of exact copies only
    the first one is compared."""
    rows = _first_of_each(kept)
    table = unpack([kept[row].look for row in rows])
    varied = table["signature"].any(axis=1)
    rows = rows[varied]
    if len(rows) < FEWEST:
        return []
    vectors = table["signature"][varied].astype(np.float32) / np.float32(127)
    sample = np.random.default_rng(0).permutation(len(rows))[:SAMPLE].astype(np.int64)
    distances, others = neighbours(vectors, sample, min(NEIGHBOUR, len(rows) - 1))
    pairs = close_pairs(vectors, float(np.clip(RADIUS_SHARE * np.median(distances), *RADIUS)))
    if len(pairs) == 0:
        return []
    usual = _left(rows[np.stack([sample, others], axis=1)], picture, 1.0, np.inf, 1)
    limit = float(np.clip(LEFT_SHARE * np.median(usual) ** 2, *LEFT))
    pairs = rows[pairs[_unmoved(vectors, pairs) < UNMOVED * limit + ROUNDING]]
    aspect = np.array([one.width / one.height for one in kept])
    ratio = aspect[pairs[:, 0]] / aspect[pairs[:, 1]]
    pairs = pairs[np.maximum(ratio, 1 / ratio) < ASPECT]
    pairs = pairs[_left(pairs, picture, limit, LOCAL, 2) < limit]
    return [(int(first), int(second)) for first, second in pairs]


def components(count: int, links: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """(count,) numbers, the same for rows that are linked directly or through others: the smallest row of each."""
    parent = list(range(count))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for first, second in links:
        low, high = sorted((root(first), root(second)))
        parent[high] = low
    return np.array([root(row) for row in range(count)], np.int64)


def chain(groups: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Links that join the rows of each group."""
    return [link for group in groups for link in pairwise(group)]


def _first_of_each(kept: "Sequence[Kept]") -> NDArray[np.int64]:
    first: dict[str, int] = {}
    for row, one in enumerate(kept):
        first.setdefault(one.sha256, row)
    return np.array(list(first.values()), np.int64)


def _unmoved(vectors: Floats, pairs: Pairs) -> Floats:
    """What small motions leave of the difference of two signatures: most pairs are ruled out without their pixels."""
    result = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), BATCH):
        first, second = vectors[pairs[start : start + BATCH]].transpose(1, 0, 2)
        result[start : start + BATCH] = np.maximum(unmoved(first, second), unmoved(second, first))
    return result


def _left(pairs: Pairs, picture: Pictures, limit: float, local_limit: float, iterations: int) -> Floats:
    """What each pair leaves unexplained, exact below `limit`; 1 where colours differ or a part is not explained."""

    def compare(part: Pairs) -> Floats:
        rows, places = np.unique(part, return_inverse=True)
        grey, colour = (np.stack(parts) for parts in zip(*(thumbnail(picture(int(row))) for row in rows), strict=True))
        first, second = places.reshape(part.shape).T
        left, local = unexplained(grey[first], grey[second], limit, iterations)
        same = same_colours(colour[first], colour[second]) & (local < local_limit)
        return np.where(same, left, np.float32(1))

    parts = (pairs[start : start + BATCH] for start in range(0, len(pairs), BATCH))
    return np.concatenate([np.empty(0, np.float32), *ordered_map(compare, parts)])
