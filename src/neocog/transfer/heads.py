"""Another head on a network, and the line between what is embedded once and what learns on the embeddings."""

from collections import OrderedDict

from torch import Tensor, nn

from neocog.core.contracts import Network
from neocog.core.errors import UsageError, did_you_mean
from neocog.core.head import HeadSpec
from neocog.layers.average import Average
from neocog.layers.dropout import Dropout
from neocog.layers.similarity import Neighbours, Prototypes
from neocog.transfer.regimes import classifier_of

DROPOUT = 0.2  # in front of an mlp's last layer


def attach(network: Network, spec: HeadSpec) -> None:
    """Puts the head in the place of the network's classifier; with a stage, the network ends there.

    UsageError where there is no such stage, or the network's own classifier reads no vector and no stage is given.
    """
    if spec.stage is not None:
        width = _cut(network, spec.stage)
    else:
        width = width_of(classifier_of(network))
        if not width:
            last = list(dict(network.stages.named_children()))[-1:]
            raise UsageError(
                f"the classifier of {type(network).__name__} reads no vector, so no other can stand in its place",
                f"take the features from a stage: --stage {last[0]}" if last else "use its own classifier",
            )
    network.head.set_submodule(network.classifier, _make(spec, width, network.num_classes))


def _cut(network: Network, stage: str) -> int:
    """Ends the network after a stage, whose maps are averaged. Returns the width D of what is left."""
    names = [name for name, _ in network.stages.named_children()]
    if stage not in names:
        hint = did_you_mean(stage, names) or f"its stages are {', '.join(names) or 'none'}"
        raise UsageError(f"{type(network).__name__} has no stage {stage!r}", hint)
    kept = names.index(stage) + 1
    network.stages = nn.Sequential(OrderedDict(list(network.stages.named_children())[:kept]))
    network.stage_channels, network.stage_strides = network.stage_channels[:kept], network.stage_strides[:kept]
    network.head = nn.Sequential(OrderedDict(average=Average(), fc=nn.Identity()))
    network.classifier, network.scores, network.auxiliary = "fc", "logits", None
    return network.stage_channels[-1]


def _make(spec: HeadSpec, width: int, num_classes: int) -> nn.Module:
    match spec.kind:
        case "linear":
            return _linear(width, num_classes)
        case "mlp":
            assert spec.hidden is not None
            return nn.Sequential(
                OrderedDict(
                    hidden=nn.Linear(width, spec.hidden),
                    act=nn.ReLU(),
                    dropout=Dropout(DROPOUT),
                    out=_linear(spec.hidden, num_classes),
                )
            )
        case "prototype":
            return Prototypes(width, num_classes)
        case "knn":
            assert spec.pictures is not None
            return Neighbours(width, num_classes, spec.pictures)


def _linear(width: int, num_classes: int) -> nn.Linear:
    """As `Network.reset_head` makes it: all classes are alike to begin with."""
    layer = nn.Linear(width, num_classes)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    return layer


class Backbone(nn.Module):
    """(B, C, H, W) -> (B, D): all of a network up to `Tail`. It shares the network's modules."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.stem, self.stages = network.stem, network.stages
        self.neck = nn.Sequential(OrderedDict(_head(network)[: _line(network)]))

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.neck(self.stages(self.stem(x)))
        return features


def tail_of(network: Network) -> nn.Sequential:
    """(B, D) -> (B, K): the classifier, any dropout directly in front of it, and whatever comes after. It shares the
    network's modules, so what it learns the network has learned."""
    return nn.Sequential(OrderedDict(_head(network)[_line(network) :]))


def width_of(classifier: nn.Module) -> int:
    """The width D of the embeddings (B, D) that a classifier reads; 0 where it reads something else, such as maps."""
    if isinstance(classifier, nn.Linear):
        return classifier.in_features
    if isinstance(classifier, nn.Sequential) and isinstance(classifier[0], nn.Linear):
        return classifier[0].in_features
    if isinstance(classifier, Prototypes | Neighbours):
        return classifier.width
    return 0


def _head(network: Network) -> list[tuple[str, nn.Module]]:
    return list(network.head.named_children())


def _line(network: Network) -> int:
    """The place in the head before which everything is embedded."""
    head = _head(network)
    place = [name for name, _ in head].index(network.classifier)
    while place and isinstance(head[place - 1][1], Dropout):
        place -= 1
    return place
