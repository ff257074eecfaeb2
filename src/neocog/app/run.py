"""A finished run, opened from its folder."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neocog.app.machine import Machine, choose_machine
from neocog.app.zoo import open_network
from neocog.core.config import TrainConfig, load_config
from neocog.core.contracts import Network
from neocog.core.errors import DataError, UsageError
from neocog.data.decode import DecodeOptions
from neocog.data.preprocess import normalise
from neocog.data.stream import find_pictures, stream
from neocog.evaluate import Predictions, evaluating, probabilities_of, summarise
from neocog.evaluate.reconstructions import Reconstructions, summarise_reconstructions
from neocog.export.bundle import ModelCard, read_card

RECONSTRUCTIONS = "reconstructions.csv"
CODES = "codes.npy"
FOLDS = "folds.json"  # lies in a folder of several runs


class Seen(NamedTuple):
    """Some pictures as a network takes them. `failures`: (file, why it could not be read)."""

    files: list[Path]
    images: Tensor  # (B, C, S, S), on the machine's device
    sizes: list[tuple[int, int]]  # (height, width) of the pictures themselves
    failures: list[tuple[Path, str]]


class Prediction(NamedTuple):
    """One picture's answer: `label` and its `probability`, all classes' `probabilities` (K,); for a file that
    cannot be read, `label` is None and `problem` says why."""

    file: Path
    label: str | None
    probability: float
    probabilities: NDArray[np.float32]
    problem: str = ""


@dataclass(frozen=True)
class Run:
    """`Run.open(path)`: the settings, classes, numbers and network of a finished run."""

    folder: Path

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """ModelFileError where the folder holds no finished run. Runs no code of the folder's."""
        folder = Path(path)
        if not folder.is_dir():
            raise UsageError(f"the run folder {folder} does not exist", "give a folder that `neocog train` made")
        if (folder / FOLDS).is_file():
            raise UsageError(f"{folder} holds the runs of several folds", f"give one of them, such as {folder}/fold-01")
        run = cls(folder)
        assert run.card  # read and checked now rather than later
        return run

    @cached_property
    def card(self) -> ModelCard:
        return read_card(self.folder / "model")

    @cached_property
    def config(self) -> TrainConfig:
        return load_config(self.folder / "config.toml", {})

    @property
    def origin(self) -> str:
        """Where the weights are from, in words."""
        return f"run {self.folder}"

    @property
    def classes(self) -> list[str]:
        return self.card.classes

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    def predictions(self, split: str = "test") -> Predictions:
        """What the run said about the pictures kept from training: `split` is "val" or "test". UsageError where it is
        an autoencoder's."""
        path = self.folder / "predictions.csv"
        if not path.is_file():
            self.must_be("classification", "classifies nothing")
        found = Predictions.read(path).of(split)
        if not found.files:
            raise DataError(f"{self.folder}/predictions.csv has no {split} pictures", "ask for val or test")
        return found

    def has(self, split: str) -> bool:
        """Whether the run kept pictures of this set from training."""
        if self.card.task == "reconstruction":
            return split in Reconstructions.read(self.folder / RECONSTRUCTIONS).split
        return split in Predictions.read(self.folder / "predictions.csv").split

    def metrics(self, split: str = "test") -> dict[str, Any]:
        """Every reported number (`neocog.evaluate.summarise`), recomputed from predictions.csv; of an autoencoder
        (`neocog.evaluate.reconstructions`) from reconstructions.csv."""
        if self.card.task == "reconstruction":
            return summarise_reconstructions(self.reconstructions(split))
        return summarise(self.predictions(split))

    def reconstructions(self, split: str = "test") -> Reconstructions:
        """How well an autoencoder gave back the pictures kept from training. UsageError where it is a classifier's."""
        self.must_be("reconstruction", "gives no picture back")
        found = Reconstructions.read(self.folder / RECONSTRUCTIONS).of(split)
        if not found.files:
            raise DataError(f"{self.folder}/{RECONSTRUCTIONS} has no {split} pictures", "ask for val or test")
        return found

    def must_be(self, task: str, cannot: str) -> None:
        if self.card.task == task:
            return
        if task == "classification":
            hint = f"`neocog train DATA --model {self.card.model} --task classification --weights {self.folder}` would"
            raise UsageError(f"{self.folder} is the run of an autoencoder, {self.card.model}, which {cannot}", hint)
        hint = "give the run of an autoencoder, such as `neocog train DATA --model conv_ae` makes"
        raise UsageError(f"{self.folder} is the run of a classifier, {self.card.model}, which {cannot}", hint)

    def network(self) -> Network:
        """The trained network, in eval mode, on the CPU. ModelFileError where the weights file is damaged."""
        return open_network(self.folder / "model")[1].eval()

    def predict(self, files: Iterable[str | Path], *, batch_size: int = 32, threads: int = 0) -> Iterator[Prediction]:
        """One `Prediction` per picture, as they come: memory does not grow with the number of files. `files` are
        pictures, or folders that are searched for pictures. Within a batch, unreadable files come first."""
        self.must_be("classification", "classifies nothing")
        machine = choose_machine(self.config)
        network = self.network()
        machine.place(network)
        return self._predict(network, machine, self.images(files, machine, batch_size=batch_size, threads=threads))

    def _predict(self, network: Network, machine: Machine, batches: Iterator[Seen]) -> Iterator[Prediction]:
        nothing = np.zeros(0, np.float32)
        for seen in batches:
            for path, problem in seen.failures:
                yield Prediction(path, None, 0.0, nothing, problem)
            if not seen.files:
                continue
            autocast = torch.autocast(machine.device.type, torch.bfloat16, enabled=machine.bf16)
            with evaluating(network), torch.inference_mode(), autocast:
                scores = network(seen.images).float()
            for path, row in zip(seen.files, probabilities_of(network, scores).cpu().numpy(), strict=True):
                best = int(row.argmax())
                yield Prediction(path, self.classes[best], float(row[best]), row)

    def normalised(self, pixels: Tensor, machine: Machine) -> Tensor:
        """(B, C, S, S) on the 0..255 scale -> as the run's network takes them on this machine."""
        layout = torch.channels_last if machine.channels_last else torch.contiguous_format
        return normalise(pixels.to(machine.device), self.card.preprocessing, memory_format=layout)

    def images(
        self, files: Iterable[str | Path], machine: Machine, *, batch_size: int = 32, threads: int = 0
    ) -> Iterator[Seen]:
        """Pictures, or those of folders, as the run's network takes them on this machine."""
        card = self.card
        options = DecodeOptions(card.in_channels, card.background, self.config.max_pixels)
        for views in stream(find_pictures(files), options, card.preprocessing, batch_size, threads):
            images = self.normalised(views.pixels, machine)
            failures = [(path, f"{bad.reason}: {bad.detail}") for path, bad in views.bad]
            yield Seen(views.files, images, views.sizes, failures)
