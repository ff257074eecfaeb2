"""How long a pass will take, measured on this machine before it is promised."""

import copy
import time
from statistics import median

import torch
from torch import nn

from neocog.core.contracts import Task
from neocog.training.contracts import Loader, Regime


def seconds_per_batch(
    network: nn.Module, task: Task, loader: Loader, regime: Regime, epoch: int, *, bf16: bool, steps: int = 4
) -> float:
    """The median over up to `steps` real batches, loading, forward and backward, after one that warms up; less
    than `steps` once five seconds have passed. It runs on a copy: the network, and every random number of the
    run, stay as they were."""
    twin = copy.deepcopy(network)
    regime.enter(twin, epoch)
    device = next(network.parameters()).device
    times: list[float] = []
    started = beginning = time.monotonic()
    with torch.random.fork_rng():
        for batch in loader.epoch(epoch):
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                step = task.step(twin, batch, torch.default_generator)
            step.loss.backward()  # type: ignore[no-untyped-call]
            step.loss.item()  # waits for the device
            now = time.monotonic()
            times.append(now - started)
            started = now
            if len(times) > steps or (len(times) > 1 and now - beginning > 5):
                break
    return median(times[1:] or times)
