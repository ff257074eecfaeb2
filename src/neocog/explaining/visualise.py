"""What a channel, a neuron or a class looks for: a picture is changed until it excites it as much as it can.

Olah, Mordvintsev and Schubert, "Feature Visualization", Distill 2017, https://distill.pub/2017/feature-visualization.
Three things keep the picture from becoming noise. It is written as Fourier coefficients in which all frequencies weigh
as they do in photographs, 1 / f; its colours are written along the axes in which those of photographs do not hang
together; and at every step the network sees it moved, scaled and turned a little. The constants are those of the
authors' code, https://github.com/tensorflow/lucid (optvis/param and optvis/transform).
Differs from it: the picture wraps around where it is moved and is mirrored where it is turned, so that its size stays
and networks of a fixed size can read it; jitter grows with the picture; and a ReLU that lets no gradient back is
opened (rectified.py, "redirected") at every step, not at the first 16.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neocog.core.errors import UsageError
from neocog.explaining.maps import as_maps
from neocog.explaining.rectified import Rectified
from neocog.explaining.seen import figures_of
from neocog.explaining.taps import Tapped, resolve, untouched

# Rows: red, green, blue. Columns: brightness, red against blue, both against green. It is the root of the correlation
# of colours in ImageNet, `color_correlation_svd_sqrt` of lucid's optvis/param/color.py.
COLOURS = (
    (0.26,  0.09,  0.02),
    (0.27,  0.00, -0.05),
    (0.27, -0.09,  0.03),
)  # fmt: skip
START = 0.01  # standard deviation of the first coefficients
RATE = 0.05  # Adam's
JITTER = 1 / 16  # of the side, either way
SCALE = 0.1  # 0.9 to 1.1
TURN = 10.0  # degrees, either way


@dataclass(frozen=True)
class Channel:
    """The mean of a layer's channel over all positions."""

    layer: str
    channel: int


@dataclass(frozen=True)
class Neuron:
    """A layer's channel at one position, (row, column); None: the middle."""

    layer: str
    channel: int
    position: tuple[int, int] | None = None


@dataclass(frozen=True)
class Class:
    """A class's score before the softmax."""

    index: int


Objective = Channel | Neuron | Class


@dataclass(frozen=True)
class Visualisation:
    picture: Tensor  # (C, H, W) in 0..1
    trace: list[float]  # what the objective was at each step, of the picture moved, scaled and turned


def visualise(
    network: nn.Module, objective: Objective, size: tuple[int, int], mean: Sequence[float], std: Sequence[float], *,
    steps: int = 256, seed: int = 0, channels: int | None = None,
) -> Visualisation:  # fmt: skip
    """`size`: (H, W) pixels. `mean` and `std` are those of the network's preprocessing, on the 0..1 scale; `channels`
    of the picture: the network's `in_channels`, or as many as `mean` has. The same seed gives the same bits on a CPU.
    UsageError for a layer, channel, position or class that there is not, and where no gradient comes back."""
    [found] = visualise_each(network, [objective], size, mean, std, steps=steps, seed=seed, channels=channels)
    return found


def visualise_each(
    network: nn.Module, objectives: Sequence[Objective], size: tuple[int, int], mean: Sequence[float],
    std: Sequence[float], *, steps: int = 256, seed: int = 0, channels: int | None = None,
) -> list[Visualisation]:  # fmt: skip
    """`visualise` of each, in one batch: a third cheaper for three. All begin alike and move alike, so each picture is
    what it would be alone but for rounding, in a network in eval mode."""
    h, w = size
    if steps < 1:
        raise UsageError(f"{steps} steps lead nowhere", "give at least 1")
    if not objectives:
        raise UsageError("there is nothing to look for", "name a channel, a neuron or a class")
    if min(h, w) < 1:
        raise UsageError(f"{h} x {w} pixels are no picture", "give at least 1 x 1")
    weight = next(network.parameters(), torch.empty(0))
    c: int = channels or getattr(network, "in_channels", None) or len(mean)
    generator = torch.Generator().manual_seed(seed)
    trace = []
    with untouched(network), Rectified("redirected"):
        centre, spread = (_per_channel(values, c).to(weight) for values in (mean, std))
        start = START * torch.randn(2, 1, c, h, w // 2 + 1, generator=generator)
        spectrum = start.repeat(1, len(objectives), 1, 1, 1).to(weight.device).requires_grad_()
        adam = torch.optim.Adam([spectrum], lr=RATE)
        for _ in range(steps):
            seen = (moved(painted(spectrum, size), generator).to(weight) - centre) / spread
            values = excitations(network, objectives, seen)
            if not values.requires_grad:
                raise UsageError("no gradient comes back to the picture", "name a layer in front of what cuts it off")
            (gradient,) = torch.autograd.grad(values.sum(), spectrum)
            spectrum.grad = -gradient
            adam.step()
            trace.append(values.tolist())
    pictures = painted(spectrum, size).detach()
    return [Visualisation(picture, list(own)) for picture, own in zip(pictures, zip(*trace, strict=True), strict=True)]


def _per_channel(values: Sequence[float], channels: int) -> Tensor:
    """(channels, 1, 1)"""
    return torch.tensor(figures_of(channels, tuple(values)))[:, None, None]


def excitations(network: nn.Module, objectives: Sequence[Objective], x: Tensor) -> Tensor:
    """(N, C, H, W) normalised -> (N,), each picture's own objective, with its graph. The network's mode is the
    caller's."""
    names = ["" if isinstance(one, Class) else resolve(network, one.layer) for one in objectives]
    with Tapped(network, {name for name in names if name}) as taps:
        scores = network(x)
    return torch.stack([
        _score(scores, row, one.index) if isinstance(one, Class) else _in_map(taps[name], name, row, one)
        for row, (one, name) in enumerate(zip(objectives, names, strict=True))
    ])  # fmt: skip


def _score(scores: Any, row: int, index: int) -> Tensor:
    if not isinstance(scores, Tensor) or scores.dim() != 2:
        raise UsageError("this network gives no class scores", "name a layer and a channel")
    _known("class", index, scores.shape[1])
    return scores[row, index]


def _in_map(out: Tensor, name: str, row: int, objective: Channel | Neuron) -> Tensor:
    maps = as_maps(out, name)[row]
    _known(f"channel of {name}", objective.channel, len(maps))
    if isinstance(objective, Channel):
        return maps[objective.channel].mean()
    h, w = maps.shape[1:]
    i, j = objective.position or (h // 2, w // 2)
    _known(f"row of {name}", i, h)
    _known(f"column of {name}", j, w)
    return maps[objective.channel, i, j]


def _known(what: str, index: int, many: int) -> None:
    if not 0 <= index < many:
        raise UsageError(f"there is no {what} {index}", f"they go from 0 to {many - 1}")


def painted(spectrum: Tensor, size: tuple[int, int]) -> Tensor:
    """Fourier coefficients, real and imaginary (2, N, C, H, W // 2 + 1) -> (N, C, H, W) in 0..1."""
    h, w = size
    device = spectrum.device
    f = torch.hypot(torch.fft.fftfreq(h, device=device)[:, None], torch.fft.rfftfreq(w, device=device))
    # 1 / f, and the root of the number of pixels, which makes the transform unitary: one learning rate for all sizes.
    scale = math.sqrt(h * w) / f.clamp(min=1 / max(h, w))
    picture: Tensor = torch.fft.irfft2(torch.complex(spectrum[0], spectrum[1]) * scale, s=size) / 4
    if picture.shape[1] == 3:
        colours = torch.tensor(COLOURS, device=device)
        picture = torch.einsum("dc,bchw->bdhw", colours / colours.norm(dim=0).max(), picture)
    return picture.sigmoid()


def moved(picture: Tensor, generator: torch.Generator) -> Tensor:
    """(N, C, H, W) -> the same shape: rolled, scaled and turned by chance, all alike."""
    h, w = picture.shape[2:]
    roll = [round((2 * _draw(generator) - 1) * max(1.0, JITTER * side)) for side in (h, w)]
    scale = 1 + SCALE * (2 * _draw(generator) - 1)
    angle = math.radians(TURN * (2 * _draw(generator) - 1))
    a, b = math.cos(angle) / scale, math.sin(angle) / scale
    # affine_grid measures both sides from -1 to 1; a turn must not shear what is not square.
    turn = picture.new_tensor([[[a, -b * h / w, 0], [b * w / h, a, 0]]])
    grid = F.affine_grid(turn.expand(len(picture), -1, -1), list(picture.shape), align_corners=False)
    return F.grid_sample(picture.roll(roll, (2, 3)), grid, padding_mode="reflection", align_corners=False)


def _draw(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))
