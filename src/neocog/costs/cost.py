"""`cost(module, input_shape)`: every layer of any module with shapes, memory, parameters, MACs, receptive field."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from neocog.core.contracts import Network
from neocog.core.errors import UsageError, did_you_mean
from neocog.costs import follow
from neocog.costs.count import copied, on_meta
from neocog.costs.failing import checked, does_not_run
from neocog.costs.gradient import support
from neocog.costs.table import CostTable, Extent, Shape
from neocog.costs.trace import Trace

SEQUENCES = (nn.Conv1d, nn.ConvTranspose1d, nn.MaxPool1d, nn.AvgPool1d)


def cost(
    module: nn.Module, input_shape: Shape | Sequence[Shape] = (3, 224, 224), *,
    inputs: Sequence[Any] | Mapping[str, Any] | None = None, dtype: torch.dtype | None = None,
    name: str | None = None, allocate: bool = False,
) -> CostTable:  # fmt: skip
    """What `module` costs in eval mode, layer by layer, on one picture.

    `input_shape`: without the batch, (C, H, W); several for a module with several inputs. `inputs`: examples instead
    of shapes, positional or by name, where an input is no floating-point tensor; they are used as they are, batch
    included. `dtype`: of the weights and floating-point inputs (default: the module's own). `allocate`: run on real
    numbers (zeros) on the CPU, for modules that look at them.

    The module is copied without its numbers and left alone. UsageError where it does not run on this input.
    """
    twin = copied(module, torch.clone) if allocate else on_meta(module)
    return cost_of(twin, input_shape, inputs=inputs, dtype=dtype, name=name or type(module).__name__)


@torch.no_grad()
def cost_of(
    twin: nn.Module, input_shape: Shape | Sequence[Shape], *, inputs: Sequence[Any] | Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None, name: str = "",
) -> CostTable:  # fmt: skip
    """`cost` of a module that may be used up, such as one that was built on the meta device."""
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise UsageError(f"{dtype!r} is no type of weights", "give torch.float32, torch.bfloat16 or torch.float16")
    twin.eval()
    if isinstance(twin, Network):
        twin.auxiliary = None  # training alone uses them
    if dtype is not None:
        twin.to(dtype)
    tensors = [*twin.parameters(), *twin.buffers()]
    dtype = next((t.dtype for t in tensors if t.is_floating_point()), dtype or torch.get_default_dtype())
    device = next((t.device for t in tensors), torch.device("meta"))
    args, kwargs = _inputs(input_shape, inputs, dtype, device)
    shown = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
    if not shown:
        raise UsageError(f"{name} got no input", "give an input_shape such as (3, 224, 224)")
    pixels = _pictures(twin, shown)
    trace = Trace(twin, pixels, device)
    try:
        with trace.watching():
            twin(*args, **kwargs)
    except Exception as error:
        raise does_not_run(error, name, trace.where, shown) from error
    params = {id(p): p for p in twin.parameters()}
    return CostTable(
        name=name,
        input_shapes=tuple(tuple(t.shape[1:]) if inputs is None else tuple(t.shape) for t in shown),
        dtype=str(dtype).removeprefix("torch."),
        rows=tuple(trace.rows),
        params=sum(p.numel() for p in params.values()),
        unused_params=sum(p.numel() for key, p in params.items() if key not in trace.seen),
        buffers_kib=sum(b.numel() * b.element_size() for b in twin.buffers()) / 1024,
        notes=tuple(trace.notes),
    )


def _inputs(
    shapes: Shape | Sequence[Shape], given: Sequence[Any] | Mapping[str, Any] | None, dtype: torch.dtype,
    device: torch.device,
) -> tuple[tuple[Any, ...], dict[str, Any]]:  # fmt: skip
    if given is not None:
        given = (given,) if isinstance(given, Tensor) else given
        moved = pytree.tree_map_only(Tensor, lambda t: t.to(device, dtype if t.is_floating_point() else None), given)
        return ((), dict(moved)) if isinstance(moved, Mapping) else (tuple(moved), {})
    one = not isinstance(shapes, Sequence) or not shapes or not all(isinstance(shape, Sequence) for shape in shapes)
    several: Sequence[Any] = [shapes] if one else shapes
    return tuple(torch.zeros(1, *checked(shape), dtype=dtype, device=device) for shape in several), {}


def _pictures(module: nn.Module, inputs: Sequence[Tensor]) -> Shape:
    """Marks the inputs that are pictures: (B, C, H, W), (B, C, D, H, W), and (B, C, L) where something slides along
    it. Returns the lengths of the axes; inputs of other sizes than the first picture's are not followed."""
    slides = any(isinstance(m, SEQUENCES) for m in module.modules())
    pictures = [t for t in inputs if t.is_floating_point() and t.ndim >= (3 if slides else 4)]
    if not pictures:
        return ()
    pixels = tuple(pictures[0].shape[2:])
    for tensor in pictures:
        if tuple(tensor.shape[2:]) == pixels:
            follow.start(tensor, len(pixels))
    return pixels


def receptive_field(
    module: nn.Module, input_shape: Shape = (3, 224, 224), *, layer: str | None = None, method: str = "paths"
) -> tuple[Extent, ...]:
    """(height, width) in pixels of what one unit of `layer` sees (default: the last layer with a map of units).

    `method`: "paths" follows the operators, as if the picture had no borders; "gradient" runs the network with
    positive weights and looks which pixels of an `input_shape` picture matter, so the picture clips it.
    UsageError where the layer is not there, or its field could not be followed.
    """
    if not isinstance(module, nn.Module):
        raise UsageError(f"{module!r} is no torch.nn.Module", "create it first: neocog.create_model(name)")
    if method == "gradient":
        return support(module, input_shape, layer)[0]
    if method != "paths":
        raise UsageError(f"there is no method called {method!r}", "use paths or gradient")
    table = cost(module, input_shape)
    if layer is None:
        if table.receptive_field is not None:
            return table.receptive_field
        rows = list(table.rows)
    else:
        rows = [row for row in table.rows if row.name == layer or row.name.startswith(f"{layer}.")]
        if not rows:
            hint = did_you_mean(layer, [row.name for row in table.rows]) or "cost(module).rows names them"
            raise UsageError(f"{table.name} has no layer {layer!r} that does something", hint)
        if rows[-1].field is not None:
            return rows[-1].field.largest
    lost = next((f" ({row.lost} is not followed)" for row in rows if row.lost), "")
    raise UsageError(f"{table.name} has no receptive field at {layer or 'its end'}{lost}", "try method='gradient'")
