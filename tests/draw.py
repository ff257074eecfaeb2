"""Weights under which a comparison means something: the signal survives every layer, and no two pictures
get the same answer. With default initialisation a deep network answers every picture alike (spread 1e-6)."""

import torch
from torch import Tensor, nn

from neocog.core.contracts import Network
from neocog.core.registry import lookup

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@torch.no_grad()
def draw(network: nn.Module, input_shape: tuple[int, ...], seed: int = 0) -> None:
    """He weights, random biases and norms, and running statistics that belong to them; leaves it in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            fan_in = layer.weight[0].numel()
            layer.weight.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
            if layer.bias is not None:
                layer.bias.normal_(0, 0.1, generator=generator)
        elif isinstance(layer, NORMS):
            layer.weight.uniform_(0.5, 1.5, generator=generator)
            layer.bias.normal_(0, 0.1, generator=generator)
            layer.reset_running_stats()
        elif isinstance(layer, nn.LayerNorm):
            layer.weight.uniform_(0.5, 1.5, generator=generator)
            layer.bias.normal_(0, 0.1, generator=generator)
        elif callable(reset := getattr(layer, "reset_parameters", None)):
            reset()
        else:
            # A module's own tensors: embeddings, scales, the matrices of attention.
            for parameter in layer.parameters(recurse=False):
                fan_in = parameter.shape[-1] if parameter.dim() == 2 else 4
                parameter.normal_(0, fan_in**-0.5, generator=generator)
    norms = [layer for layer in network.modules() if isinstance(layer, NORMS)]
    network.eval()
    if not norms:
        return
    # In eval mode a residual network of random norms doubles its signal at every block. So the statistics are
    # taken from pictures (in one pass: momentum 1 replaces the old ones), then shaken.
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    network(pictures(4, input_shape, seed))
    for norm in norms:
        norm.momentum = 0.1
        norm.running_mean += 0.1 * norm.running_var.sqrt() * torch.randn(norm.num_features, generator=generator)
        norm.running_var *= 0.8 + 0.4 * torch.rand(norm.num_features, generator=generator)
    network.eval()


def drawn(name: str, input_shape: tuple[int, ...] | None = None, seed: int = 0, **knobs: object) -> Network:
    """A network of the zoo under drawn weights, without the time its own initialisation takes."""
    entry = lookup(name)
    with torch.device("meta"):
        network: Network = entry.build(**knobs)
    network.to_empty(device="cpu")
    draw(network, input_shape or small_shape(network), seed)
    return network


def small_shape(network: Network) -> tuple[int, ...]:
    """An input that the network accepts and two cores can afford."""
    if network.fixed_size is not None:
        return (network.in_channels, network.fixed_size, network.fixed_size)
    if not network.stage_strides or network.stage_strides[0] == 0:
        return (network.in_channels,)
    # Networks for small pictures keep large maps to their end.
    size = max(64 if network.stage_strides[-1] > 8 else 32, network.min_size)
    return (network.in_channels, size, size + 16)


def pictures(n: int, shape: tuple[int, ...], seed: int = 1) -> Tensor:
    """(n, *shape) standard normal numbers."""
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


def spread(outputs: Tensor) -> float:
    """How differently two pictures are answered, relative to the size of the answers: 0 is no signal."""
    return float((outputs[0] - outputs[1]).norm() / outputs.norm())
