"""One command on several devices: who this process is, how the others are started, and what they compute together."""

import logging
import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from neocog.core.errors import DivergedError, Interrupted, ResourceError, UsageError
from neocog.data.loader import Loader
from neocog.data.threads import cores
from neocog.evaluate import Outcome, evaluating, predict
from neocog.training.world import FirstFailed, World

GRACE = 25  # seconds for finishing a step and saving, once one process has ended


class LostContact(ResourceError):
    """Another process died or hangs, and nothing can be computed without it."""

    def __init__(self) -> None:
        super().__init__("another process of this run died or hangs", "`neocog resume` the run from its checkpoint")


@contextmanager
def joined(device: str) -> Iterator[World]:
    """The processes that `torchrun` started, as its environment describes them; this one alone without it. What the
    first process says, the others do not repeat."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield World()
        return
    world = join(device)
    try:
        yield world
    except RuntimeError as error:
        if not is_lost_contact(error):
            raise
        if not world.first or "NEOCOG_LAUNCHED" in os.environ:  # then the launcher says it
            raise SystemExit(ResourceError.exit_code) from None
        raise LostContact from error
    except (UsageError, DivergedError, Interrupted, FirstFailed) as error:
        if world.first:
            raise
        raise SystemExit(error.exit_code) from None
    finally:
        world.leave()


def join(device: str) -> World:
    rank, size, local_rank = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    cuda = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if device == "mps":
        raise UsageError("several processes cannot share a Mac's GPU", "use --device cpu, or one process")
    if cuda:
        if local_rank >= torch.cuda.device_count():
            raise UsageError(f"there are {torch.cuda.device_count()} GPUs for more processes", "start one for each")
        torch.cuda.set_device(local_rank)
    return World.join(
        rank, size, int(os.environ.get("LOCAL_WORLD_SIZE", size)), os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]), "cpu:gloo,cuda:nccl" if cuda else "gloo",
    )  # fmt: skip


def is_lost_contact(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or any(word in str(error) for word in ("gloo", "NCCL", "onnection"))


def threads_of(asked: int, world: World) -> int:
    """The threads that decode pictures: the processes of a host share its cores."""
    return asked or max(1, cores() // world.local_size)


def launch(processes: int, words: list[str], folder: Path) -> int:
    """Runs `neocog` with these words in so many processes of this machine, and returns the exit code: what the run
    itself left, or that of a signal. ResourceError where a process was killed."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in ("torch.distributed", "torch.distributed.elastic", "torch.distributed.run"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # the run speaks for itself
    os.environ |= {"NEOCOG_LAUNCHED": "1", "OMP_NUM_THREADS": str(max(1, cores() // processes))}
    config = LaunchConfig(
        1, 1, processes, run_id=uuid.uuid4().hex, rdzv_backend="c10d", rdzv_endpoint="localhost:0", max_restarts=0,
        shutdown_timeout=GRACE,
    )  # fmt: skip
    try:
        elastic_launch(config, sys.executable)("-m", "neocog", *words)
    except SignalException as error:
        return 128 + error.sigval
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode > 0:
            return failure.exitcode
        raise ResourceError(
            f"process {rank} of {processes} was killed by signal {-failure.exitcode}"
            + (", perhaps for lack of memory" if failure.exitcode == -9 else ""),
            f"`neocog resume {folder} --devices {processes}` goes on from the last checkpoint",
        ) from None
    return 0


def predict_together(network: nn.Module, loader: Loader, world: World, *, bf16: bool, divided: bool = False) -> Outcome:
    """Predictions on all rows of an evaluation loader, in their order, whole on every process. Each computes whole
    batches, so that a picture gets the same numbers as with one process. `divided`: the weights are (FSDP2), and
    every forward pass needs everybody."""
    autocast = torch.bfloat16 if bf16 else None
    if world.size == 1:
        return predict(network, loader.epoch(0), autocast=autocast)
    if divided and len(loader) < loader.rounds:
        size, device = loader.preprocessing.size, next(network.parameters()).device
        with evaluating(network), torch.no_grad():
            network(torch.zeros(1, loader.dataset.channels, size, size, device=device))
    own = predict(network, loader.epoch(0), autocast=autocast) if len(loader) else None
    indices = torch.from_numpy(own.indices) if own is not None else torch.zeros(0, dtype=torch.int64)
    beliefs = torch.from_numpy(own.probabilities) if own is not None else torch.zeros(0, loader.num_classes)
    rows = torch.cat(world.gather_rows(indices)).numpy()
    probabilities = torch.cat(world.gather_rows(beliefs)).numpy()
    place = np.empty(len(loader.dataset), np.int64)
    place[loader.rows] = np.arange(len(loader.rows))
    order = np.argsort(place[rows])
    return Outcome(rows[order], probabilities[order], loader.dataset.labels[rows[order]])
