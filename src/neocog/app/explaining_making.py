"""Pictures that are made to excite a channel or a class, at a price that is known before."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import nn

from neocog.app.opened import Opened
from neocog.app.pictures import thumbnail
from neocog.app.reporting import stages_of
from neocog.core.contracts import Network
from neocog.core.errors import UsageError
from neocog.explaining.visualise import Channel, Class, visualise_each

SIDE = 128  # pixels, at most: what a network that takes any size reads at a third of the price of 224
STEPS = 64
CLASSES = 4
AT_ONCE = 4  # pictures
# Multiply-accumulates, of all pictures together: about a minute of one core for a ResNet.
AFFORDABLE = 5e11


@dataclass(frozen=True)
class Maker:
    """Of one network. The same pictures each time, to the bit on a CPU."""

    opened: Opened

    @cached_property
    def side(self) -> int:
        network, own = self.opened.network, self.opened.run.card.preprocessing.size
        if network.fixed_size is not None or own <= SIDE:
            return own
        try:
            side = max(SIDE, network.min_size)
            stages_of(network, (network.in_channels, side, side))
        except UsageError:  # it takes other sizes, but not this one
            return own
        return side

    @cached_property
    def costs(self) -> dict[str, int]:
        """Multiply-accumulates of one pass up to each part."""
        found, total = {}, 0
        for stage in stages_of(self.opened.network, (self.opened.network.in_channels, self.side, self.side)):
            total += stage.macs
            found[stage.name] = total
        return found

    def cost(self, stages: list[str], each: int, classes: int) -> int:
        """Of `each` channels of these stages, and so many classes."""
        whole = max(self.costs.values())
        once = sum(self.costs.get(stage.removeprefix("stages."), whole) for stage in stages)
        return STEPS * (each * once + classes * whole)

    def affordable(self, stages: list[str], most: int) -> int:
        """How many channels of each stage, with the classes."""
        return next((n for n in range(most, 0, -1) if self.cost(stages, n, CLASSES) <= AFFORDABLE), 0)

    def channels(self, layer: str, numbers: Sequence[int]) -> list[bytes]:
        return self._pictures(front(self.opened.network, layer), [Channel(layer, number) for number in numbers])

    def classes(self, numbers: Sequence[int]) -> list[bytes]:
        return self._pictures(self.opened.network, [Class(number) for number in numbers])

    def _pictures(self, network: nn.Module, objectives: Sequence[Channel | Class]) -> list[bytes]:
        pre, found = self.opened.run.card.preprocessing, list[bytes]()
        for start in range(0, len(objectives), AT_ONCE):
            made = visualise_each(
                network, objectives[start : start + AT_ONCE], (self.side, self.side), pre.mean, pre.std, steps=STEPS,
                channels=self.opened.network.in_channels,
            )  # fmt: skip
            found += [thumbnail(one.picture.cpu(), SIDE) for one in made]
        return found


def front(network: Network, layer: str) -> nn.Module:
    """The network up to the stage in which `layer` lies, under the same names: an early stage is then cheap."""
    kind, _, rest = layer.partition(".")
    names = [name for name, _ in network.stages.named_children()]
    if kind != "stages" or rest.partition(".")[0] not in names:
        return network
    kept = names[: names.index(rest.partition(".")[0]) + 1]
    stages = nn.Sequential(OrderedDict((name, network.stages.get_submodule(name)) for name in kept))
    return nn.Sequential(OrderedDict(stem=network.stem, stages=stages))
