"""Every way of looking inside, once and as briefly as it goes, for sweeps over many networks."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from neocog.core.spec import figures_for
from neocog.explaining import adversarial, arithmetic, attribution, checks, maps, patches, ranges, taps, visualise
from neocog.explaining.cam import grad_cam
from neocog.explaining.integrated import integrated

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLASS = 1
Way = Callable[[nn.Module, Tensor], Any]  # of a network and (1, C, H, W) normalised


def last(network: nn.Module) -> str:
    return taps.stage_names(network)[-1]


def scale(x: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return figures_for(x.shape[1], MEAN), figures_for(x.shape[1], STD)


def first_unit(network: nn.Module, x: Tensor) -> arithmetic.Unit:
    name = arithmetic.convolutions(network)[0]
    dense = isinstance(network.get_submodule(name), nn.Linear)
    return arithmetic.unit(network, x, name, 0, None if dense else (0, 0))


WAYS: dict[str, Way] = {
    "gradient": lambda n, x: attribution.gradient(n, x, CLASS),
    "input x gradient": lambda n, x: attribution.input_x_gradient(n, x, CLASS),
    "guided": lambda n, x: attribution.rectified(n, x, CLASS, "guided"),
    "deconvolution": lambda n, x: attribution.rectified(n, x, CLASS, "deconvolution"),
    "integrated": lambda n, x: integrated(n, x, CLASS, steps=2).map,
    "smooth": lambda n, x: attribution.smooth(n, x, CLASS, samples=2),
    "occlusion": lambda n, x: attribution.occlusion(n, x, CLASS, window=min(x.shape[-2:]), stride=min(x.shape[-2:])),
    "grad-cam": lambda n, x: grad_cam(n, x, CLASS).fine,
    "grad-cam++": lambda n, x: grad_cam(n, x, CLASS, plus=True).fine,
    "deletion": lambda n, x: checks.deletion(n, x, CLASS, x[0].mean(0), steps=1),
    "insertion": lambda n, x: checks.insertion(n, x, CLASS, x[0].mean(0), steps=1),
    "activations": lambda n, x: [one.maps for one in maps.activations(n, x)],
    "before and after": lambda n, x: maps.before_and_after(n, x, last(n)).output,
    "patches": lambda n, x: patches.strongest(n, [(torch.tensor([0]), x)], last(n), most=1),
    "dead channels": lambda n, x: ranges.dead_channels(n, [x, -x], last(n)),
    "fgsm": lambda n, x: adversarial.fgsm(n, x.sigmoid(), torch.tensor([CLASS]), 0.01, *scale(x)),
    "pgd": lambda n, x: adversarial.pgd(
        n, x.sigmoid(), torch.tensor([CLASS]), 0.01, *scale(x), steps=2, generator=torch.Generator().manual_seed(0)
    ),
    "made": lambda n, x: visualise.visualise(n, visualise.Class(CLASS), x.shape[-2:], *scale(x), steps=1).picture,
    "unit": first_unit,
}
