"""What a real training step takes: the judge of predicted memory, for the tests and for bench/cost_training.py."""

import copy
import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from neocog.costs.memory import OPTIMIZERS
from neocog.explaining.steps import Steps


def allocated(
    network: nn.Module, shape: tuple[int, ...], batch: int, optimizer: str, *, bf16: bool = False,
    accumulate: int = 1, device: str = "cpu", layout: torch.memory_format = torch.channels_last,
    loss_of: Callable[[nn.Module, Tensor, Tensor], Tensor] = lambda network, x, y: F.cross_entropy(network(x), y),
    watch: bool = False,
) -> int:  # fmt: skip
    """Parameters, buffers, state and pictures, and on top the highest that a step's allocations ever stood, by the
    profiler's record of every allocation and release; on CUDA, max_memory_allocated. `watch`: with what `train --watch`
    asks around a step."""
    network = copy.deepcopy(network).to(device, memory_format=layout)
    updates = OPTIMIZERS[optimizer]([p for p in network.parameters() if p.requires_grad])
    x = torch.randn(batch, *shape, device=device).contiguous(memory_format=layout)
    labels = torch.zeros(batch, dtype=torch.long, device=device)

    steps = Steps(network) if watch else None

    def step() -> None:
        for _ in range(accumulate):
            with torch.autocast(device, torch.bfloat16, enabled=bf16):
                loss = loss_of(network, x, labels)
            loss.backward()
            del loss
        if steps:
            steps.before()
        updates.step()
        if steps:
            steps.after()
        updates.zero_grad(set_to_none=True)

    step()
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    changes = [e.nbytes() for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    state = [v for values in updates.state.values() for v in values.values() if isinstance(v, Tensor)]
    state += [] if steps is None else steps._old
    held = sum(t.nbytes for t in [*network.parameters(), *network.buffers(), *state, x, labels])
    return held + max(itertools.accumulate(changes))
