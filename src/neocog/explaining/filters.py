"""Kernels as pictures."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neocog.core.errors import UsageError
from neocog.explaining.taps import resolve, untouched

SILENT = 1e-3  # of the largest norm. Weight decay drives a filter that nothing holds on to far below

Convolution = nn.Conv2d | nn.ConvTranspose2d


@dataclass(frozen=True)
class Filters:
    """The filters of one convolution. 0.5 in a picture is weight 0; the largest |weight| of a filter is 0 or 1."""

    layer: str
    colour: bool
    pictures: Tensor  # (C_out, 3, kh, kw) where colour, else one grey picture per input: (C_out, C_in / groups, kh, kw)
    norms: Tensor  # (C_out,) Euclidean
    order: Tensor  # (C_out,) int64, the filter of the largest norm first
    silent: Tensor  # (C_out,) bool, norm at most SILENT of the largest


def kernels(network: nn.Module, layer: str) -> Filters:
    """The weights of a convolution by name. In colour where it is the first one and reads 3 channels, which are then
    the picture's. UsageError for an unknown name or another kind of layer."""
    name = resolve(network, layer)
    module = network.get_submodule(name)
    if not isinstance(module, Convolution):
        some = ", ".join(convolutions(network)[:3])
        hint = f"the first convolutions are {some}" if some else "this network has none"
        raise UsageError(f"the layer {name} is a {type(module).__name__}, no convolution", hint)
    with untouched(network):  # a parametrised weight is computed, by a power iteration that goes on in training
        weight = _outputs_first(module)
    norms = weight.flatten(1).norm(dim=1)
    largest = weight.abs().amax((1, 2, 3), keepdim=True)
    return Filters(
        layer=name,
        colour=module.in_channels == weight.shape[1] == 3 and name == first_convolution(network),
        pictures=0.5 + 0.5 * weight / largest.where(largest > 0, 1),
        norms=norms,
        order=norms.argsort(descending=True, stable=True),
        silent=norms <= SILENT * norms.max(),
    )


def _outputs_first(module: Convolution) -> Tensor:
    """(C_out, C_in / groups, kh, kw); a transposed convolution keeps (C_in, C_out / groups, kh, kw)."""
    weight = module.weight.detach()
    if isinstance(module, nn.ConvTranspose2d):
        weight = torch.cat([group.transpose(0, 1) for group in weight.chunk(module.groups)])
    return weight


def first_convolution(network: nn.Module) -> str:
    """The name of the first convolution in the order of the modules; UsageError where there is none."""
    names = convolutions(network)
    if not names:
        raise UsageError("this network has no convolution", "take one of the convolutional networks")
    return names[0]


def convolutions(network: nn.Module) -> list[str]:
    """Their names, in the order of the modules."""
    return [name for name, module in network.named_modules() if isinstance(module, Convolution)]
