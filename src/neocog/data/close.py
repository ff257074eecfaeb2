"""All pairs of vectors that lie close together, without comparing all with all: multi-probe locality-sensitive hashing.

Lv et al., "Multi-Probe LSH" (VLDB 2007). A table gives each vector a code of about log2(N) signs along random
directions; vectors that share a code, or would if their least certain signs were flipped, are compared. Time grows with
N log N, memory with N, however alike the vectors are: a crowded code is searched only around the vector's own place on
one more direction.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

TABLES = 3
FLIPS = 2  # least certain signs that are tried both ways
DIRECTIONS = 24  # numbers of largest variance, from which codes are made
SPARE = 4  # signs more than log2(N), so that codes are shared by few
CROWD = 64  # neighbours looked at on either side
BLOCK = 1_000_000  # comparisons at a time
SPAN = 8.0  # between codes; more than any two places on a direction are apart

Floats = NDArray[np.float32]
Pairs = NDArray[np.int64]


def close_pairs(vectors: Floats, radius: float, seed: int = 0) -> Pairs:
    """(N, D) of length at most one -> (P, 2) row numbers, the smaller first: pairs nearer than `radius`.

    A pair that is much nearer is found almost surely, one at the very radius with a little luck.
    """
    rng = np.random.default_rng(seed)
    # Chosen by variance and not as principal components, whose signs differ from one LAPACK to the next: a run that is
    # continued on another machine must find the same pairs.
    largest = np.argsort(-vectors.astype(np.float64).var(axis=0), kind="stable")[:DIRECTIONS]
    reduced = vectors[:, largest]
    main = np.ascontiguousarray(reduced[:, :4])
    centred = reduced - reduced.mean(axis=0)
    found = [np.empty((0, 2), np.int64)]
    for _ in range(TABLES):
        directions = rng.normal(size=(reduced.shape[1],) * 2).astype(np.float32) / np.float32(np.sqrt(DIRECTIONS))
        for first, second in _meetings(centred @ directions, radius):
            keep = first < second
            first, second = first[keep], second[keep]
            for places in (main, reduced, vectors):  # most are far in the first few numbers already
                near = _squares(places[first] - places[second]) < radius**2
                first, second = first[near], second[near]
            found.append(np.stack([first, second], axis=1))
    return np.unique(np.concatenate(found), axis=0)


def neighbours(vectors: Floats, rows: Pairs, k: int) -> tuple[NDArray[np.float32], Pairs]:
    """Distance and row number of the k-th nearest other vector of each of `rows`."""
    chosen = vectors[rows]
    squares = (chosen**2).sum(axis=1)[:, None] + (vectors**2).sum(axis=1) - 2 * chosen @ vectors.T
    squares[np.arange(len(rows)), rows] = -1.0  # the vector itself comes first
    kth = np.argpartition(squares, k, axis=1)[:, k]
    return np.sqrt(np.maximum(squares[np.arange(len(rows)), kth], 0)), kth


def _squares(vectors: Floats) -> Floats:
    squares: Floats = np.einsum("ij,ij->i", vectors, vectors)
    return squares


def _meetings(places: Floats, radius: float) -> Iterator[tuple[Pairs, Pairs]]:
    """Row numbers of vectors that meet in one table, in blocks, the smaller first. `places`: (N, directions)."""
    n, width = places.shape
    bits = min(width - 1, int(np.ceil(np.log2(n))) + SPARE)
    signs, line = places[:, :bits], places[:, bits].astype(np.float64)
    codes = (signs > 0) @ (1 << np.arange(bits))
    keys = SPAN * codes + line
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    weakest = np.argpartition(np.abs(signs), FLIPS, axis=1)[:, :FLIPS] if bits > FLIPS else np.zeros((n, 0), np.int64)
    for flips in range(1 << weakest.shape[1]):
        probed = codes.copy()
        for place in range(weakest.shape[1]):
            if flips >> place & 1:
                probed ^= 1 << weakest[:, place]
        wanted = SPAN * probed + line
        centre = np.searchsorted(keys, wanted)
        first = np.maximum(np.searchsorted(keys, wanted - radius), centre - CROWD)
        last = np.minimum(np.searchsorted(keys, wanted + radius), centre + CROWD)
        total = np.cumsum(last - first)
        for start, end in _blocks(total):
            counts = (last - first)[start:end]
            rows = np.repeat(np.arange(start, end), counts)
            offsets = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
            others = order[np.repeat(first[start:end], counts) + offsets]
            yield np.minimum(rows, others), np.maximum(rows, others)


def _blocks(total: Pairs) -> Iterator[tuple[int, int]]:
    """Slices of rows with about BLOCK comparisons each; `total`: comparisons up to and with each row."""
    start = 0
    while start < len(total):
        before = int(total[start - 1]) if start else 0
        end = max(start + 1, int(np.searchsorted(total, before + BLOCK, side="right")))
        yield start, end
        start = end
