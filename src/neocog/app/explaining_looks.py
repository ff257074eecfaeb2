"""Maps of what mattered, laid over the picture, each with how well it predicts what happens when pixels go."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from neocog import report
from neocog.app.opened import Opened
from neocog.app.pictures import png
from neocog.core.errors import UsageError
from neocog.data.preprocess import denormalise
from neocog.explaining import attribution, checks
from neocog.explaining.cam import grad_cam
from neocog.explaining.integrated import integrated

SIDE = 256
STEPS = 16  # of a course
FLAT = 1e-6  # of a map's largest number: less is no difference between places
ORDERS = 3  # random ones
WINDOWS = 8  # squares along a side that occlusion hides


@dataclass(frozen=True)
class Looks:
    layer: str
    shown: tuple[report.Look, ...]
    random: tuple[float, float]
    courses: tuple[tuple[str, tuple[float, ...]], ...]
    notes: tuple[str, ...]


def looks_of(opened: Opened, x: Tensor, target: int, layer: str | None) -> Looks:
    """`x` (1, C, S, S) normalised."""
    network = opened.network
    pixels = denormalise(x, opened.run.card.preprocessing)[0].cpu().clamp(0, 1)
    side = x.shape[-1]
    notes: list[str] = []
    heats: list[tuple[str, Tensor, str, float | None]] = []  # name, (S, S) at least 0, note, alike
    shuffled = checks.randomised(network)
    cam = None
    try:
        cam = grad_cam(network, x, target, layer)
        name = cam.layer
        again = alike(cam.coarse, lambda: grad_cam(shuffled, x, target, name).coarse)
        places = " x ".join(map(str, cam.coarse.shape))
        heats.append(("Grad-CAM", cam.fine, f"of {name.removeprefix('stages.')}, {places} places", again))
        heats.append(("Grad-CAM++", grad_cam(network, x, target, name, plus=True).fine, "", None))
    except UsageError as error:
        if layer is not None:
            raise
        notes.append(f"no Grad-CAM: {error.cause}")
    window = max(2, side // WINDOWS)
    hidden = attribution.occlusion(network, x, target, window=window, stride=max(1, window // 2))
    heats.append(("Occlusion", hidden.clamp(min=0), f"squares of {window} pixels hidden", None))
    found = integrated(network, x, target, steps=64)
    share = abs(found.error) / max(abs(found.difference), 1e-9)
    heats.append(("Integrated gradients", attribution.heat(found.map), f"off by {share:.1%} of the difference", None))
    heats.append(("SmoothGrad", attribution.heat(attribution.smooth(network, x, target, samples=16)), "", None))
    try:
        guided = attribution.heat(attribution.rectified(network, x, target, "guided"))
        again = alike(guided, lambda: attribution.heat(attribution.rectified(shuffled, x, target, "guided")))
        heats.append(("Guided backpropagation", guided, "", again))
    except UsageError as error:
        notes.append(f"no guided backpropagation: {error.cause}")
    generator = torch.Generator().manual_seed(0)
    orders = [torch.rand(side, side, generator=generator) for _ in range(ORDERS)]
    ends, gone = zip(*(courses_of(opened, x, target, order) for order in orders), strict=True)
    random, by_luck = np.mean(ends, 0).tolist(), np.mean(gone, 0).tolist()
    shown, courses = [], dict[str, list[float]]()
    for name, heat, note, survives in heats:
        areas, courses[name] = courses_of(opened, x, target, heat)
        flat = "the same everywhere" if is_flat(heat) else ""
        note = "; ".join(one for one in (note, flat) if one)
        shown.append(report.Look(name, laid_over(pixels, heat), *areas, survives, note))
    best = min(shown, key=lambda look: look.deletion or 0.0).name
    drawn = ((best, tuple(courses[best])), ("random orders", tuple(by_luck)))
    return Looks(cam.layer if cam is not None else "", tuple(shown), tuple(random), drawn, tuple(notes))


def is_flat(values: Tensor) -> bool:
    """Whether a map (h, w) tells no place from another."""
    return bool(values.max() - values.min() <= FLAT * values.abs().max())


def courses_of(opened: Opened, x: Tensor, target: int, heat: Tensor) -> tuple[tuple[float, float], list[float]]:
    """(areas of deletion and insertion), the course of the deletion; as the run answers, in bf16 where it does."""
    with opened.precision():
        gone = checks.deletion(opened.network, x, target, heat, steps=STEPS)
        come = checks.insertion(opened.network, x, target, heat, steps=STEPS)
    return (checks.area(gone), checks.area(come)), gone


def alike(own: Tensor, again: Callable[[], Tensor]) -> float | None:
    """The rank correlation of a map with that of shuffled weights; None where these give none, or a constant."""
    try:
        found = checks.rank_correlation(own, again())
    except UsageError:
        return None
    return None if np.isnan(found) else found


def laid_over(pixels: Tensor, heat: Tensor) -> bytes:
    """(C, S, S) in 0..1 and (S, S) at least 0 -> a PNG: the picture in grey, warm where it mattered."""
    grey = pixels[:3].mean(0, keepdim=True).expand(3, -1, -1)
    heat = heat.detach().float().cpu()
    most = torch.quantile(heat.flatten(), 0.995).clamp_min(1e-12)
    strength = (heat / most).clamp(0, 1)
    mixed = grey * (1 - 0.75 * strength) + 0.75 * strength * paint(strength)
    if mixed.shape[-1] < SIDE:
        mixed = F.interpolate(mixed[None], scale_factor=SIDE // mixed.shape[-1], mode="nearest")[0]
    return png(mixed.clamp(0, 1), SIDE)


def paint(values: Tensor) -> Tensor:
    """(h, w) in 0..1 -> (3, h, w), matplotlib's inferno."""
    from matplotlib import colormaps

    colours = colormaps["inferno"](values.detach().cpu().numpy())[..., :3]
    return torch.from_numpy(np.ascontiguousarray(colours)).permute(2, 0, 1).float()
