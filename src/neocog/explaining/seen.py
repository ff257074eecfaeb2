"""A classifier as a function of pixels on the 0..1 scale, with its normalisation inside."""

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neocog.core.errors import DivergedError, UsageError
from neocog.core.spec import figures_for

Figures = tuple[float, ...]  # a mean or std: one for each channel, or those of colour for grey


class Seen:
    """A network as a function of pixels in 0..1."""

    def __init__(self, network: nn.Module, mean: Figures, std: Figures, at_once: int) -> None:
        if at_once < 1:
            raise UsageError(f"{at_once} pictures at once are none", "give at least 1")
        if not (mean and std and all(map(math.isfinite, (*mean, *std))) and min(std) > 0):
            raise UsageError(f"mean {mean} and std {std} normalise no picture", "give the figures of the network's own")
        self.network, self.mean, self.std, self.at_once = network, mean, std, at_once
        self.device = next((p.device for p in network.parameters()), torch.device("cpu"))
        self.dtype = next((p.dtype for p in network.parameters() if p.is_floating_point()), None)

    def parts(self, n: int) -> Iterator[slice]:
        return (slice(start, min(start + self.at_once, n)) for start in range(0, n, self.at_once))

    def beliefs(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, K) scores of which the softmax is what the network believes."""
        x = pixels.to(self.device)
        mean, std = (
            torch.tensor(figures_of(x.shape[1], values), dtype=x.dtype, device=x.device)[:, None, None]
            for values in (self.mean, self.std)
        )
        with torch.autocast(x.device.type, enabled=False):
            scores: Any = self.network(((x - mean) / std).to(self.dtype or x.dtype))
        if not isinstance(scores, Tensor) or scores.ndim != 2:
            raise UsageError("the network gives no class scores", "attack a classifier")
        if not bool(scores.isfinite().all()):
            raise DivergedError("the network's scores are not finite", "check its weights")
        # Each length is a belief p by itself. Given that exactly one class is there, the classes stand to each other
        # as the odds p / (1 - p), whose logarithm is what a softmax asks for: `neocog.evaluate.probabilities_of`.
        found = scores.to(x.dtype)
        return found.logit(eps=1e-6) if getattr(self.network, "scores", "logits") == "lengths" else found

    def uphill(self, pixels: Tensor, labels: Tensor) -> Tensor:
        """The sign, in the pixels' shape, of the gradient of each picture's own loss: -1, 0 or 1."""
        x = pixels.detach().clone().requires_grad_()
        beliefs = self.beliefs(x)
        if int(labels.max()) >= beliefs.shape[1]:
            raise UsageError(f"there is no class {int(labels.max())}", f"the network knows 0 to {beliefs.shape[1] - 1}")
        loss = F.cross_entropy(beliefs, labels.to(beliefs.device, copy=True), reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x)
        if not bool(gradient.isfinite().all()):
            raise DivergedError("the loss's gradient is not finite", "check the network's weights")
        return gradient.sign()


def floats(pixels: Tensor) -> Tensor:
    """(B, C, H, W) in 0..1, as float32 unless they are float64."""
    if pixels.ndim != 4 or not len(pixels) or not pixels.is_floating_point():
        shape = " x ".join(map(str, pixels.shape))
        raise UsageError(f"{shape} of {pixels.dtype} are no pictures", "give (B, C, H, W) floats from 0 to 1")
    if not bool(((pixels >= 0) & (pixels <= 1)).all()):
        raise UsageError("the pixels are not from 0 to 1", "give pictures before their normalisation")
    return pixels if pixels.dtype == torch.float64 else pixels.float()


def figures_of(channels: int, values: Figures) -> Figures:
    """One for each channel. Given are so many, one for all, or those of colour: UsageError otherwise."""
    if len(values) not in (1, 3, channels):
        raise UsageError(f"{len(values)} figures normalise no picture of {channels} channels", "give one for each")
    return figures_for(channels, values)


def numbers_of(labels: Tensor, pixels: Tensor) -> Tensor:
    """(B,) int64. UsageError where they are not so many class numbers as pictures."""
    whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    numbers = labels.long() if whole else labels
    if not whole or labels.shape != pixels.shape[:1] or bool((numbers < 0).any()):
        raise UsageError(f"labels must be {len(pixels)} class numbers, one a picture", "give whole numbers from 0")
    return numbers
