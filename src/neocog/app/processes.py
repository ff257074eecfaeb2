"""One command on several devices: who this process is, how the others are started, and what they compute together."""

import logging
import os
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from neocog.core.errors import DataError, DivergedError, Interrupted, ResourceError, UsageError
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
    place = Place.of_environment()
    if place.size == 1:
        yield World()
        return
    world: World | None = None
    try:
        world = join(device, place)
        yield world
    except RuntimeError as error:
        if not is_lost_contact(error):
            raise
        if place.rank or "NEOCOG_LAUNCHED" in os.environ:  # then the launcher says it
            raise SystemExit(ResourceError.exit_code) from None
        raise LostContact from error
    except FirstFailed:
        raise SystemExit(0) from None  # the first one's exit code is that of the job
    except (UsageError, DataError, DivergedError, Interrupted) as error:
        if place.rank == 0:
            raise
        raise SystemExit(error.exit_code) from None
    finally:
        if world is not None:
            world.leave()


class Place(NamedTuple):
    """Which of the processes that `torchrun` started this one is."""

    rank: int
    size: int
    local_rank: int
    local_size: int
    host: str
    port: int

    @classmethod
    def of_environment(cls) -> "Place":
        """UsageError where the variables that `torchrun` sets are incomplete."""
        if os.environ.get("WORLD_SIZE", "1") == "1":
            return cls(0, 1, 0, 1, "", 0)
        try:
            rank, size, local_rank, port = (
                int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT")
            )
            local_size = int(os.environ.get("LOCAL_WORLD_SIZE", size))
            return cls(rank, size, local_rank, local_size, os.environ["MASTER_ADDR"], port)
        except (KeyError, ValueError) as error:
            raise UsageError(
                f"WORLD_SIZE is {os.environ['WORLD_SIZE']!r}, but what else torchrun sets is missing or no number "
                f"({error})", "start with torchrun or --devices, or unset WORLD_SIZE",
            ) from None  # fmt: skip


def join(device: str, place: Place) -> World:
    cuda = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if device == "mps":
        raise UsageError("several processes cannot share a Mac's GPU", "use --device cpu, or one process")
    if cuda:
        if place.local_rank >= torch.cuda.device_count():
            raise UsageError(f"there are {torch.cuda.device_count()} GPUs for more processes", "start one for each")
        torch.cuda.set_device(place.local_rank)
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    return World.join(place.rank, place.size, place.local_size, place.host, place.port, backend)


def is_lost_contact(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or any(word in str(error) for word in ("gloo", "NCCL", "onnection"))


def threads_of(asked: int, world: World) -> int:
    """The threads that decode pictures: the processes of a host share its cores."""
    return asked or max(1, cores() // world.local_size)


def launch(processes: int, words: list[str], folder: Path, spent: float) -> int:
    """Runs `neocog` with these words in so many processes of this machine, and returns the exit code: what the run
    itself left, or that of a signal. ResourceError where a process was killed."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in [*logging.root.manager.loggerDict]:
        if name.startswith("torch"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # the run speaks for itself
    os.environ["NEOCOG_STARTED"] = str(time.monotonic() - spent)
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
