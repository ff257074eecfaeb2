"""Runs a module once, on shapes alone, and writes down every operator with the layer that called it.

A layer is a row where its forward calls no other layer. What a container computes itself, outside of its layers
(adding a shortcut, concatenating branches, a functional convolution), has rows of its own.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from neocog.costs import follow, formulas, shapes
from neocog.costs.arithmetic import check_division
from neocog.costs.formulas import per_axis
from neocog.costs.operators import arguments, field_of, tensors_of
from neocog.costs.paths import describe
from neocog.costs.table import ReceptiveField, Row, Shape, Window
from neocog.costs.watch import Watch


@dataclass
class Operator:
    """One operator's share of a row."""

    name: str
    in_shape: Shape
    out: Tensor | None
    macs: int
    other_ops: int
    written: int  # bytes
    params: list[nn.Parameter]
    window: Window | None
    unknown: str
    seen: tuple[ReceptiveField | None, str]  # now: what works in place on the output later may change it


@dataclass
class Frame:
    """A module whose forward is running."""

    name: str
    module: nn.Module
    in_shape: Shape
    items: list[Row | Operator] = field(default_factory=list)
    has_layers: bool = False


class Trace(Watch):
    """Collects `rows` while a module runs inside `watching`. `pixels`: the picture's length along each axis whose
    receptive field is followed."""

    def __init__(self, root: nn.Module, pixels: Sequence[int], device: torch.device) -> None:
        super().__init__()
        self.root, self.pixels, self.device = root, tuple(pixels), device
        self.rows: list[Row] = []
        self.notes: dict[str, None] = {}
        self.frames: list[Frame] = []
        self.seen: set[int] = set()  # parameters that have been counted

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Every call of a module inside `root` opens and closes a frame."""
        handles = []
        for name, module in self.root.named_modules():
            handles.append(module.register_forward_pre_hook(self._opener(name), with_kwargs=True))
            handles.append(module.register_forward_hook(self._close, with_kwargs=True))
        # The fused kernels of attention in eval mode hide what is inside them.
        fused = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            with self:
                yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fused)
            for handle in handles:
                handle.remove()

    @property
    def where(self) -> str:
        """The layer at work, for messages."""
        return self.frames[-1].name if self.frames else ""

    def _opener(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def open_frame(module: nn.Module, args: Any, kwargs: Any) -> None:
            if self.frames:
                self.frames[-1].has_layers = True
            self.frames.append(Frame(name, module, _shape(_first((args, kwargs)))))

        return open_frame

    def _close(self, module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
        frame = self.frames.pop()
        if frame.has_layers:
            rows = self._separate(frame)
        elif frame.items:
            operators = [item for item in frame.items if isinstance(item, Operator)]
            kind = type(module).__name__
            seen = _seen(_first(out))
            rows = [self._row(frame.name or kind, kind, frame.in_shape, out, operators, module.parameters(), seen)]
        else:
            rows = []  # a layer that does nothing in this mode, as dropout in eval
        (self.frames[-1].items if self.frames else self.rows).extend(rows)

    def _separate(self, frame: Frame) -> list[Row]:
        """A container's rows: those of its layers, and one for each operator of its own that costs something."""
        rows: list[Row] = []
        waiting: list[nn.Parameter] = []
        for item in frame.items:
            if isinstance(item, Row):
                rows.append(item)
                continue
            waiting += item.params  # parameters that pass through a view belong to what reads it
            if item.macs or item.other_ops or item.written or item.unknown:
                name = f"{frame.name}.{item.name}" if frame.name else item.name
                rows.append(self._row(name, item.name, item.in_shape, item.out, [item], waiting, item.seen))
                waiting = []
        return rows

    def _row(
        self, name: str, kind: str, in_shape: Shape, out: Any, operators: Sequence[Operator],
        parameters: Iterable[nn.Parameter], seen: tuple[ReceptiveField | None, str],
    ) -> Row:  # fmt: skip
        tensors = tensors_of(out)
        return Row(
            name=name, kind=kind, in_shape=in_shape, out_shape=_shape(tensors[0] if tensors else None),
            memory_kib=sum(t.numel() * t.element_size() for t in tensors) / 1024,
            written_kib=sum(o.written for o in operators) / 1024, params=self._count(parameters),
            macs=sum(o.macs for o in operators), other_ops=sum(o.other_ops for o in operators),
            window=next((o.window for o in operators if o.window is not None), None), field=seen[0], lost=seen[1],
            unknown=tuple(dict.fromkeys(o.unknown for o in operators if o.unknown)),
        )  # fmt: skip

    def _count(self, parameters: Iterable[nn.Parameter]) -> int:
        new = {id(p): p for p in parameters if id(p) not in self.seen}
        self.seen.update(new)
        return sum(p.numel() for p in new.values())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.device.type == "meta":  # tensors that are no parameter, buffer or input may still be real
            args, kwargs = pytree.tree_map_only(Tensor, _to_meta, (args, kwargs))
        out = shapes.quick(func, args, kwargs) if self.device.type == "meta" else None
        out = func(*args, **kwargs) if out is None else out
        follow.follow(func, args, kwargs, out, self.pixels, self._note)
        if self.frames:
            self.frames[-1].items.append(self._operator(func, args, kwargs, out))
        return out

    def _note(self, what: str) -> None:
        self.notes[f"{self.where or 'the network'}: {what}"] = None

    def _unseen(self, window: Window, sizes: Sequence[int], outs: Sequence[int]) -> None:
        """A stride that does not divide leaves the last rows out. Where windows leave rows out between them anyway, or
        ceil_mode has made room for them, there is nothing to say."""
        settings = zip(window.kernel, window.stride, window.padding, window.dilation, strict=True)
        for size, out, (k, s, p, d) in zip(sizes, outs, settings, strict=True):
            last = (out - 1) * s - p + d * (k - 1)
            if s <= k and last < size - 1:
                self._note(check_division(size, k, stride=s, padding=p, dilation=d))

    def _operator(self, func: Any, args: Any, kwargs: Any, out: Any) -> Operator:
        inputs, outputs = arguments([*args, *kwargs.values()]), arguments(out)
        held = {t.untyped_storage()._cdata for t in inputs}
        macs = formulas.macs(func, args, kwargs, out)
        window = _window(func, args)
        if window is not None and not window.transposed:
            axes = len(window.kernel)
            self._unseen(window, inputs[0].shape[-axes:], outputs[0].shape[-axes:])
        # The indices of a max pool are no layer's output; only its backward reads them.
        new = outputs[:1] if func._opname.endswith("_with_indices") else outputs
        return Operator(
            name=func._opname.strip("_"), in_shape=_shape(inputs[0] if inputs else None),
            out=outputs[0] if outputs else None, macs=macs or 0, other_ops=formulas.other_ops(func, args, out),
            written=sum(t.numel() * t.element_size() for t in new if t.untyped_storage()._cdata not in held),
            params=[t for t in inputs if isinstance(t, nn.Parameter)],
            window=window, unknown=formulas.name_of(func) if macs is None else "",
            seen=_seen(outputs[0] if outputs else None),
        )  # fmt: skip


def _to_meta(tensor: Tensor) -> Tensor:
    return tensor if tensor.is_meta or tensor.ndim == 0 else tensor.to("meta")


def _seen(tensor: Tensor | None) -> tuple[ReceptiveField | None, str]:
    found = None if tensor is None else field_of(tensor)
    return (None, "") if found is None else describe(found)


def _first(tree: Any) -> Tensor | None:
    return next(iter(tensors_of(tree)), None)


def _shape(tensor: Tensor | None) -> Shape:
    """Of one picture: without the batch of one."""
    if tensor is None:
        return ()
    shape = tuple(tensor.shape)
    return shape[1:] if len(shape) > 1 and shape[0] == 1 else shape


def _window(func: Any, args: Sequence[Any]) -> Window | None:
    name = func._opname
    if name in ("convolution", "_convolution"):
        kernel = tuple(args[1].shape[2:])
        stride, padding, dilation = (per_axis(value, len(kernel)) for value in args[3:6])
        return Window(kernel, stride, padding, dilation, args[8], args[6])
    if name in formulas.POOLS:
        n = next(int(letter) for letter in name if letter.isdigit())
        kernel = per_axis(args[1], n)
        stride = per_axis(args[2] if len(args) > 2 and args[2] else kernel, n)
        dilated: Any = args[4] if name.startswith("max") and len(args) > 4 else 1
        return Window(kernel, stride, per_axis(args[3] if len(args) > 3 else 0, n), per_axis(dilated, n))
    return None
