"""Which numbers move, and how: update rules by name, no decay on biases and norms."""

from collections.abc import Iterable

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

DEFAULT_LR = {"sgd": 0.05, "adam": 1e-3, "adamw": 1e-3, "rmsprop": 1e-3}


def parameter_groups(parts: Iterable[tuple[str, list[nn.Parameter]]], weight_decay: float) -> list[dict[str, object]]:
    """Each part becomes two groups, with and without decay. Decay shrinks weights of rank 2 and more;
    biases and norm parameters (rank 0 and 1) have no scale to lose (He et al. 2019, section 3.1)."""
    groups: list[dict[str, object]] = []
    for name, parameters in parts:
        for decay in (True, False):
            chosen = [p for p in parameters if (p.ndim >= 2) == decay]
            if chosen:
                groups.append({"params": chosen, "part": name, "weight_decay": weight_decay if decay else 0.0})
    return groups


def make_optimizer(
    name: str, groups: list[dict[str, object]], lr: float, momentum: float, *, fused: bool = True
) -> Optimizer:
    """`momentum` serves sgd (Nesterov where it is not zero) and rmsprop; Adam's betas are torch's own. `fused`: one
    kernel for a whole step, which weights that are divided between processes do not have."""
    match name:
        case "sgd":
            return SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0, fused=fused, foreach=not fused)
        case "adam":
            return Adam(groups, lr=lr, fused=fused, foreach=not fused)
        case "adamw":
            return AdamW(groups, lr=lr, fused=fused, foreach=not fused)
        case "rmsprop":  # the only one of the four without a fused kernel
            return RMSprop(groups, lr=lr, momentum=momentum, foreach=True)
    raise ValueError(f"no optimizer is called {name!r}")


def l1_norm(parameters: Iterable[nn.Parameter]) -> torch.Tensor:
    """The sum of absolute weights over the parameters that learn and decay (rank 2 and more)."""
    norms = [p.abs().sum() for p in parameters if p.requires_grad and p.ndim >= 2]
    return torch.stack(norms).sum() if norms else torch.zeros(())
