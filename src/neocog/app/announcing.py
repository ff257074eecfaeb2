"""The first lines of a run: what was found, what was chosen, what it will cost."""

import math
from collections.abc import Iterator
from typing import Any

from neocog.app.costing import StepMemory
from neocog.app.machine import Machine, available_memory
from neocog.app.zoo import Loaded
from neocog.core.config import TrainConfig
from neocog.core.registry import lookup
from neocog.core.spec import Preprocessing
from neocog.core.words import counted
from neocog.costs.count import count
from neocog.data.dataset import Dataset
from neocog.evaluate import Predictions
from neocog.training.budget import Budget, Pace
from neocog.training.world import World

Note = tuple[str, str]  # label, text
SEVERAL = 10  # pictures: of fewer, that all get one answer says little


def describe_data(dataset: Dataset) -> Iterator[Note]:
    sizes = ", ".join(f"{name} {len(dataset.rows(name)):,}" for name in ("train", "val", "test"))
    excluded = len(dataset.scan.excluded)
    kinds = "without classes" if dataset.unlabelled else f"in {counted(len(dataset.classes), 'class', 'classes')}"
    colour = {1: "grey", 3: "colour"}.get(dataset.channels, f"{dataset.channels} channels")
    yield (
        "pictures",
        f"{len(dataset.files):,} {kinds} ({sizes}), {colour}; {excluded} excluded",
    )
    for warning in dataset.warnings:
        yield "warning", warning


def describe_answers(predictions: Predictions) -> Iterator[str]:
    """What accuracy alone does not say: that all pictures of several classes got the same answer."""
    answers = set(predictions.predicted.tolist())
    if len(predictions.labels) >= SEVERAL and len(answers) == 1 and len(set(predictions.labels.tolist())) > 1:
        name = predictions.classes[answers.pop()]
        yield (
            f"every picture is called {name!r}: nothing was learned that tells the classes apart; try another --lr or "
            "--init, start from --weights, or train longer"
        )


def describe_rivals(numbers: dict[str, Any], pca: float | None = None, components: int = 0) -> Iterator[str]:
    """What an autoencoder's own numbers do not say: that something simpler does better. `numbers`: of
    `summarise_reconstructions`; `pca`: the mean squared error of so many principal components on the same pictures."""
    if pca is not None and numbers["mse"] > pca:
        yield (
            f"PCA with {counted(components, 'component')} gives these pictures back better: its squared error is "
            f"{pca:.5f}, the network's {numbers['mse']:.5f}; train longer, or try another --lr or a larger --latent"
        )
    rivals = {
        "input_psnr": "the pictures as the network saw them are",
        "median_psnr": "a median filter of 3 x 3 pixels makes them",
    }
    better = [
        f"{what} better ({numbers[name]:.2f} dB)"
        for name, what in rivals.items() if numbers.get(name, -math.inf) > numbers["psnr"]
    ]  # fmt: skip
    if better:
        yield (
            f"{' and '.join(better)} than what it gives back ({numbers['psnr']:.2f} dB); train longer, or keep more of "
            "a picture: a larger --latent, or --knob code=spatial --knob halvings=1"
        )


def describe_network(
    config: TrainConfig, loaded: Loaded, preprocessing: Preprocessing, machine: Machine, world: World
) -> Iterator[Note]:
    network = loaded.network
    shape = (network.in_channels, preprocessing.size, preprocessing.size)
    facts = count(network, shape)
    yield (
        "network",
        f"{lookup(config.model).spec.name}, {facts.params:,} parameters, "
        f"{facts.macs / 1e6:,.1f} million multiply-accumulates a picture of {' x '.join(str(n) for n in shape)}",
    )
    start = loaded.provenance.get("weights", f"nothing ({config.init} initialisation)")
    yield "start", f"from {start}; regime {config.regime}"
    for remark in loaded.notes:
        yield "weights", remark
    if config.colour and network.in_channels not in (1, 3):
        yield "colour", f"the {network.in_channels} channels change brightness and contrast alike, no saturation"
    yield "machine", machine.describe() + describe_world(config, world)
    if config.regime != "features":  # which takes no steps through the network
        yield from describe_memory(config, loaded, shape, machine, world)


def describe_world(config: TrainConfig, world: World) -> str:
    if world.size == 1:
        return ""
    norm = "batch norm over all" if config.sync_batch_norm else "batch norm in each"
    return f"; {world.size} processes, {'FSDP2' if config.shard else 'DDP'}, {norm}"


def describe_memory(
    config: TrainConfig, loaded: Loaded, shape: tuple[int, ...], machine: Machine, world: World
) -> Iterator[Note]:
    """What a step needs beside the pictures that are held in memory, and what would fit."""
    share = math.ceil(config.batch / world.size)
    step = StepMemory(loaded.network, shape, config.model_copy(update={"batch_size": share}), machine)
    peak = step(share).peak
    free, where = available_memory(machine.device)
    each = " in each process" if world.size > 1 else ""
    yield (
        "memory",
        f"{size(peak)} for a step of {counted(share, 'picture')}{each}; {size(free)} {where}, enough for about "
        f"{rounded(step.about(free)):,} pictures a step",
    )
    if peak > free:
        yield "warning", "a step will not fit into memory: use a smaller --batch-size or --image-size"


def describe_length(
    config: TrainConfig, pace: Pace, budget: Budget | None, batches: int, after: float
) -> Iterator[Note]:
    """How long the run will be, and what was measured to say so. `batches`: of an epoch; `after`: seconds that follow
    each."""
    how = f"{config.optimizer}, rate {config.lr:g} {config.schedule}, augmentation {config.augment}"
    if budget is not None:
        planned = budget.plan(0)
        yield (
            "time",
            f"{duration(budget.seconds)}, of which {duration(budget.spent)} are gone; measured: {seconds_of(pace)} a "
            f"batch, {duration(budget.validation)} a validation; kept for the end: {duration(budget.ending)}",
        )
        if planned < batches:
            yield "warning", f"the time is enough for {planned / batches:.0%} of one pass over the pictures"
        if planned <= pace.head_batches:
            yield "warning", "the time is enough for the new classifier only; the rest of the network will not learn"
        yield (
            "training",
            f"{counted(planned, 'batch', 'batches')} of {config.batch} ({planned / batches:.1f} epochs) fit, "
            f"planned again as it goes; {how}",
        )
        return
    assert config.epochs is not None
    total = config.epochs * batches
    head = min(pace.head_batches, total)
    parts = ((pace.first, head), (pace.later, total - head))
    each = [duration(seconds * batches + after) for seconds, number in parts if number]
    yield (
        "training",
        f"{config.epochs} x {counted(batches, 'batch', 'batches')} of {config.batch}, {how}; "
        f"about {', then '.join(each)} an epoch, {duration(pace.seconds(0, total) + after * config.epochs)} in all",
    )


def seconds_of(pace: Pace) -> str:
    if not pace.head_batches:
        return f"{pace.later:.3f} s"
    return f"{pace.first:.3f} s (later {pace.later:.3f} s)"


def rounded(number: int) -> int:
    """To two digits: 164782 is about 160000."""
    return int(float(f"{number:.2g}"))


def size(value: float) -> str:
    """Bytes for people: 42 MiB, 1.3 GiB."""
    return f"{value / 2**30:.1f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"


def duration(value: float) -> str:
    """Seconds for people: 12 ms, 1.3 s, 42 s, 2.5 min, 30 min, 2.5 h."""
    if value < 0.0995:
        return f"{1000 * value:.0f} ms"
    if value < 100:
        return f"{value:.1f} s" if value < 9.95 else f"{value:.0f} s"
    if value < 597:
        return f"{value / 60:.1f} min"
    return f"{value / 60:.0f} min" if value < 6000 else f"{value / 3600:.1f} h"
