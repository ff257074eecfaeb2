"""A network's probabilities on pictures, computed as in use: eval mode, no gradients, in float32."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neocog.core.contracts import Batch
from neocog.core.errors import DivergedError


class Outcome(NamedTuple):
    """Rows in the order in which the batches held them."""

    indices: NDArray[np.int64]  # (N,) row numbers in the data set
    probabilities: NDArray[np.float32]  # (N, K)
    labels: NDArray[np.int64]  # (N,) -1 where the class is not known


def probabilities_of(network: nn.Module, scores: Tensor) -> Tensor:
    """(B, K) float scores -> (B, K) probabilities that sum to 1.

    Logits: their softmax. Lengths (capsules): each is the belief p that its class is there, whatever the others say.
    Given that exactly one class is there, the classes stand to each other as the odds p / (1 - p); a softmax of
    lengths would never be surer than e / (e + K - 1), 0.23 of ten classes.
    """
    if getattr(network, "scores", "logits") == "lengths":
        scores = scores.logit(eps=1e-6)
    return scores.softmax(dim=1)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Eval mode inside. Afterwards every module has the mode it had: a frozen backbone that rests in eval mode
    inside a network that trains stays at rest."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def stream(network: nn.Module, batches: Iterable[Batch], *, autocast: torch.dtype | None = None) -> Iterator[Outcome]:
    """One `Outcome` per batch, so that memory does not grow with the number of pictures.

    The pictures go to the network's device. `autocast`: the lower precision of its matrix products (bfloat16).
    The network stays in eval mode until the iterator ends or is closed.
    Errors: DivergedError where a score is not finite.
    """
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    with evaluating(network):
        for batch in batches:
            # entered anew for each batch: around a `yield` it would also hold for the caller's code
            with (
                torch.inference_mode(),
                torch.autocast(device.type, autocast or torch.bfloat16, enabled=autocast is not None),
            ):
                scores = network(batch.images.to(device)).float()
                if not bool(torch.isfinite(scores).all()):
                    raise DivergedError(
                        f"the network's scores are not finite (pictures {batch.indices.tolist()[:3]}...)",
                        "train again with a smaller learning rate, or check the weights file",
                    )
                probabilities = probabilities_of(network, scores).cpu().numpy()
            yield Outcome(batch.indices.cpu().numpy(), probabilities, batch.targets.cpu().numpy())


def predict(network: nn.Module, batches: Iterable[Batch], *, autocast: torch.dtype | None = None) -> Outcome:
    """All batches of `stream` as one `Outcome`. Errors: ValueError where there is no batch."""
    parts = list(stream(network, batches, autocast=autocast))
    if not parts:
        raise ValueError("there are no pictures to evaluate")
    return Outcome(*(np.concatenate(column) for column in zip(*parts, strict=True)))
