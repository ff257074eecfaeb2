"""Everything about a network that looking at it may not change."""

import hashlib
from typing import Any

import torch
from torch import nn


def fingerprint(network: nn.Module) -> dict[str, Any]:
    """Weights and buffers, modes, flags, gradients, hooks and the random generator, to be compared before and after."""
    state = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        state.update(name.encode() + tensor.detach().contiguous().numpy().tobytes())
    gradients = [None if weight.grad is None else weight.grad.tolist() for weight in network.parameters()]
    return {
        "state": state.hexdigest(),
        "modes": [module.training for module in network.modules()],
        "flags": [weight.requires_grad for weight in network.parameters()],
        "gradients": gradients,
        "hooks": [len(module._forward_hooks) for module in network.modules()],
        "random": torch.get_rng_state().tolist(),
    }
