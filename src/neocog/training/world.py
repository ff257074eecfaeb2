"""The processes that train one network together: who this one is among them, and how they agree.

Gradients go through torch's own DDP or FSDP2. What is left is small: numbers of a step, predictions, decisions
of the first process. Waiting for something that may take long (a file being written) goes through the store,
in short sleeps, so that a signal is heard; everything else has a deadline, so that one process which hangs
ends the job instead of stopping it for ever.
"""

import gc
import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]
from torch.nn.parallel import DistributedDataParallel

from neocog.core.errors import NeocogError

DEADLINE = timedelta(seconds=25)  # for one collective: a process that hangs ends the job within 30 seconds


@dataclass
class World:
    """`World()` is one process alone. `rank` 0 is the one that writes and speaks."""

    rank: int = 0
    size: int = 1
    local_size: int = 1  # the processes of this host
    store: Any = None  # of the words that the processes leave for each other
    _turns: "itertools.count[int]" = field(default_factory=itertools.count)

    @classmethod
    def join(cls, rank: int, size: int, local_size: int, host: str, port: int, backend: str) -> "World":
        """Meets the other processes that `torchrun` started."""
        # Functions of this module have the group that there is when they are defined as a default argument, for ever.
        import torch.distributed.nn.functional  # noqa: F401

        store = TCPStore(host, port, size, is_master=False)
        dist.init_process_group(
            backend, store=PrefixStore("neocog", store), rank=rank, world_size=size, timeout=DEADLINE
        )
        return cls(rank, size, local_size, PrefixStore("words", store))

    def leave(self) -> None:
        """The group's threads end when nothing holds it any longer, such as a wrapped network that is part of a cycle.
        One that drops a tensor while the interpreter shuts down would abort the process."""
        if self.size > 1:
            dist.destroy_process_group()
            gc.collect()

    @property
    def first(self) -> bool:
        return self.rank == 0

    def gather(self, values: list[float]) -> list[list[float]]:
        """(n,) numbers of this process -> those of every process, by rank."""
        if self.size == 1:
            return [values]
        own = torch.tensor(values, dtype=torch.float64)
        all_values = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(all_values, own)
        return [one.tolist() for one in all_values]

    def gather_rows(self, rows: Tensor) -> list[Tensor]:
        """(n, ...) rows of this process, on the CPU -> those of every process, which may be of different number."""
        if self.size == 1:
            return [rows]
        counts = [int(count) for (count,) in self.gather([len(rows)])]
        padded = torch.zeros(max(counts), *rows.shape[1:], dtype=rows.dtype)
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return [part[:count] for part, count in zip(parts, counts, strict=True)]

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Gives every process the first one's values, in place."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def agree(self, text: Callable[[], str]) -> str:
        """What the first process says; the others wait for it however long it takes. Where it fails, all fail."""
        if self.store is None:
            return text()
        key = f"turn {next(self._turns)}"
        if self.first:
            try:
                said = text()
            except BaseException:
                self.store.set(key, "-")
                raise
            self.store.set(key, f"+{said}")
            return said
        while not self.store.check([key]):
            time.sleep(0.02)
        answer: str = self.store.get(key).decode()
        if answer.startswith("-"):
            raise FirstFailed
        return answer[1:]

    def alone(self, work: Callable[[], object]) -> None:
        """Has the first process do something while the others wait."""

        def done() -> str:
            work()
            return ""

        self.agree(done)

    def meet(self) -> None:
        """Returns once every process has come here, however long one of them takes."""
        if self.store is None:
            return
        turn = next(self._turns)
        self.store.set(f"turn {turn} {self.rank}", "here")
        while not self.store.check([f"turn {turn} {rank}" for rank in range(self.size)]):
            time.sleep(0.02)


class FirstFailed(NeocogError):
    """The first process stopped and has said why."""

    def __init__(self) -> None:
        super().__init__("the first process of the run has stopped", "see its message")


def together(network: nn.Module) -> nn.Module:
    """The network as the loop calls it: its gradients become the mean over all processes. To be made again whenever
    other parameters learn."""
    device = next(network.parameters()).device
    return DistributedDataParallel(network, device_ids=[device] if device.type == "cuda" else None)


def divide(network: Any) -> None:
    """FSDP2: every process keeps its part of each stage's weights, and gets the rest when they are needed."""
    from torch.distributed.fsdp import fully_shard  # slow to import, and for this alone

    network.to(memory_format=torch.contiguous_format)  # channels_last weights cannot be divided
    for part in (network.stem, *network.stages, network.head):
        if any(True for _ in part.parameters()):
            fully_shard(part)
    fully_shard(network)


def whole(value: Tensor) -> Tensor:
    """A tensor that may be divided -> all of it. Every process must ask."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def like(value: Tensor, other: Tensor) -> Tensor:
    """All of a tensor -> divided as the other is, in its memory layout, on its device."""
    if hasattr(other, "device_mesh"):
        from torch.distributed.tensor import DTensor, distribute_tensor

        assert isinstance(other, DTensor)
        return distribute_tensor(value.to(other.device), other.device_mesh, other.placements)
    return torch.empty_like(other, dtype=value.dtype).copy_(value) if value.shape == other.shape else value
