"""Where a layer's maps speak for a class.

Grad-CAM: Selvaraju et al., ICCV 2017, arXiv:1610.02391, equations 1 and 2. Each map is weighed by the mean of the
score's gradient with respect to it. Behind a global average pool and one linear layer this is CAM (Zhou et al., CVPR
2016, arXiv:1512.04150) divided by the number of places.
Grad-CAM++: Chattopadhay et al., WACV 2018, arXiv:1710.11063, equations 10 and 19 for the exponential of the score.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neocog.core.errors import UsageError
from neocog.explaining.attribution import score
from neocog.explaining.maps import as_maps, grid
from neocog.explaining.taps import Tapped, one_picture, resolve, stage_names, untouched


class Cam(NamedTuple):
    """`coarse` (h, w), at least 0, as the layer has it; `fine` (H, W), the same enlarged to the picture, bilinearly;
    `layer`: its full name."""

    coarse: Tensor
    fine: Tensor
    layer: str


def grad_cam(network: nn.Module, x: Tensor, target: int, layer: str | None = None, *, plus: bool = False) -> Cam:
    """`x` (1, C, H, W) normalised. `layer`: any module whose output is maps (1, C, h, w), or tokens (1, N, D) of which
    the first may be a class token; by default the last stage that has a grid on which the score depends (behind the
    last layer of a vision transformer only the class token does). `plus`: Grad-CAM++. UsageError where there is none.
    """
    one_picture(x)
    names = stage_names(network) if layer is None else [resolve(network, layer)]
    with untouched(network), Tapped(network, names, lenient=layer is None) as taps:
        answer = score(network, x.detach().clone().requires_grad_(), target)
        slopes = taps.gradients(answer.sum())
        maps = {name: taps[name].detach() for name in slopes}
    if layer is not None:
        grid_of(maps[names[0]], names[0])  # or it says why not
    for name in reversed(names):
        if name in maps and places(maps[name]) > 1:
            own, slope = as_maps(maps[name], name)[0], as_maps(slopes[name], name)[0]
            if slope.any():
                return weighed(own, slope, name, x, plus=plus)
    what = names[0] if layer is not None else f"no stage of {type(network).__name__}"
    cause = f"{what} has a grid on which the score depends" if layer is None else f"the score does not depend on {what}"
    raise UsageError(cause, f"name another layer; the stages are {', '.join(stage_names(network))}")


def weighed(maps: Tensor, slope: Tensor, name: str, x: Tensor, *, plus: bool) -> Cam:
    """(C, h, w) twice"""
    weights = plus_weights(maps, slope) if plus else slope.mean((1, 2))
    coarse = torch.einsum("c,chw->hw", weights, maps).clamp(min=0)
    fine = F.interpolate(coarse[None, None], size=x.shape[-2:], mode="bilinear", align_corners=False)[0, 0]
    return Cam(coarse, fine, name)


def plus_weights(maps: Tensor, slope: Tensor) -> Tensor:
    """(C, h, w) twice -> (C,). The second and third derivatives of exp(score) are powers of its first."""
    square, cube = slope.square(), slope**3
    below = 2 * square + cube * maps.sum((1, 2), keepdim=True)
    shares = torch.where(below != 0, square / torch.where(below != 0, below, 1), 0)
    return (shares * slope.clamp(min=0)).sum((1, 2))


def places(out: Tensor) -> int:
    """0 for what is no maps, and for tokens that make no square."""
    if out.dim() == 4:
        return out.shape[2] * out.shape[3]
    try:
        return grid(out.shape[1])[0] ** 2 if out.dim() == 3 else 0
    except UsageError:
        return 0


def grid_of(out: Tensor, name: str) -> Tensor:
    """`as_maps`, but a vector has no places. UsageError where there is no grid."""
    if out.dim() not in (3, 4):
        raise UsageError(f"the layer {name} has no grid, it gives {tuple(out.shape)}", "name one with maps or tokens")
    return as_maps(out, name)
