"""Other ways back through a ReLU, whichever way it is spelled.

    gradient        passes where the input was positive
    deconvolution   passes where what comes back is positive: Zeiler and Fergus, "Visualizing and Understanding
                    Convolutional Networks", ECCV 2014, arXiv:1311.2901, section 2.1
    guided          passes where both are: Springenberg et al., "Striving for Simplicity", ICLR 2015 workshop,
                    arXiv:1412.6806, figure 1
    redirected      the gradient, and where that lets nothing of a picture back at all, as deconvolution: a picture that
                    is sought by its gradient can then start with a ReLU that is shut. github.com/tensorflow/lucid,
                    misc/redirected_relu_grad.py

Calls are caught on their way into torch, so a module, a function, a method and one that works in place are the same
thing, and a module used twice is two calls. Max pools need nothing: their own backward pass puts a value where the
forward pass took it, which is what the first paper calls switches.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

Rule = Literal["deconvolution", "guided", "redirected"]


class _Relu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rule: Rule, most: float | None) -> Tensor:
        out = x.clamp(0, most)
        ctx.save_for_backward(out)
        ctx.rule, ctx.most = rule, most
        return out.clone()  # which whoever comes next may change in place

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (out,), gradient = ctx.saved_tensors, gradients[0]
        if ctx.rule == "deconvolution":
            return gradient.clamp(min=0), None, None
        if ctx.rule == "guided":
            return _through(gradient.clamp(min=0), out, ctx.most), None, None
        plain = _through(gradient, out, ctx.most)
        shut = torch.linalg.vector_norm(plain, ord=1, dim=tuple(range(1, plain.dim())), keepdim=True) == 0
        return torch.where(shut, gradient.clamp(min=0), plain) if shut.any() else plain, None, None


def _through(gradient: Tensor, out: Tensor, most: float | None) -> Tensor:
    """Where 0 < out < most. (PyTorch's own kernels: a product with a mask of bools takes three times as long.)"""
    if most is None:
        return torch.ops.aten.threshold_backward(gradient, out, 0)  # type: ignore[no-any-return]
    return torch.ops.aten.hardtanh_backward(gradient, out, 0, most)  # type: ignore[no-any-return]


IN_PLACE = {F.relu_, torch.relu_, Tensor.relu_, torch.clamp_, Tensor.clamp_, torch.clamp_min_, Tensor.clamp_min_}
IN_PLACE |= {F.hardtanh_, torch.clip_, Tensor.clip_, torch.threshold_}
CLAMPS = {torch.clamp, Tensor.clamp, torch.clamp_, Tensor.clamp_}
CLAMPS |= {torch.clamp_min, Tensor.clamp_min, torch.clamp_min_, Tensor.clamp_min_}
CLAMPS |= {torch.clip, Tensor.clip, torch.clip_, Tensor.clip_}
HARD = {F.hardtanh, F.hardtanh_}  # nn.ReLU6 is spelled so
THRESHOLDS = {F.threshold, torch.threshold, torch.threshold_}
RELUS = {F.relu, torch.relu, Tensor.relu, F.relu_, torch.relu_, Tensor.relu_}


class Rectified(TorchFunctionMode):
    """While it is entered, ReLU, ReLU6, a clamp and a threshold at 0 pass gradients back by `rule`. `met` counts them:
    where it stays 0 there was none, and what comes back is the plain gradient."""

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.rule = rule
        self.met = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        most = cut_at(func, args, kwargs)
        if most is None:
            return func(*args, **kwargs)
        self.met += 1
        x = args[0] if args else kwargs["input"]
        out = _Relu.apply(x, self.rule, most if most < float("inf") else None)  # type: ignore[no-untyped-call]
        inplace = func in IN_PLACE or kwargs.get("inplace", len(args) > 1 and func in (F.relu, F.relu6) and args[1])
        return x.copy_(out) if inplace else out


def cut_at(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> float | None:
    """What a rectifier is cut at: infinity, 6 or another number, or None where `func` is none."""
    if func in RELUS:
        return float("inf")
    if func is F.relu6:
        return 6.0
    if func in CLAMPS | HARD:
        least, most = (*args[1:], None, None)[:2]
        names = ("min_val", "max_val") if func in HARD else ("min", "max")
        least, most = kwargs.get(names[0], least), kwargs.get(names[1], most)
        if isinstance(least, int | float) and least == 0:
            return float("inf") if most is None else float(most)
    if func in THRESHOLDS:
        least, value = (*args[1:], None, None)[:2]
        if kwargs.get("threshold", least) == kwargs.get("value", value) == 0:
            return float("inf")
    return None
