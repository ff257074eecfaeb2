"""A finished run with its network where it computes: what every command that uses one begins with."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neocog.app.codes import Prior, prior_of
from neocog.app.machine import Machine, choose_machine
from neocog.app.own import Own
from neocog.app.run import CODES, Run, Seen
from neocog.core.autoencoder import Autoencoder
from neocog.core.contracts import Network
from neocog.core.errors import ModelFileError, UsageError
from neocog.data.preprocess import view
from neocog.evaluate import evaluating


@dataclass(frozen=True)
class Opened:
    """A finished run with its network on this machine's device."""

    run: Run
    network: Network
    machine: Machine

    @classmethod
    def of(cls, run: str | Path | Run) -> "Opened":
        """A run, or its folder."""
        run = run if isinstance(run, Run) else Run.open(run)
        machine = choose_machine(run.config)
        network = run.network()
        machine.place(network)
        return cls(run, network, machine)

    def pictures(self, files: Iterable[str | Path]) -> Iterator[Seen]:
        return self.run.images(files, self.machine)

    def precision(self) -> torch.autocast:
        """Inside: the network computes as the run answers, in bf16 where that is quicker here."""
        return torch.autocast(self.machine.device.type, torch.bfloat16, enabled=self.machine.bf16)

    @cached_property
    def own(self) -> Own:
        return Own(self.run)

    def one(self, image: str | Path) -> Tensor:
        """(1, C, S, S) of one picture, or of one of the run's own by its name. Errors: those of `Own.decoded`."""
        pixels = torch.from_numpy(self.own.decoded(image)).permute(2, 0, 1)
        return self.normalised(view(pixels, self.run.card.preprocessing)[None])

    def normalised(self, pixels: Tensor) -> Tensor:
        """(B, C, S, S) on the 0..255 scale -> as the network takes them, on its device."""
        return self.run.normalised(pixels, self.machine)

    @cached_property
    def autoencoder(self) -> Autoencoder:
        """UsageError where the run is a classifier's."""
        self.run.must_be("reconstruction", "gives no picture back")
        assert isinstance(self.network, Autoencoder)
        return self.network

    @cached_property
    def codes(self) -> NDArray[np.float32]:
        """(N, D), of the pictures that were kept from training. ModelFileError where the file is missing or damaged."""
        path = self.run.folder / CODES
        try:
            codes = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ModelFileError(f"{path} cannot be read ({error})", "restore it from a copy") from None
        width = int(np.prod(self.autoencoder.code_shape))
        if codes.ndim != 2 or codes.shape[1] != width or not len(codes) or codes.dtype != np.float32:
            raise ModelFileError(f"{path} does not hold codes of {width} numbers", "restore it from a copy")
        return codes  # type: ignore[no-any-return]

    def prior(self) -> Prior:
        """Where codes are drawn from. UsageError where a code alone does not decode."""
        self.must_generate()
        return prior_of(self.autoencoder, self.codes)

    def must_generate(self) -> None:
        """UsageError where no other code than a picture's own can be decoded."""
        if not self.autoencoder.generates:
            why = "whose decoder needs more of a picture than its code, where the pools took their numbers from"
            if self.autoencoder.book:
                why = "whose codes are of vectors from a book: numbers between them, or drawn at random, mean nothing"
            cause = f"{self.run.folder} holds {self.run.card.model}, {why}"
            hint = "a vae, conv_vae or conv_ae without unpooling can: `neocog train DATA --model conv_vae`"
            raise UsageError(cause, hint)

    @torch.inference_mode()
    def encode(self, images: Tensor) -> Tensor:
        """(B, C, S, S) -> (B, *code_shape) on the CPU."""
        with evaluating(self.autoencoder):
            return self.autoencoder.encode(images).float().cpu()
