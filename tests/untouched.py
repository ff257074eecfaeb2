"""Everything about a network that looking at it may not change."""

import hashlib

import torch
from torch import nn


def fingerprint(network: nn.Module, *, numbers: bool = True) -> str:
    """Of weights, buffers, modes, flags, gradients, hooks and the random generator, quickly also of large networks;
    quicker without `numbers`: then by how often each tensor was written to."""
    digest = hashlib.blake2b(torch.get_rng_state().numpy().tobytes())
    for module in network.modules():
        hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
        digest.update(f"{module.training} {[len(some) for some in hooks]}".encode())
    for name, value in [*network.named_parameters(), *network.named_buffers()]:
        written = None if numbers else value._version
        digest.update(f"{name} {value.requires_grad} {written} {value.data_ptr()}".encode())
        if value.numel() and numbers:
            digest.update(value.detach().contiguous().view(-1).view(torch.uint8).numpy().data)
        if value.grad is not None and numbers:
            digest.update(value.grad.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
