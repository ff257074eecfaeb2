"""Which rows stand in which batch of an epoch: fixed by (seed, epoch), whatever is then made of the rows."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from neocog.core import seeding


@dataclass(frozen=True)
class Plan:
    """Batches of `batch_size` out of n rows. With `shuffle`, which is training, several processes share every batch
    (`batch_size` is the sum over all); without it they take whole batches in turn, so that no row is seen twice and
    each is computed in the batch it would be in with one process."""

    n: int
    batch_size: int
    seed: int = 0
    shuffle: bool = False
    drop_last: bool = False
    rank: int = 0
    world_size: int = 1

    def __len__(self) -> int:
        """Batches per epoch: of all processes together in training, of this one in evaluation."""
        return self._batches() if self.shuffle else len(range(self.rank, self._batches(), self.world_size))

    @property
    def rounds(self) -> int:
        """Evaluation batches of the process that has most of them."""
        return -(-self._batches() // self.world_size)

    def _batches(self) -> int:
        """In training a rest of less than two pictures a process joins the batch before it: batch norm cannot learn
        from one value a channel, which is all that is left where the last map is one pixel."""
        whole, rest = divmod(self.n, self.batch_size)
        if self.shuffle and whole and rest < 2 * self.world_size:
            return whole
        return whole + (rest > 0 and not self.drop_last)

    def epoch(self, epoch: int, skip: int = 0) -> list[NDArray[np.int64]]:
        """The places 0..n-1 in each batch of this process, without those of the first `skip` batches."""
        order = seeding.permutation(self.seed, epoch, self.n) if self.shuffle else np.arange(self.n, dtype=np.int64)
        starts = [i * self.batch_size for i in range(self._batches())]
        end = len(starts) * self.batch_size if self.drop_last else self.n
        plan = [order[start:stop] for start, stop in pairwise([*starts, end])][skip:]
        if self.shuffle:
            return [places[self.rank :: self.world_size] for places in plan]
        return plan[self.rank :: self.world_size]
