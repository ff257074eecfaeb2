"""How long a pass will take, measured on this machine before it is promised."""

import copy
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import nn

from neocog.core.contracts import Task
from neocog.training.contracts import Loader, Regime

MOST, LEAST, SECONDS = 12, 4, 8.0  # batches, and the time after which LEAST are enough


def seconds_per_batch(
    network: nn.Module, task: Task, loader: Loader, regime: Regime, epoch: int, *, bf16: bool, most: int = MOST
) -> float:
    """Loading, forward and backward of real batches: the median of the second half of up to `most`. It runs on a copy:
    the network, and every random number of the run, stay as they were."""
    twin = copy.deepcopy(network)
    regime.enter(twin, epoch)
    device = next(network.parameters()).device
    batches = loader.epoch(epoch)

    def step() -> bool:
        batch = next(batches, None)
        if batch is None:
            return False
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = task.step(twin, batch, torch.default_generator).loss
        loss.backward()  # type: ignore[no-untyped-call]
        loss.item()  # waits for the device
        return True

    with torch.random.fork_rng():
        return settled_seconds(step, most)


def seconds_per_evaluation(network: nn.Module, loader: Loader, *, bf16: bool) -> float:
    """Loading and forward of an evaluation batch; 0 where there is none."""
    if len(loader) == 0:
        return 0.0
    device = next(network.parameters()).device
    batches = loader.epoch(0)
    was = [module.training for module in network.modules()]
    network.eval()

    def step() -> bool:
        batch = next(batches, None)
        if batch is None:
            return False
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            network(batch.images).sum().item()
        return True

    try:
        return settled_seconds(step)
    finally:
        for module, training in zip(network.modules(), was, strict=True):
            module.training = training


def settled_seconds(step: Callable[[], bool], most: int = MOST) -> float:
    """The median time of a step once it has settled. The first ones are slower, up to twice: memory is faulted in,
    kernels are chosen. `step` returns False where there was nothing left to do."""
    times: list[float] = []
    started = beginning = time.monotonic()
    while step():
        now = time.monotonic()
        times.append(now - started)
        started = now
        if len(times) >= most or (len(times) >= LEAST and now - beginning > SECONDS):
            break
    return median(times[len(times) // 2 :])
