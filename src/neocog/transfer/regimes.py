"""Which parts of a network learn, and when.

    scratch   everything, from the first step
    probe     the final classifier only; the rest is frozen: no gradient, and batch norm keeps its statistics
    full      `head_epochs` of probe, then everything at `finetune_lr` times the rate; the backbone rises to it
              over one epoch, so that it is not shaken by a head that has only just met it. Batch norm goes on
              with the statistics of the pretraining unless `batch_statistics`: those of a few small batches
              are so noisy that the same recipe ends several points apart from seed to seed.

Deck 004's rule: probe for few pictures like those of the pretraining, full for many.
"""

from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from neocog.core.contracts import Network


def classifier_of(network: nn.Module) -> nn.Module:
    """The part that makes the class scores, which is what a new task replaces."""
    assert isinstance(network, Network)
    return network.head.get_submodule(network.classifier)


def split_parameters(network: nn.Module) -> list[tuple[str, list[nn.Parameter]]]:
    head = list(classifier_of(network).parameters())
    ours = {id(p) for p in head}
    return [("head", head), ("backbone", [p for p in network.parameters() if id(p) not in ours])]


def freeze_all_but_classifier(network: nn.Module) -> None:
    """No gradient for, and no change of batch-norm statistics in, anything but the classifier. Dropout in
    front of the classifier stays active: it belongs to how the classifier learns."""
    network.requires_grad_(False).eval()
    classifier_of(network).requires_grad_(True)
    assert isinstance(network, Network)
    for module in network.head.modules():
        if not isinstance(module, _BatchNorm):
            module.training = True


@dataclass(frozen=True)
class Scratch:
    def parts(self, network: nn.Module) -> list[tuple[str, list[nn.Parameter]]]:
        return split_parameters(network)

    def enter(self, network: nn.Module, epoch: int) -> None:
        network.requires_grad_(True).train()

    def rate(self, part: str, epoch: float) -> float:
        return 1.0


@dataclass(frozen=True)
class Probe:
    def parts(self, network: nn.Module) -> list[tuple[str, list[nn.Parameter]]]:
        return split_parameters(network)[:1]

    def enter(self, network: nn.Module, epoch: int) -> None:
        freeze_all_but_classifier(network)

    def rate(self, part: str, epoch: float) -> float:
        return 1.0


@dataclass(frozen=True)
class Full:
    head_epochs: int = 2
    finetune_lr: float = 0.1
    batch_statistics: bool = False

    def parts(self, network: nn.Module) -> list[tuple[str, list[nn.Parameter]]]:
        return split_parameters(network)

    def enter(self, network: nn.Module, epoch: int) -> None:
        if epoch < self.head_epochs:
            freeze_all_but_classifier(network)
            return
        network.requires_grad_(True).train()
        if not self.batch_statistics:
            for module in network.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()

    def rate(self, part: str, epoch: float) -> float:
        if part == "head":
            return 1.0 if epoch <= self.head_epochs else self.finetune_lr
        return self.finetune_lr * min(max(epoch - self.head_epochs, 0.0), 1.0)
