"""Randomness by key instead of by history.

A number is a hash of (seed, epoch, picture, purpose). It does not depend on how many numbers were drawn
before, on the batch a picture sits in or on who computes it, so a resumed run, another number of workers
and another batch size all see the same augmentation. The hash is SplitMix64's finaliser (Steele, Lea and
Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014), vectorised over pictures.
"""

import zlib

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def keys(seed: int, epoch: int, indices: NDArray[np.int64], purpose: str) -> NDArray[np.uint64]:
    """One 64-bit key per picture: (N,) -> (N,)."""
    with np.errstate(over="ignore"):  # wrapping around is what the hash means
        z = _mix(np.full(1, seed % 2**64, np.uint64) + _GOLDEN)
        z = _mix((z ^ np.uint64(epoch % 2**64)) + _GOLDEN)
        z = _mix((z ^ np.uint64(zlib.crc32(purpose.encode()))) + _GOLDEN)
        return _mix((z ^ indices.astype(np.uint64)) + _GOLDEN)


def uniform(seed: int, epoch: int, indices: NDArray[np.int64], purpose: str, n: int = 1) -> NDArray[np.float64]:
    """(N, n) numbers in [0, 1), the same for a picture whatever stands beside it."""
    with np.errstate(over="ignore"):
        streams = keys(seed, epoch, indices, purpose)[:, None] + _GOLDEN * np.arange(1, n + 1, dtype=np.uint64)
        return (_mix(streams) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def one_seed(seed: int, epoch: int, step: int, purpose: str) -> int:
    """A seed below 2**63 for a generator that serves one step (dropout, noise)."""
    return int(keys(seed, epoch, np.array([step], np.int64), purpose)[0] >> np.uint64(1))


def permutation(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    """The order of an epoch: 0..n-1 shuffled by (seed, epoch)."""
    return np.random.Generator(np.random.Philox(one_seed(seed, epoch, 0, "order"))).permutation(n)
