"""Whether a map of what matters says anything: about the network, and about the answer.

randomised   a map that hardly changes when the weights are shuffled shows edges of the picture, not what the
             network learned: Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, arXiv:1810.03292
deletion     the sooner the class's probability falls when the pixels that are said to matter most go, the better
insertion    the sooner it rises when they come back to a blurred picture, the better; both Petsiuk, Das and Saenko,
             "RISE", BMVC 2018, arXiv:1806.07421
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neocog.core.errors import UsageError
from neocog.explaining.attribution import TOGETHER, of_class, scores_of
from neocog.explaining.taps import one_picture, untouched


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """A copy with the numbers of each weight tensor in another order: nothing learned is left, and every layer keeps
    its scale."""
    twin = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in twin.parameters():
            order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
            weight.copy_(weight.flatten()[order].view_as(weight))
    return twin


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's, of the numbers of two maps of one shape, -1..1; equal numbers share their mean rank. NaN where a map
    is constant."""
    from scipy.stats import rankdata  # type: ignore[import-untyped]  # comes with scikit-learn

    ranks = [torch.from_numpy(rankdata(x.detach().flatten().cpu().numpy())) for x in (a, b)]
    first, second = (rank - rank.mean() for rank in ranks)
    return float(first @ second / (first.norm() * second.norm()))


def deletion(network: nn.Module, x: Tensor, target: int, heat: Tensor, *, steps: int = 32) -> list[float]:
    """The probability of `target` after shares 0, 1 / steps, ..., 1 of the pixels, those of most `heat` (H, W) first,
    became 0, the mean colour. `x` (1, C, H, W) normalised. UsageError for another heat, class or number of steps."""
    one_picture(x)
    return course(network, x.detach(), torch.zeros_like(x), target, heat, steps)


def insertion(network: nn.Module, x: Tensor, target: int, heat: Tensor, *, steps: int = 32) -> list[float]:
    """The same, while these pixels come back to the blurred picture."""
    one_picture(x)
    return course(network, blurred(x.detach()), x.detach(), target, heat, steps)


def area(course: list[float]) -> float:
    """Under a course by trapezia, 0..1."""
    return (sum(course) - (course[0] + course[-1]) / 2) / (len(course) - 1)


def course(network: nn.Module, start: Tensor, end: Tensor, target: int, heat: Tensor, steps: int) -> list[float]:
    height, width = start.shape[-2:]
    if heat.shape != (height, width):
        cause = f"heat of {' x '.join(map(str, heat.shape))} is none of a picture of {height} x {width}"
        raise UsageError(cause, "give one number for each pixel")
    if steps < 1:
        raise UsageError(f"{steps} steps lead nowhere", "give at least 1")
    rank = torch.empty(heat.numel(), dtype=torch.long)
    rank[heat.flatten().cpu().argsort(descending=True, stable=True)] = torch.arange(heat.numel())
    rank = rank.view(heat.shape).to(start.device)
    found: list[float] = []
    with untouched(network), torch.no_grad():
        for some in torch.split(torch.arange(steps + 1), TOGETHER):
            gone = torch.stack([rank < round(int(n) * heat.numel() / steps) for n in some])[:, None]
            scores = scores_of(network, torch.where(gone, end, start))
            found += of_class(scores.float().softmax(1), target).tolist()
    return found


def blurred(x: Tensor, share: float = 1 / 20) -> Tensor:
    """A Gaussian of `share` of the short side, borders mirrored."""
    sigma = max(1.0, share * min(x.shape[-2:]))
    reach = min(int(3 * sigma), min(x.shape[-2:]) - 1)
    line = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    line = (-line.square() / (2 * sigma**2)).exp()
    line = line / line.sum()
    channels = x.shape[1]
    padded = F.pad(x, (reach,) * 4, mode="reflect")
    with torch.autocast(x.device.type, enabled=False):  # in bf16 such long kernels take seconds on a CPU
        rows = F.conv2d(padded, line.view(1, 1, 1, -1).expand(channels, -1, -1, -1), groups=channels)
        return F.conv2d(rows, line.view(1, 1, -1, 1).expand(channels, -1, -1, -1), groups=channels)
