"""An autoencoder's run where it is not a classifier's: how it is judged while it learns, and what is kept of it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neocog.app import settings
from neocog.app.building import evaluation_loader, make_reconstruct, noise_of, training_loader
from neocog.app.codes import Size
from neocog.app.learning import Learner, Probe, probed
from neocog.app.machine import Machine
from neocog.app.reconstruction_report import page_of
from neocog.app.records import Record
from neocog.app.reporting import write_report
from neocog.app.run import CODES, RECONSTRUCTIONS
from neocog.app.zoo import Loaded
from neocog.core.autoencoder import Autoencoder, Coded, Layered
from neocog.core.config import TrainConfig
from neocog.core.contracts import Batch
from neocog.core.errors import DivergedError, UsageError
from neocog.core.files import write_array
from neocog.core.noise import Noise
from neocog.core.spec import Preprocessing
from neocog.data.dataset import Dataset
from neocog.data.loader import Loader
from neocog.data.preprocess import denormalise
from neocog.evaluate import evaluating
from neocog.evaluate.reconstructions import Reconstructions, summarise_reconstructions
from neocog.metrics.bound import bounds
from neocog.metrics.similarity import median_filtered, psnr, ssim
from neocog.tasks.reconstruction import distance, divergence
from neocog.training.world import World

if TYPE_CHECKING:
    from neocog.app.session import Session

BASELINE_SECONDS = 10.0  # for what the code is held against, on two cores with MNIST's pictures
BOUNDS = ("bound", "tighter_bound")
BOUNDED = 1000  # pictures whose bounds are estimated
SAMPLES = 64  # codes of each
FILTERED = ("gaussian", "salt_pepper")  # noise that a median filter is for
ENERGIES = 2000  # pictures whose free energy is watched


def refuse_several(config: TrainConfig, world: World) -> None:
    """UsageError for what only one process can learn: it takes gradients of its own, past those that are shared."""
    own = [name for name in ("contractive", "cd_steps") if getattr(config, name)]
    if config.task == "reconstruction" and (config.noise or "").startswith("adversarial"):
        own.append("noise adversarial")
    if world.size > 1 and own:
        raise UsageError(f"{own[0]} cannot be learned by several processes", "leave --devices out")


def describe(loaded: Loaded, preprocessing: Preprocessing) -> Iterator[tuple[str, str]]:
    """How narrow the code is."""
    network = loaded.network
    assert isinstance(network, Autoencoder)
    size = Size.of(network, preprocessing.size)
    yield "code", f"{size} for the {size.values:,}{' numbers' if size.book else ''} of a picture"
    if size.excess:
        yield (
            "warning",
            f"a code of {size.count:,} numbers is larger than a picture: it can be copied without learning anything "
            "about pictures; give a smaller --latent, --sparse or --noise",
        )


def learner(
    config: TrainConfig, dataset: Dataset, loaded: Loaded, preprocessing: Preprocessing, machine: Machine,
    world: World, each: float,
) -> Learner:  # fmt: skip
    """`each`: seconds of an evaluation batch."""
    loader = training_loader(config, dataset, preprocessing, machine, world)
    noise = noise_of(config)
    validation = evaluation_loader(
        dataset, dataset.rows("val"), preprocessing, machine, config.threads, world, noise=noise
    )
    learned_from = dataset.rows("train")[:: max(1, len(dataset.rows("train")) // ENERGIES)][:ENERGIES]
    learned = evaluation_loader(dataset, learned_from, preprocessing, machine, config.threads, world, noise=noise)
    recipe = settings.make_recipe(config, bf16=machine.bf16)

    def validate(network: nn.Module) -> dict[str, float] | None:
        if len(validation.rows) == 0:
            return None
        found = judged(network, validation.epoch(0), config, preprocessing, world, bf16=machine.bf16)
        if isinstance(network, Layered) and (energy := free_energy(network, validation)) is not None:
            trained = free_energy(network, learned)
            assert trained is not None
            found |= {"free_energy": energy, "free_energy_gap": energy - trained}
        return found

    def probe() -> Probe:
        of, rows = probed(dataset)
        batches = list(evaluation_loader(dataset, rows, preprocessing, machine, config.threads, noise=noise).epoch(0))
        return Probe(batches, of, machine.bf16, loss_of)

    def loss_of(network: nn.Module, batches: Sequence[Batch]) -> float:
        return judged(network, batches, config, preprocessing, World(), bf16=machine.bf16)["loss"]

    regime = settings.make_regime(config)
    return Learner(loaded.network, loader, recipe, regime, validate, each * validation.rounds, probe)


def judged(
    network: nn.Module, batches: Iterable[Batch], config: TrainConfig, preprocessing: Preprocessing, world: World, *,
    bf16: bool,
) -> dict[str, float]:  # fmt: skip
    """The loss without what training adds to it (noise on the code, an adversarial step), and the mean PSNR in dB."""
    assert isinstance(network, Autoencoder)
    task = make_reconstruct(config, preprocessing)
    losses = psnrs = 0.0
    count = 0
    for batch, coded, logits in stream(network, batches, bf16=bf16):
        loss = distance(logits, batch.targets, task.distance)
        if coded.mean is not None and coded.log_variance is not None:
            loss = loss + config.beta * divergence(coded.mean, coded.log_variance).mean() / logits[0].numel()
        n = len(batch.indices)
        losses += float(loss) * n
        psnrs += float(psnr(logits.sigmoid(), batch.targets).clamp(max=100).sum())
        count += n
    losses, psnrs, number = (sum(one[i] for one in world.gather([losses, psnrs, float(count)])) for i in range(3))
    if not np.isfinite(losses):
        raise DivergedError("the reconstructions are not finite", "train again with a smaller --lr")
    return {"loss": losses / number, "psnr": psnrs / number}


@torch.inference_mode()
def free_energy(network: Layered, loader: Loader) -> float | None:
    """The mean over at most ENERGIES pictures, of the machine that learns now; None where none learns alone. What
    counts is the gap between pictures that it learned from and others, which grows as it learns them by heart (Hinton,
    "A Practical Guide to Training Restricted Boltzmann Machines", 2010, section 6)."""
    total, count = 0.0, 0
    for batch in loader.epoch(0):
        learning = network.learning(batch.images)
        if learning is None or count >= ENERGIES:
            break
        layer, seen = learning
        total += float(layer.free_energy(seen.float()).sum())
        count += len(seen)
    return total / count if count else None


def stream(network: Autoencoder, batches: Iterable[Batch], *, bf16: bool) -> Iterator[tuple[Batch, Coded, Tensor]]:
    """(batch, codes, logits) of each batch, in eval mode and without gradients."""
    device = next(network.parameters()).device
    with evaluating(network):
        for batch in batches:
            with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                coded = network.coded(batch.images)
                size = (batch.images.shape[-2], batch.images.shape[-1])
                logits = network.decode(coded.code, size, coded.switches).float()
            yield batch, coded, logits


@dataclass(frozen=True)
class Outcome:
    """What came out for every picture kept from training, and its code, (N, D) float32."""

    found: Reconstructions
    codes: NDArray[np.float32]


def evaluate(session: "Session") -> Outcome:
    """Every picture that was kept from training, validation first. Every process computes all."""
    data, network = session.dataset, session.loaded.network
    assert isinstance(network, Autoencoder)
    rows = np.concatenate([data.rows("val"), data.rows("test")])
    return reconstruct(network, data, rows, session.preprocessing, session.machine, session.config)


def reconstruct(
    network: Autoencoder, data: Dataset, rows: NDArray[np.int64], preprocessing: Preprocessing, machine: Machine,
    config: TrainConfig,
) -> Outcome:  # fmt: skip
    """What the network gives back of these pictures, made worse as in training, in their order and full precision."""
    noise = noise_of(config)

    def loader(rows: NDArray[np.int64]) -> Loader:
        return evaluation_loader(data, rows, preprocessing, machine, config.threads, noise=noise)

    columns: dict[str, list[NDArray[np.float64]]] = {}
    codes: list[NDArray[np.float32]] = []
    for batch, coded, logits in stream(network, loader(rows).epoch(0), bf16=False):
        codes.append(coded.code.flatten(1).float().cpu().numpy())
        for name, values in measures(batch, coded, logits, preprocessing, noise):
            columns.setdefault(name, []).append(values.double().cpu().numpy())
    found = {name: np.concatenate(parts) for name, parts in columns.items()}
    if network.probabilistic:
        # The first test pictures; of what has no test, the first of all.
        tests = np.flatnonzero(data.splits[rows] == "test")
        places = (tests if len(tests) else np.arange(len(rows)))[:BOUNDED]
        for name, nats in zip(BOUNDS, bounds_of(network, loader(rows[places]), config), strict=True):
            found[name] = np.full(len(rows), np.nan)
            found[name][places] = nats
    numbers = rows.tolist()
    outcome = Reconstructions(
        [data.files[i] for i in numbers], [str(data.splits[i]) for i in numbers],
        [data.classes[data.labels[i]] for i in numbers], found,
    )  # fmt: skip
    return Outcome(outcome, np.concatenate(codes))


def measures(
    batch: Batch, coded: Coded, logits: Tensor, preprocessing: Preprocessing, noise: Noise | None
) -> Iterator[tuple[str, Tensor]]:
    """(name, (B,)) of `neocog.evaluate.reconstructions.MEASURES`."""
    pictures = logits.sigmoid()
    yield "mse", (pictures - batch.targets).square().flatten(1).mean(1)
    yield "psnr", psnr(pictures, batch.targets)
    yield "ssim", ssim(pictures, batch.targets)
    if noise is not None and noise.kind not in ("none", "binary"):
        seen = denormalise(batch.images, preprocessing)
        yield "input_psnr", psnr(seen, batch.targets)
        if noise.kind in FILTERED:
            yield "median_psnr", psnr(median_filtered(seen.clamp(0, 1)), batch.targets.cpu())
    yield "zeros", (coded.code == 0).flatten(1).float().mean(1)


def bounds_of(
    network: Autoencoder, loader: Loader, config: TrainConfig
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # fmt: skip
    """Both bounds of every picture, from SAMPLES codes drawn by the run's seed."""
    generator = torch.Generator().manual_seed(config.seed)
    plain, tighter = [], []
    for batch, coded, _ in stream(network, loader.epoch(0), bf16=False):
        assert coded.mean is not None
        assert coded.log_variance is not None
        with torch.inference_mode():
            found = bounds(network.decode, batch.targets, coded.mean, coded.log_variance, SAMPLES, generator)
        plain.append(found.plain.double().cpu().numpy())
        tighter.append(found.tighter.double().cpu().numpy())
    return np.concatenate(plain), np.concatenate(tighter)


def keep(session: "Session", record: Record, outcome: Outcome) -> None:
    """Writes `reconstructions.csv`, `codes.npy` and the report."""
    outcome.found.write(session.folder / RECONSTRUCTIONS)
    write_array(session.folder / CODES, outcome.codes)
    found = Reconstructions.read(session.folder / RECONSTRUCTIONS)  # as everybody reads it, to nine digits
    record.results = {name: summarise_reconstructions(found.of(name)) for name in dict.fromkeys(found.split)}
    split = "test" if "test" in found.split else "val"
    page = page_of(session, split, found, outcome.codes)
    for text in page.shortfalls:
        session.events.emit("note", label="warning", text=text)
    write_report(session, record, page)
