"""The parts of a run, each built from its settings."""

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from neocog.app.machine import Machine
from neocog.app.zoo import Loaded, load_model
from neocog.core.autoencoder import Autoencoder, Layered
from neocog.core.config import TrainConfig
from neocog.core.contracts import Network
from neocog.core.errors import UsageError
from neocog.core.head import HeadSpec
from neocog.core.noise import Noise, Sparsity
from neocog.core.registry import Entry, lookup
from neocog.core.spec import Preprocessing
from neocog.data.augment import Augment
from neocog.data.dataset import Dataset
from neocog.data.loader import Loader
from neocog.layers.init import initialise
from neocog.tasks.classification import Classification, Loss, balanced_weights
from neocog.tasks.divergence import ContrastiveDivergence
from neocog.tasks.reconstruction import Reconstruct
from neocog.training.world import World
from neocog.transfer.heads import attach, width_of
from neocog.transfer.regimes import classifier_of

EVALUATION_BATCH = 64
# What the data or a setting of its own decides.
SETTINGS = {
    "num_classes": "the classes are those of the data",
    "in_channels": "use --channels",
    "image_size": "use --image-size",
}


def knobs_of(config: TrainConfig, entry: Entry, size: int) -> dict[str, Any]:
    """The network's own options: those given, with the settings that only some networks take."""
    takes = inspect.signature(entry.build).parameters
    knobs: dict[str, Any] = dict(config.knobs)
    for name, instead in SETTINGS.items():
        if name in knobs:
            raise UsageError(f"{name} is no --knob", instead)
    if config.dropout is not None:
        if "dropout" not in takes:
            raise UsageError(f"{entry.spec.name} has no dropout", "leave --dropout out")
        knobs["dropout"] = config.dropout
    if "image_size" in takes:
        knobs["image_size"] = size
    return knobs | code_knobs(config, entry, takes)


def code_knobs(config: TrainConfig, entry: Entry, takes: Mapping[str, object]) -> dict[str, Any]:
    """What the settings say of an autoencoder's code."""
    knobs: dict[str, Any] = {}
    if config.latent is not None:
        knobs["latent"] = config.latent
    if config.sparse is not None:
        sparse = Sparsity.parse(config.sparse)
        if sparse.kind == "k":
            knobs["keep"] = int(sparse.strength)
        elif "act" not in config.knobs:  # activations that can be 0, or probabilities
            knobs["act"] = "relu" if sparse.kind == "l1" else "sigmoid"
    for name in knobs:
        if name not in takes:
            option = "latent" if name == "latent" else "sparse"
            raise UsageError(f"{entry.spec.name} has no {name}", f"leave --{option} out")
    return knobs


def build_network(config: TrainConfig, dataset: Dataset, size: int) -> Loaded:
    """The network with its starting weights and the head that the settings ask for."""
    entry = lookup(config.model)
    if len(entry.spec.input_shape) != 3:
        raise UsageError(f"{entry.spec.name} takes vectors, not pictures", "`neocog models` shows each network's input")
    knobs = knobs_of(config, entry, size)
    torch.manual_seed(config.seed)
    classes = len(dataset.classes) if config.task == "classification" else 0
    loaded = load_model(
        config.model, weights=config.weights, num_classes=classes, in_channels=dataset.channels, knobs=knobs
    )
    network = loaded.network
    check_size(entry.spec.name, network, size)
    if config.init != "paper":
        if config.weights is not None:
            raise UsageError("--init is for networks that start from nothing", "leave --init or --weights out")
        initialise(network, config.init)
    if not classes:
        return loaded
    return with_head(config, loaded, len(dataset.rows("train")) * max(config.views or 0, 1))


def with_head(config: TrainConfig, loaded: Loaded, pictures: int) -> Loaded:
    """The network with the head that the settings ask for. Embeddings are vectors: where the network's own classifier
    reads maps, regime features puts a linear one on their mean. `pictures`: rows that knn compares with."""
    network = loaded.network
    stage = config.stage
    own = config.head == "linear" or (config.head == "svm" and loaded.head is None)
    if stage is None and not width_of(classifier_of(network)) and (config.regime == "features" or not own):
        stage = list(dict(network.stages.named_children()))[-1] if len(network.stages) else None
    if stage is None and own:
        return loaded
    kind = "linear" if config.head == "svm" else config.head
    spec = HeadSpec(
        kind=kind, stage=stage or (loaded.head.stage if loaded.head else None),
        hidden=config.hidden if kind == "mlp" else None,
        pictures=pictures if kind == "knn" else None,
    )  # fmt: skip
    attach(network, spec)
    where = f"on the mean of {spec.stage}" if spec.stage else "in the place of the network's own"
    return replace(loaded, head=spec, notes=[*loaded.notes, f"{config.head} classifier {where}"])


def check_size(name: str, network: Network, size: int, option: str = "--image-size {}") -> None:
    """UsageError where the network does not take pictures of `size` pixels; `option` is how a size is given."""
    if network.fixed_size is not None and size != network.fixed_size:
        wanted = network.fixed_size
        raise UsageError(f"{name} takes {wanted} x {wanted} pixels, not {size}", f"use {option.format(wanted)}")
    if size < network.min_size:
        least = network.min_size
        raise UsageError(f"{name} needs at least {least} x {least} pixels, not {size}", f"use {option.format(least)}")


def choose_preprocessing(
    own: Preprocessing | None, resize: int, size: int, dataset: Dataset, task: str = "classification"
) -> Preprocessing:  # fmt: skip
    """The weights' own mean and std; for a network that starts from nothing, those of the training pictures."""
    if own is not None:
        return Preprocessing(size, resize, own.mean, own.std, own.interpolation)
    if task == "reconstruction":  # what goes in is what shall come out, in 0..1
        return Preprocessing(size, resize, (0.0,) * dataset.channels, (1.0,) * dataset.channels)
    mean, std = dataset.mean_std(dataset.rows("train"))
    return Preprocessing(size, resize, mean, std)


def make_augment(config: TrainConfig) -> Augment:
    keys = ("crop", "crop_pad", "crop_scale", "flip", "rotation", "colour", "erasing", "mixup", "cutmix")
    noise = Noise.parse(config.noise or "none")
    # An autoencoder's noise is not on its target, and the adversarial step is the task's.
    added = noise.strength if config.task != "reconstruction" and noise.kind == "gaussian" else 0.0
    return Augment(noise=added, **{key: getattr(config, key) for key in keys})


def make_task(
    config: TrainConfig, dataset: Dataset, preprocessing: Preprocessing, device: torch.device
) -> Classification | Reconstruct | ContrastiveDivergence:  # fmt: skip
    if config.task == "reconstruction":
        rest = make_reconstruct(config, preprocessing)
        if config.cd_steps is None:
            return rest
        return ContrastiveDivergence(rest, config.cd_steps, config.persistent)
    weights = None
    if config.class_weights == "balanced":
        counts = np.bincount(dataset.labels[dataset.rows("train")], minlength=len(dataset.classes))
        weights = balanced_weights(torch.from_numpy(counts).float()).to(device)
    loss: Loss = "margin" if config.loss == "margin" else "cross_entropy"
    return Classification(
        config.label_smoothing, weights, loss, adversarial=config.adversarial, preprocessing=preprocessing
    )


def make_reconstruct(config: TrainConfig, preprocessing: Preprocessing) -> Reconstruct:
    assert config.loss != "auto"
    assert config.loss != "margin"
    sparse = Sparsity.parse(config.sparse) if config.sparse else None
    return Reconstruct(
        config.loss, sparse=sparse if sparse and sparse.kind != "k" else None, contractive=config.contractive,
        beta=config.beta, annealed=config.annealed,
        adversarial=config.adversarial, std=torch.tensor(preprocessing.std),
    )  # fmt: skip


def choose_loss(config: TrainConfig, network: Network) -> TrainConfig:
    """The settings with the loss that fits the network's scores where it is `auto`."""
    if config.task == "reconstruction":
        assert isinstance(network, Autoencoder)
        layered = isinstance(network, Layered)
        usual = "cross_entropy" if network.probabilistic or layered else "squared"
        if not layered and (config.cd_steps is not None or config.persistent):
            raise UsageError(f"{config.model} is no Boltzmann machine", "leave --cd-steps and --persistent out")
        if config.beta != 1 and not network.probabilistic:
            raise UsageError(f"{config.model} has no variational code", "leave --beta out, or use vae or conv_vae")
        steps = (config.cd_steps or 1) if layered else None
        return config.model_copy(update={"loss": usual if config.loss == "auto" else config.loss, "cd_steps": steps})
    lengths = network.scores == "lengths"
    if config.loss == "auto":
        config = config.model_copy(update={"loss": "margin" if lengths else "cross_entropy"})
    if config.loss == "margin" and not lengths:
        raise UsageError(f"the margin loss asks for lengths, and {config.model} gives logits", "use --loss auto")
    if config.loss == "margin" and config.label_smoothing:
        raise UsageError("label smoothing does not apply to the margin loss", "leave --label-smoothing out")
    return config


def training_loader(
    config: TrainConfig, dataset: Dataset, preprocessing: Preprocessing, machine: Machine, world: World | None = None
) -> Loader:
    """UsageError where the batches are too small to be shared by so many processes."""
    world = world or World()
    rows = dataset.rows("train")
    if world.size > 1 and min(config.batch, len(rows)) < 2 * world.size:
        cause = f"{min(config.batch, len(rows))} pictures a batch are too few for {world.size} processes"
        raise UsageError(cause, f"at least {2 * world.size} are needed: raise --batch-size or use fewer processes")
    return Loader(
        dataset, rows, preprocessing=preprocessing, batch_size=config.batch, augment=make_augment(config),
        seed=config.seed, shuffle=True, device=machine.device, channels_last=machine.channels_last,
        threads=config.threads, rank=world.rank, world_size=world.size, noise=noise_of(config),
    )  # fmt: skip


def noise_of(config: TrainConfig) -> Noise | None:
    """What is done to the pictures of an autoencoder; None for a classifier. The adversarial step is the task's."""
    if config.task != "reconstruction":
        return None
    noise = Noise.parse(config.noise or "none")
    return Noise() if noise.kind == "adversarial" else noise


def evaluation_loader(
    dataset: Dataset, rows: "np.typing.NDArray[np.int64]", preprocessing: Preprocessing, machine: Machine, threads: int,
    world: World | None = None, noise: Noise | None = None,
) -> Loader:  # fmt: skip
    """`noise`: what is done to the pictures, which then are their own targets."""
    world = world or World()
    return Loader(
        dataset, rows, preprocessing=preprocessing, batch_size=EVALUATION_BATCH, device=machine.device,
        channels_last=machine.channels_last, threads=threads, rank=world.rank, world_size=world.size, noise=noise,
    )  # fmt: skip
