"""How many bytes a training step needs at its worst moment, found by taking the step without any numbers.

Two steps run on fake tensors, which have shapes, types and devices but no memory: forward, loss, backward and the
optimizer's update, exactly the operators that a real step runs. Every storage is noted when it appears and when it is
let go, so the peak includes what autograd saves for the backward pass, gradients as they come and go, and the
temporaries between. What no tensor holds is not counted: Python itself, and the scratch space inside a kernel. On a
CPU in the contiguous layout that can be a copy of the largest map; in channels_last, neocog's choice, there is none.
"""

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from torch.utils import _pytree as pytree

from neocog.core.errors import UsageError, did_you_mean
from neocog.costs.count import MacCounter, copied
from neocog.costs.failing import checked, does_not_run
from neocog.costs.operators import tensors_of

MakeOptimizer = Callable[[list[nn.Parameter]], Optimizer]

OPTIMIZERS: dict[str, MakeOptimizer] = {
    "sgd": lambda p: SGD(p, lr=0.1, momentum=0.9, fused=True),
    "adam": lambda p: Adam(p, fused=True),
    "adamw": lambda p: AdamW(p, fused=True),
    "rmsprop": lambda p: RMSprop(p, foreach=True),
}
KINDS = ("parameters", "optimizer_state", "inputs", "gradients", "saved")


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes. `parameters` (with buffers), `optimizer_state` and `inputs` are there all the time; `gradients`, `saved`
    (tensors kept for the backward pass) and `rest` are those of the worst moment, and all six add up to `peak`."""

    batch: int
    peak: int
    moment: str  # "forward", "backward" or "update": when the peak is reached
    parameters: int
    optimizer_state: int
    inputs: int
    gradients: int
    saved: int
    rest: int
    saved_in_all: int  # what autograd holds between forward and backward
    trained: int  # parameters that learn, a number
    macs: int  # of forward and backward, for the whole batch
    kernels: tuple[str, ...]  # fused attention kernels that were assumed: other devices may choose others
    workspaces: tuple[str, ...]  # operators that keep a workspace whose size only they know: `peak` is a lower bound
    unknown: tuple[str, ...]  # operators whose multiply-accumulates have no formula: `macs` is partial


def training_memory(
    module: nn.Module, input_shape: tuple[int, ...], *, batch: int, optimizer: str | MakeOptimizer = "adamw",
    bf16: bool = False, accumulate: int = 1, device: str = "cpu", loss: Callable[[Any], Tensor] | None = None,
) -> TrainingMemory:  # fmt: skip
    """The memory of a training step on `batch` inputs of `input_shape` (C, H, W).

    What learns, and what is in training mode, is as `module` has it (`requires_grad`, `train()`); the module itself is
    left alone. `bf16`: forward under autocast. `accumulate`: batches whose gradients are added before an update.
    `device`: whose kernels are assumed; "cuda" needs a PyTorch with CUDA. `loss`: from the module's output to a
    scalar (default: the cross-entropy of every tensor of scores).
    """
    if not isinstance(module, nn.Module):
        raise UsageError(f"{module!r} is no torch.nn.Module", "create it first: neocog.create_model(name)")
    if not all(type(n) is int and 1 <= n <= 2**31 for n in (batch, accumulate)):
        raise UsageError(f"batch = {batch}, accumulate = {accumulate}: both must be at least 1", "give whole numbers")
    if device != "cpu" and not (device.startswith("cuda") and torch.cuda.is_available()):
        raise UsageError(f"the kernels of device {device!r} are not here", "use cpu, or cuda where PyTorch has it")
    if not callable(optimizer) and optimizer not in OPTIMIZERS:
        hint = did_you_mean(str(optimizer), OPTIMIZERS) or f"use one of {', '.join(OPTIMIZERS)}"
        raise UsageError(f"there is no optimizer called {optimizer!r}", hint)
    make = OPTIMIZERS[optimizer] if isinstance(optimizer, str) else optimizer
    with FakeTensorMode():
        twin = copied(module, lambda t: torch.empty(t.shape, dtype=t.dtype, device=device))
        dtype = next((p.dtype for p in twin.parameters()), torch.float32)
        with _Live() as live:
            live.hold("parameters", [*twin.parameters(), *twin.buffers()])
            step = _Step(twin, make, live, loss or _cross_entropy, bf16)
            x = torch.empty(batch, *checked(input_shape), dtype=dtype, device=device)
            live.hold("inputs", [x])
            try:
                step.run(x, accumulate)  # the optimizer's state appears at the end of the first step
                live.forget_peak()
                step.run(x, accumulate)
            except Exception as error:
                raise does_not_run(error, type(module).__name__, "training", [x]) from error
    peak = live.at_peak
    return TrainingMemory(
        batch=batch, peak=live.peak, moment=live.peak_moment, parameters=peak["parameters"],
        optimizer_state=peak["optimizer_state"], inputs=peak["inputs"], gradients=peak["gradients"],
        saved=peak["saved"], rest=peak["rest"], saved_in_all=step.saved,
        trained=sum(p.numel() for p in twin.parameters() if p.requires_grad), macs=live.macs,
        kernels=tuple(sorted(live.kernels)), workspaces=tuple(sorted(live.workspaces)),
        unknown=tuple(sorted(live.unknown)),
    )  # fmt: skip


def largest_batch(peak: Callable[[int], int], available: int, guess: int) -> int:
    """The largest batch whose `peak(batch)` fits into `available` bytes; 0 where not even one picture does."""
    fits, too_many = 0, 0
    step, tries = max(guess, 1), 0
    while True:  # close in on it from a line through the two batches known best; every third time by halves
        tries += 1
        if peak(step) <= available:
            fits = step
        else:
            too_many = step
        if too_many and too_many - fits <= 1:
            return fits
        if too_many and (not fits or tries % 3 == 0):
            step = (fits + too_many) // 2
        elif too_many:
            each = (peak(too_many) - peak(fits)) / (too_many - fits)
            step = min(max(fits + int((available - peak(fits)) / max(each, 1)), fits + 1), too_many - 1)
        else:
            less = fits // 2
            each = (peak(fits) - peak(less)) / (fits - less) if less else peak(1)
            step = fits + max(1, min(int((available - peak(fits)) / max(each, 1)) + 1, 15 * fits))


class _Step:
    """A training step, as the loop takes it."""

    def __init__(
        self, twin: nn.Module, make: MakeOptimizer, live: "_Live", loss: Callable[[Any], Tensor], bf16: bool
    ) -> None:
        self.twin, self.live, self.loss, self.bf16 = twin, live, loss, bf16
        learning = [p for p in twin.parameters() if p.requires_grad]
        self.optimizer = make(learning) if learning else None
        self.saved = 0
        for parameter in learning:
            parameter.register_post_accumulate_grad_hook(self._note_gradient)  # type: ignore[no-untyped-call]

    def _note_gradient(self, parameter: Tensor) -> None:
        if parameter.grad is not None:
            self.live.hold("gradients", [parameter.grad])

    def run(self, x: Tensor, accumulate: int) -> None:
        live = self.live
        for _ in range(accumulate):
            live.moment, live.macs = "forward", 0
            kind = x.device.type
            with (
                torch.autocast(kind, torch.bfloat16, enabled=self.bf16),
                torch.autograd.graph.saved_tensors_hooks(self._save, lambda tensor: tensor),
            ):
                loss = self.loss(self.twin(x))
            self.saved = live.bytes["saved"]
            live.moment = "backward"
            if loss.requires_grad:
                loss.backward()  # type: ignore[no-untyped-call]
            del loss
        live.moment = "update"
        if self.optimizer is not None:
            self.optimizer.step()
            live.hold("optimizer_state", pytree.tree_leaves(list(self.optimizer.state.values())))
            self.optimizer.zero_grad(set_to_none=True)

    def _save(self, tensor: Tensor) -> Tensor:
        self.live.hold("saved", [tensor])
        return tensor


class _Live(MacCounter):
    """The bytes of all storages that are alive, by what they are for."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[int, tuple[str, int]] = {}  # storage -> (kind, bytes)
        self.bytes = dict.fromkeys((*KINDS, "rest"), 0)
        self.peak, self.at_peak = 0, dict(self.bytes)
        self.moment = self.peak_moment = ""
        self.kernels: set[str] = set()
        self.workspaces: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = super().__torch_dispatch__(func, types, args, kwargs)
        if func._opname == "mkldnn_rnn_layer":
            self.workspaces.add("the CPU's LSTM")
        if "attention" in func._opname:
            self.kernels.add(func._opname.strip("_").removesuffix("_backward"))
        for tensor in pytree.tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._meet(tensor)
        total = sum(self.bytes.values())
        if total > self.peak:
            self.peak, self.peak_moment, self.at_peak = total, self.moment, dict(self.bytes)
        return out

    def _meet(self, tensor: Tensor, kind: str = "rest") -> int:
        storage = tensor.untyped_storage()
        key: int = storage._cdata
        if key not in self.known:
            self.known[key] = (kind, storage.nbytes())
            self.bytes[kind] += storage.nbytes()
            weakref.finalize(storage, self._gone, key)
        return key

    def _gone(self, key: int) -> None:
        kind, size = self.known.pop(key)
        self.bytes[kind] -= size

    def hold(self, kind: str, tensors: Iterable[Any]) -> None:
        """Says what these tensors are for, from now on; parameters stay parameters when autograd saves them."""
        for tensor in tensors:
            if not isinstance(tensor, Tensor):
                continue
            key = self._meet(tensor, kind)
            before, size = self.known[key]
            if before == "rest" or (before, kind) == ("saved", "gradients"):
                self.known[key] = (kind, size)
                self.bytes[before] -= size
                self.bytes[kind] += size

    def forget_peak(self) -> None:
        self.peak = 0
        self.kernels.clear()


def _cross_entropy(outputs: Any) -> Tensor:
    """Of every tensor of scores among the outputs, (B, K) or (B, K, ...); of what is none, the mean."""
    losses = []
    for scores in tensors_of(outputs):
        if scores.is_floating_point():
            target = torch.zeros(scores.shape[0], *scores.shape[2:], dtype=torch.int64, device=scores.device)
            losses.append(F.cross_entropy(scores, target) if scores.ndim > 1 else scores.mean())
    if not losses:
        raise UsageError("no scores are among what the network returns", "give training_memory a loss")
    return torch.stack(losses).sum()
