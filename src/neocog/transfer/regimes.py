"""Which parts of a network learn, and when.

    scratch   everything, from the first step
    features  a head on embeddings that were computed before (`transfer.views`); the network itself is not called
    probe     the final classifier only; the rest is frozen: no gradient, and batch norm keeps its statistics
    partial   `head_epochs` of probe, then the last `unfreeze` stages as well
    full      `head_epochs` of probe, then everything
    gradual   `head_epochs` of probe, then one more stage every `stage_epochs`, the last one first
              (Howard and Ruder, "Universal Language Model Fine-tuning", ACL 2018, section 3.3)

What was pretrained learns at `finetune_lr` times the rate, and every stage further from the head at `layer_decay`
times that of the next one ("discriminative" rates, the same paper, section 3.2). A part rises to its rate over one
epoch, so that it is not shaken by a head that has only just met it. Batch norm goes on with the statistics of the
pretraining unless `batch_statistics`: those of a few small batches are so noisy that the same recipe ends several
points apart from seed to seed.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from neocog.core.contracts import Network

Parts = list[tuple[str, list[nn.Parameter]]]


def classifier_of(network: Network) -> nn.Module:
    """The part that makes the class scores, which is what a new task replaces."""
    return network.head.get_submodule(network.classifier)


def depths(network: Network) -> list[list[nn.Module]]:
    """The pretrained parts from the head to the picture: the last stage with what the head has in front of its
    classifier, every other stage, and last the stem with all that stands outside this line."""
    own = classifier_of(network)
    neck = [child for child in network.head.children() if child is not own]
    stages = [[stage] for stage in reversed(list(network.stages))]
    rest = [child for child in network.children() if child not in (network.stages, network.head)]
    if not stages:
        return [neck + rest]
    stages[0] += neck
    return [*stages, rest]


def freeze(network: Network, learning: Iterable[nn.Module] = ()) -> None:
    """No gradient for, and no change of batch-norm statistics in, anything but the classifier and `learning`. Dropout
    in front of the classifier stays active: it belongs to how the classifier learns."""
    network.requires_grad_(False).eval()
    for module in (classifier_of(network), *learning):
        module.requires_grad_(True).train()
    for module in network.head.modules():
        if not isinstance(module, _BatchNorm):
            module.training = True


@dataclass(frozen=True)
class Scratch:
    def parts(self, network: nn.Module) -> Parts:
        return [("all", list(network.parameters()))]

    def enter(self, network: nn.Module, epoch: int) -> None:
        network.requires_grad_(True).train()

    def rate(self, part: str, epoch: float) -> float:
        return 1.0


@dataclass(frozen=True)
class Probe:
    def parts(self, network: nn.Module) -> Parts:
        assert isinstance(network, Network)
        return [("head", list(classifier_of(network).parameters()))]

    def enter(self, network: nn.Module, epoch: int) -> None:
        assert isinstance(network, Network)
        freeze(network)

    def rate(self, part: str, epoch: float) -> float:
        return 1.0


@dataclass(frozen=True)
class FineTune:
    """Partial with `unfreeze`, gradual with `stage_epochs`, else full."""

    head_epochs: int = 2
    finetune_lr: float = 0.1
    batch_statistics: bool = False
    layer_decay: float = 1.0
    unfreeze: int | None = None  # stages, counted from the last; None: all, and the stem
    stage_epochs: int = 0

    def parts(self, network: nn.Module) -> Parts:
        assert isinstance(network, Network)
        parts = Probe().parts(network)
        known = {id(p) for _, parameters in parts for p in parameters}
        for depth, modules in enumerate(depths(network)[: self.unfreeze]):
            found = [p for module in modules for p in module.parameters() if id(p) not in known]
            parts.append((str(depth), found))
        return parts

    def enter(self, network: nn.Module, epoch: int) -> None:
        assert isinstance(network, Network)
        everything = depths(network)
        begun = [part for depth, part in enumerate(everything[: self.unfreeze]) if epoch >= self.begins(depth)]
        if len(begun) == len(everything):
            network.requires_grad_(True).train()  # only now may auxiliary heads be asked
        else:
            freeze(network, (module for part in begun for module in part))
        if not self.batch_statistics:
            for module in network.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()

    def begins(self, depth: int) -> int:
        """The epoch from which a part learns, 0 being the last stage."""
        return self.head_epochs + depth * self.stage_epochs

    def rate(self, part: str, epoch: float) -> float:
        if part == "head":
            return 1.0 if epoch <= self.head_epochs else self.finetune_lr
        depth = int(part)
        risen = min(max(epoch - self.begins(depth), 0.0), 1.0)
        return float(self.finetune_lr * self.layer_decay**depth * risen)
