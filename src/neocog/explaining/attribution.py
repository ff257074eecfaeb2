"""Which pixels an answer hangs on: gradients of a class's score, and what becomes of it when pixels go.

    gradient              Simonyan, Vedaldi and Zisserman, "Deep Inside Convolutional Networks", 2014, arXiv:1312.6034
    input_x_gradient      the same times the picture
    guided, deconvolution other ways back through ReLUs: rectified.py
    smooth                Smilkov et al., "SmoothGrad", 2017, arXiv:1706.03825
    occlusion             Zeiler and Fergus, ECCV 2014, arXiv:1311.2901, section 4.2

All take `x` (1, C, H, W) normalised float and a class number, and give (C, H, W), occlusion (H, W). Scores are those
before the softmax. What needs many passes takes `together` pictures at a time, so memory does not grow with steps.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from neocog.core.errors import UsageError
from neocog.explaining.rectified import Rectified, Rule
from neocog.explaining.taps import one_picture, untouched

TOGETHER = 16


def scores_of(network: nn.Module, x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, K). UsageError where the network gives no scores of classes."""
    scores = network(x.clone())  # which a network that works in place may change
    if not isinstance(scores, Tensor) or scores.dim() != 2:
        raise UsageError(f"{type(network).__name__} gives no scores of classes", "give a classifier")
    return scores


def score(network: nn.Module, x: Tensor, target: int) -> Tensor:
    """(B,), of class `target`. UsageError where there is no such class."""
    return of_class(scores_of(network, x), target)


def of_class(scores: Tensor, target: int) -> Tensor:
    """(B, K) -> (B,). UsageError where there is no such class."""
    if not 0 <= target < scores.shape[1]:
        raise UsageError(f"there is no class {target}", f"the classes are 0 to {scores.shape[1] - 1}")
    return scores[:, target]


def gradient(network: nn.Module, x: Tensor, target: int) -> Tensor:
    one_picture(x)
    with untouched(network):
        return slopes(network, x, target)[0]


def slopes(network: nn.Module, x: Tensor, target: int) -> Tensor:
    """(B, C, H, W): of each picture's own score."""
    x = x.detach().clone().requires_grad_()  # what was made in inference mode takes no gradient
    return uphill(score(network, x, target), x)


def uphill(scores: Tensor, x: Tensor) -> Tensor:
    """(B,), each of its own picture -> d score / d `x` (B, C, H, W). UsageError where they do not depend on it."""
    if not scores.requires_grad:
        raise UsageError("the score does not depend on the picture", "take another class or network")
    (found,) = torch.autograd.grad(scores.sum(), x)
    return found


def input_x_gradient(network: nn.Module, x: Tensor, target: int) -> Tensor:
    return gradient(network, x, target) * x[0].detach()


def rectified(network: nn.Module, x: Tensor, target: int, rule: Rule) -> Tensor:
    """`rule` "guided" or "deconvolution". UsageError where the network has no ReLU that it could change."""
    one_picture(x)
    with untouched(network), Rectified(rule) as mode:
        found = slopes(network, x, target)[0]
    if not mode.met:
        raise UsageError(f"{type(network).__name__} has no ReLU, so {rule} would be the plain gradient", "use gradient")
    return found


def smooth(
    network: nn.Module, x: Tensor, target: int, *, noise: float = 0.15, samples: int = 32, seed: int = 0,
    together: int = TOGETHER,
) -> Tensor:  # fmt: skip
    """The mean gradient of `samples` pictures with Gaussian noise of `noise` times the picture's range."""
    one_picture(x)
    if samples < 1:
        raise UsageError(f"{samples} samples have no mean", "give at least 1")
    x, generator = x.detach(), torch.Generator().manual_seed(seed)
    spread = noise * float(x.max() - x.min())
    with untouched(network):
        total = torch.zeros_like(x[0])
        for number in chunks(samples, together):
            noisy = x + spread * torch.randn((number, *x.shape[1:]), generator=generator).to(x)
            total += slopes(network, noisy, target).sum(0)
    return total / samples


def occlusion(
    network: nn.Module, x: Tensor, target: int, *, window: int, stride: int, fill: float = 0.0,
    together: int = TOGETHER,
) -> Tensor:  # fmt: skip
    """(H, W): by how much the score falls where a square of `window` pixels is `fill` (default 0, the mean colour), the
    mean over the squares that hide a pixel. Squares begin every `stride` pixels, and at the far borders."""
    one_picture(x)
    height, width = x.shape[-2:]
    if not 0 < stride <= window <= min(height, width):
        cause = f"a window of {window} pixels every {stride} does not cover a picture of {height} x {width}"
        raise UsageError(cause, "stride <= window <= the picture's side")
    squares = [(top, left) for top in starts(height, window, stride) for left in starts(width, window, stride)]
    with untouched(network), torch.no_grad():
        total, count = x.new_zeros(height, width), x.new_zeros(height, width)
        whole = score(network, x, target)[0]
        for begin in range(0, len(squares), together):
            some = squares[begin : begin + together]
            hidden = x.detach().repeat(len(some), 1, 1, 1)
            for picture, (top, left) in zip(hidden, some, strict=True):
                picture[:, top : top + window, left : left + window] = fill
            for fall, (top, left) in zip(whole - score(network, hidden, target), some, strict=True):
                total[top : top + window, left : left + window] += fall
                count[top : top + window, left : left + window] += 1
    return total / count


def starts(side: int, window: int, stride: int) -> list[int]:
    """Where windows begin so that the whole side is covered."""
    return sorted({*range(0, side - window + 1, stride), side - window})


def chunks(number: int, most: int) -> Iterator[int]:
    """`number` in parts of at most `most`."""
    for start in range(0, number, most):
        yield min(most, number - start)


def heat(found: Tensor) -> Tensor:
    """(C, H, W) -> (H, W): how much a pixel matters, whichever its sign."""
    return found.abs().sum(0)
