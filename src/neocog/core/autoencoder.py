"""What every autoencoder promises: pictures become codes, codes become pictures."""

import math
from abc import ABC
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn

from neocog.core.contracts import Network


class Coded(NamedTuple):
    """What an encoder makes of pictures. `mean` and `log_variance` (B, D) belong to variational codes, of which
    `code` is a sample while the network trains; `penalty` is what a code of its own kind asks to be added to the
    loss. `switches`: where the encoder's pools took their numbers from, for decoders that put them back there."""

    code: Tensor  # (B, *code_shape)
    mean: Tensor | None = None
    log_variance: Tensor | None = None
    penalty: Tensor | None = None
    switches: tuple[Tensor, ...] = ()


class Reconstruction(NamedTuple):
    """What an autoencoder gives while it trains; in eval mode it gives the pictures alone."""

    logits: Tensor  # (B, C, H, W), whose sigmoid is the picture
    coded: Coded


class Vector(nn.Module):
    """`Coded` -> (B, D), what a classifier of codes reads."""

    def forward(self, coded: Coded) -> Tensor:
        return coded.code.flatten(1)


class Autoencoder(Network, ABC):
    """`forward(x) = sigmoid(decode(encode(x)))`, pictures in 0..1 whatever the input's scale.

    `stem` and `stages` are the encoder; `head` is a Sequential of `code`, whose forward gives `Coded`, and `decoder`.
    `reset_head(K)` puts a classifier in the decoder's place: the network then classifies what its code says.
    """

    classifier = "decoder"
    code_shape: tuple[int, ...]  # of one picture's code
    generates: bool = True  # whether a code alone is enough to decode
    book: int = 0  # vectors of which each place of the code is one; 0: its numbers are free
    probabilistic: bool = False  # whether codes are drawn from a distribution that the prior N(0, 1) regularises

    def coded(self, x: Tensor) -> Coded:
        """(B, C, H, W) normalised float -> codes, with what their kind adds."""
        coded: Coded = self.head.get_submodule("code")(self.stages(self.stem(x)))
        return coded

    def encode(self, x: Tensor) -> Tensor:
        """(B, C, H, W) normalised float -> (B, *code_shape)."""
        return self.coded(x).code

    def decode(
        self, code: Tensor, size: tuple[int, int] | None = None, switches: Sequence[Tensor] = ()
    ) -> Tensor:  # fmt: skip
        """(B, *code_shape) -> (B, C, H, W) logits of pictures in 0..1, of the network's own size unless given."""
        logits: Tensor = self.head.get_submodule("decoder")(code, size, switches)
        return logits

    def embed(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D), the code as a vector."""
        return self.encode(x).flatten(1) if self.classifier == "decoder" else super().embed(x)

    def forward(self, x: Tensor) -> Tensor | Reconstruction:  # type: ignore[override]
        if self.classifier != "decoder":
            scores: Tensor = self.head(self.stages(self.stem(x)))
            return scores
        coded = self.coded(x)
        logits = self.decode(coded.code, (x.shape[-2], x.shape[-1]), coded.switches)
        return Reconstruction(logits, coded) if self.training else logits.sigmoid()

    def set_head(self, code: nn.Module, decoder: Callable[[], nn.Module], classes: int) -> None:
        """What follows the encoder; with `classes` more than 0 no decoder is made."""
        self.num_classes = 0
        self.head = nn.Sequential(OrderedDict(code=code))
        if classes:
            self.reset_head(classes)
        else:
            self.head.add_module("decoder", decoder())

    def reset_head(self, num_classes: int) -> None:
        if self.classifier == "decoder":
            self.classifier = "fc"
            vector, fc = Vector(), nn.Linear(math.prod(self.code_shape), 1)
            self.head = nn.Sequential(OrderedDict(code=self.head.get_submodule("code"), vector=vector, fc=fc))
        super().reset_head(num_classes)


class Layer(Protocol):
    """A restricted Boltzmann machine: `layers/boltzmann.py`."""

    chains: Tensor

    def free_energy(self, v: Tensor) -> Tensor: ...

    def gibbs(self, v: Tensor, steps: int) -> Tensor: ...


@runtime_checkable
class Layered(Protocol):
    """A network whose layers learn one after the other."""

    def learning(self, x: Tensor) -> tuple[Layer, Tensor] | None:
        """(the layer that learns now, what it sees of (B, C, H, W) pictures); None where all learn together."""
        ...
