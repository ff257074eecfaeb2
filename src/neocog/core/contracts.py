"""What every network and every task promises, so that the floors above need to know nothing else.

One alphabet of shapes: B pictures, C channels, H x W pixels, D embedding width, K classes.
"""

from abc import ABC
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn


class WithAuxiliary(NamedTuple):
    """What a network with auxiliary heads gives while it trains: the loss of each auxiliary answer counts
    `weight` times. In eval mode it gives `scores` alone."""

    scores: Tensor  # (B, K)
    auxiliary: tuple[Tensor, ...]  # each (B, K)
    weight: float


class Network(nn.Module, ABC):
    """An image network: `forward(x) = head(stages(stem(x)))`. A pure function of its input.

    A subclass builds `stem`, `stages` (a Sequential of named stages) and `head` (a Sequential that ends
    in the classifier named by `classifier`) and sets the attributes below. Auxiliary heads, which help
    deep networks of the Inception kind to learn, stand in `auxiliary` under the name of the stage whose
    output they read; like `head` each ends in the classifier named by `classifier`.
    """

    stem: nn.Module
    stages: nn.Sequential
    head: nn.Sequential
    num_classes: int
    in_channels: int
    stage_channels: tuple[int, ...]  # channels after each stage
    stage_strides: tuple[int, ...]  # input pixels per output pixel after each stage; 0: no grid is left
    min_size: int = 1  # the smallest H and W that give an output
    fixed_size: int | None = None  # networks whose dense layers fix H and W
    classifier: str = "fc"  # the child of `head` that makes the class scores
    scores: Literal["logits", "lengths"] = "logits"  # lengths: each score is itself a belief, in 0..1
    auxiliary: nn.ModuleDict | None  # stage name -> head
    auxiliary_weight: float = 0.0  # of an auxiliary head's loss

    def __init__(self) -> None:
        super().__init__()
        self.auxiliary = None

    def forward(self, x: Tensor) -> Tensor | WithAuxiliary:
        """(B, C, H, W) normalised float -> (B, K) scores before the softmax; with auxiliary ones in training."""
        x = self.stem(x)
        if not (self.training and self.auxiliary):
            out: Tensor = self.head(self.stages(x))
            return out
        answers = []
        for name, stage in self.stages.named_children():
            x = stage(x)
            if name in self.auxiliary:
                answers.append(self.auxiliary[name](x))
        return WithAuxiliary(self.head(x), tuple(answers), self.auxiliary_weight)

    def features(self, x: Tensor) -> list[Tensor]:
        """(B, C, H, W) -> one (B, stage_channels[i], H / stage_strides[i], W / stage_strides[i]) per stage."""
        x = self.stem(x)
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return outputs

    def embed(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D), what the final classifier sees."""
        x = self.stages(self.stem(x))
        for name, module in self.head.named_children():
            if name == self.classifier:
                break
            x = module(x)
        return x

    def reset_head(self, num_classes: int) -> None:
        """Replaces the final classifier, and the auxiliary ones, by new ones with `num_classes` outputs;
        everything else stays."""
        for head in (self.head, *(self.auxiliary or nn.ModuleDict()).values()):
            old = head.get_submodule(self.classifier)
            if not isinstance(old, nn.Linear):
                raise TypeError(f"{type(self).__name__} must say how its classifier is replaced")
            new = nn.Linear(old.in_features, num_classes, bias=old.bias is not None)
            nn.init.normal_(new.weight, std=0.01)
            if new.bias is not None:
                nn.init.zeros_(new.bias)
            head.set_submodule(self.classifier, new.to(old.weight.device, old.weight.dtype))
        self.num_classes = num_classes

    def schedule(self, progress: float) -> None:
        """Told before each epoch how much of the training is over (0 at its start), for what changes with it."""

    def fit_weights(self, state: dict[str, Tensor]) -> list[str]:
        """Changes in `state`, published weights under this network's keys, what belongs to another size of
        picture, and says what it changed. Most networks have nothing of that kind."""
        return []


@dataclass
class Step:
    """What one training step gives the loop: a scalar `loss` to minimise and the `outputs` it came from. `parts`: by
    name the scalars whose sum the loss is, where there are several."""

    loss: Tensor
    outputs: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)


class Batch(Protocol):
    """What the data floor hands to a task: normalised pictures and what is known about them."""

    images: Tensor  # (B, C, H, W) float
    targets: Tensor  # (B,) int64 class numbers, (B, K) float class shares, or (B, C, H, W) pictures to be given back
    indices: Tensor  # (B,) int64 row numbers in the data set


class Task(Protocol):
    """The meaning of a step. The loop knows nothing else about the problem."""

    def step(self, network: nn.Module, batch: Batch, generator: torch.Generator) -> Step: ...

    def weight(self, batch: Batch) -> float:
        """What the mean that is `Step.loss` was taken over: the number of pictures, or the sum of their weights."""
        ...

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        """(B,) bool: which rows of a training batch count as right, for the progress line; None where nothing is right
        or wrong."""
        ...

    def schedule(self, progress: float) -> None:
        """Told before each epoch how much of the training is over (0 at its start), for what changes with it."""
        ...
