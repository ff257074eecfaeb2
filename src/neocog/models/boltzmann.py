"""Restricted Boltzmann machines, alone and stacked.

rbm: one machine, whose hidden units are the code. It learns by contrastive divergence: the difference of the free
energies of pictures and of what a few steps of its own dynamics make of them.

deep_belief: Hinton and Salakhutdinov, "Reducing the Dimensionality of Data with Neural Networks", Science 313, 2006,
doi:10.1126/science.1127647. Machine after machine learns what the one below it says, 784-1000-500-250-30 for digits;
then the stack is unrolled into an autoencoder, which learns as a whole.
Differs from the paper: the decoder keeps the encoder's weights, transposed.
"""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from neocog.core.autoencoder import Autoencoder, Coded, Layer
from neocog.core.registry import register
from neocog.layers.boltzmann import Boltzmann
from neocog.models.autoencoder import digits_spec

WIDTHS = (1000, 500, 250)
ALONE = 0.5  # share of a stack's training in which its machines learn one after the other


class Top(nn.Module):
    """(B, V) -> the code of the last machine."""

    def __init__(self, machine: Boltzmann) -> None:
        super().__init__()
        self.machine = machine

    def forward(self, v: Tensor) -> Coded:
        return Coded(self.machine(v))


class Tied(nn.Module):
    """Stands where a decoder would: this network goes back through its encoder's weights."""


class Stack(Autoencoder):
    """(B, C, S, S) in 0..1 -> the same. While a machine of it learns, `learning` is that machine."""

    def __init__(
        self, widths: Sequence[int], *, in_channels: int, image_size: int, linear: bool, classes: int
    ) -> None:  # fmt: skip
        super().__init__()
        self.in_channels, self.fixed_size = in_channels, image_size
        sizes = [in_channels * image_size**2, *widths]
        machines = [Boltzmann(a, b) for a, b in pairwise(sizes)]
        machines[-1].linear = linear
        self.stem = nn.Flatten()
        self.stages = nn.Sequential(OrderedDict((f"machine{i}", m) for i, m in enumerate(machines[:-1], start=1)))
        self.stage_channels, self.stage_strides = tuple(widths[:-1]), (0,) * (len(widths) - 1)
        self.code_shape = (widths[-1],)
        self.set_head(Top(machines[-1]), Tied, classes)
        self.step: int | None = 0  # of the machine that learns; None: all together

    @property
    def machines(self) -> list[Boltzmann]:
        top = self.head.get_submodule("code.machine")
        return [m for m in (*self.stages, top) if isinstance(m, Boltzmann)]

    def decode(self, code: Tensor, size: object = None, switches: object = ()) -> Tensor:
        h = code
        *others, first = reversed(self.machines)
        for machine in others:
            h = machine.down(h).sigmoid()
        side = self.fixed_size
        return first.down(h).view(-1, self.in_channels, side, side)  # type: ignore[arg-type]

    def schedule(self, progress: float) -> None:
        """One machine after the other in equal shares; a stack of several then learns as a whole."""
        count = len(self.machines)
        share = 1.0 if count == 1 else ALONE
        place = int(progress / share * count)
        self.step = place if place < count else None

    def learning(self, x: Tensor) -> tuple[Layer, Tensor] | None:
        """The machine that learns now and what the ones below it make of (B, C, S, S) pictures; None where all learn
        together."""
        if self.step is None:
            return None
        v = self.stem(x)
        for machine in self.machines[: self.step]:
            v = machine(v)
        return self.machines[self.step], v.detach()


@register(
    digits_spec(
        name="rbm",
        idea="Seen and unseen units with weights between them: it learns which pictures are likely.",
        title="Training Products of Experts by Minimizing Contrastive Divergence",
        year=2002,
        link="https://doi.org/10.1162/089976602760128018",
        table="section 4; 500 hidden units as in section 6",
        params=393_284,
        macs=784_000,
    )
)
def rbm(*, num_classes: int = 0, in_channels: int = 1, image_size: int = 28, latent: int = 500) -> Stack:
    """`latent`: hidden units."""
    return Stack([latent], in_channels=in_channels, image_size=image_size, linear=False, classes=num_classes)


@register(
    digits_spec(
        name="deep_belief",
        idea="Boltzmann machines on top of each other, each learned alone, then unrolled into one autoencoder.",
        title="Reducing the Dimensionality of Data with Neural Networks",
        year=2006,
        link="https://doi.org/10.1126/science.1127647",
        table="784-1000-500-250-30, the digits' network",
        params=1_420_814,
        macs=2_833_000,
    )
)
def deep_belief(*, num_classes: int = 0, in_channels: int = 1, image_size: int = 28, latent: int = 30) -> Stack:
    """`latent`: numbers of the code."""
    return Stack([*WIDTHS, latent], in_channels=in_channels, image_size=image_size, linear=True, classes=num_classes)
