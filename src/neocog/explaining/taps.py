"""Look inside a network while it runs, and leave it as it was.

Works on any `nn.Module`. `untouched` holds a network in eval mode without gradients of its weights; `Tapped` records
what named modules give. Neither adds, replaces or leaves anything: hooks go, modes, flags, gradients, buffers and the
random generators are afterwards what they were.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from neocog.core.errors import UsageError, did_you_mean


@contextmanager
def untouched(network: nn.Module) -> Iterator[None]:
    """Inside: eval mode, and weights that gather no gradient, so that only what is asked for by name is computed, also
    where the caller is in inference mode. A buffer that the network binds anew, adds or drops is the old one again.
    UsageError for a network without numbers (on the meta device)."""
    modules = list(network.modules())
    modes = [(module, module.training) for module in modules]
    weights = [(weight, weight.requires_grad, weight.grad) for weight in network.parameters()]
    bound = [(m, dict(m._buffers.items()), set(m._non_persistent_buffers_set)) for m in modules]
    buffers = {id(buffer): buffer for _, own, _ in bound for buffer in own.values() if buffer is not None}
    tensors = [*(weight for weight, _, _ in weights), *buffers.values()]
    if any(tensor.is_meta for tensor in tensors):
        cause = f"{type(network).__name__} has no numbers, it lies on the meta device"
        raise UsageError(cause, "load its weights onto a CPU or GPU")
    copies = [(buffer, buffer.clone()) for buffer in buffers.values()]
    devices = sorted({tensor.get_device() for tensor in tensors if tensor.is_cuda})
    with torch.random.fork_rng(devices):
        try:
            with torch.inference_mode(False), torch.enable_grad():
                network.eval()
                for weight, _, _ in weights:
                    weight.requires_grad_(False)
                    weight.grad = None
                yield
        finally:
            for module, mode in modes:
                module.training = mode
            for weight, flag, gradient in weights:
                weight.requires_grad_(flag)
                weight.grad = gradient
            for module, own, fleeting in bound:
                now = dict(module._buffers.items())
                for name in now.keys() - own.keys():
                    del module._buffers[name]
                for name, buffer in own.items():
                    if name not in now or now[name] is not buffer:
                        module._buffers[name] = buffer
                        module._non_persistent_buffers_set = fleeting
            with torch.no_grad():
                for buffer, before in copies:
                    if not torch.equal(buffer, before):
                        buffer.copy_(before)


class Tapped:
    """`with Tapped(network, ["stages.layer4"]) as taps: scores = network(x)`; then `taps["stages.layer4"]` is what that
    module gave when it was last called, and `taps.calls` has every call. What a later layer changes in place is
    recorded as it was before. Tensors keep their graph, so that `gradients` can be asked for. What gives no single
    tensor is a UsageError, or with `lenient` not recorded."""

    def __init__(self, network: nn.Module, names: Iterable[str], *, lenient: bool = False) -> None:
        self.lenient = lenient
        self.calls: dict[str, list[Tensor]] = {}
        self._modules = {name: network.get_submodule(resolve(network, name)) for name in names}
        self._hooks: list[Any] = []

    def __enter__(self) -> "Tapped":
        for name, module in self._modules.items():
            self._hooks.append(module.register_forward_hook(self._recorder(name)))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.calls:
            raise UsageError(f"the layer {name} was not reached", "name one that every picture passes")
        return self.calls[name][-1]

    def gradients(self, target: Tensor) -> dict[str, Tensor]:
        """d `target` / d output of each tap's last call; zeros where it plays no part. `target`: a scalar."""
        asked = {name: self[name] for name in self.calls if self[name].requires_grad and target.requires_grad}
        given = torch.autograd.grad(target, list(asked.values()), retain_graph=True, allow_unused=True) if asked else ()
        found = dict(zip(asked, given, strict=True))
        return {name: torch.zeros_like(self[name]) if (g := found.get(name)) is None else g for name in self.calls}

    def _recorder(self, name: str) -> Any:
        def record(module: nn.Module, args: Any, out: Any) -> Any:
            if not isinstance(out, Tensor):
                if self.lenient:
                    return out
                raise UsageError(f"the layer {name} gives no single tensor", "name one of its parts")
            self.calls.setdefault(name, []).append(out)
            return out.clone()  # a ReLU that works in place then changes the copy

        return record


def one_picture(x: Tensor) -> None:
    """UsageError for a batch of another number than 1."""
    if x.dim() < 2 or len(x) != 1:
        raise UsageError(f"the input is {tuple(x.shape)}", "give one picture: (1, C, H, W)")


def stage_names(network: nn.Module) -> list[str]:
    """The stages of a network of the zoo, in their order; of any other module its children's names."""
    stages = getattr(network, "stages", None)
    if isinstance(stages, nn.Sequential) and len(stages):
        return [f"stages.{name}" for name, _ in stages.named_children()]
    return [name for name, _ in network.named_children()]


def resolve(network: nn.Module, name: str) -> str:
    """The full name of a module that may be given without "stages." before it. UsageError that lists the stages."""
    known = dict(network.named_modules())
    for full in (name, f"stages.{name}"):
        if full and full in known:
            return full
    near = did_you_mean(name, [key for key in known if key])
    stages = ", ".join(stage.removeprefix("stages.") for stage in stage_names(network))
    raise UsageError(f"there is no layer {name!r}", near or f"the stages are {stages}")
