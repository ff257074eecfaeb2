"""`cost(module, input_shape)`: every layer of any module with shapes, memory, parameters, MACs, receptive field."""

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from neocog.core.contracts import Network
from neocog.core.errors import UsageError
from neocog.costs import follow
from neocog.costs.count import copied, on_meta
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
    except (RuntimeError, ValueError, TypeError, NotImplementedError, IndexError, AssertionError) as error:
        raise _explained(error, name, trace.where, shown) from error
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
        moved = pytree.tree_map_only(Tensor, lambda t: t.to(device, dtype if t.is_floating_point() else None), given)
        return ((), dict(moved)) if isinstance(moved, Mapping) else (tuple(moved), {})
    several: Sequence[Any] = [shapes] if all(isinstance(n, Integral) for n in shapes) else shapes
    for shape in several:
        if not (isinstance(shape, Sequence) and shape and all(isinstance(n, Integral) and int(n) > 0 for n in shape)):
            raise UsageError(f"{shape!r} is no input shape", "give positive sizes without the batch: (3, 224, 224)")
    return tuple(torch.zeros(1, *map(int, shape), dtype=dtype, device=device) for shape in several), {}


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


def _explained(error: Exception, name: str, where: str, inputs: Sequence[Tensor]) -> UsageError:
    shapes = ", ".join(" x ".join(str(n) for n in t.shape) for t in inputs)
    first = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
    if "meta tensor" in str(error).lower() or isinstance(error, NotImplementedError):
        return UsageError(
            f"{name} looks at its numbers while it runs (in {where or 'its forward'}: {first})",
            "run it on real ones: cost(module, ..., allocate=True)",
        )
    return UsageError(f"{name} does not run on an input of {shapes} (in {where or 'its forward'}: {first})",
                      "give the input_shape it was made for, without the batch")  # fmt: skip


def receptive_field(
    module: nn.Module, input_shape: Shape = (3, 224, 224), *, layer: str | None = None, method: str = "paths"
) -> tuple[Extent, ...]:
    """(height, width) in pixels of what one unit of `layer` sees (default: the last layer with a map of units).

    `method`: "paths" follows the operators, as if the picture had no borders; "gradient" runs the network with
    positive weights and looks which pixels of an `input_shape` picture matter, so the picture clips it.
    UsageError where the layer is not there, or its field could not be followed.
    """
    if method == "gradient":
        return support(module, input_shape, layer)[0]
    if method != "paths":
        raise UsageError(f"there is no method called {method!r}", "use paths or gradient")
    table = cost(module, input_shape)
    rows = [row for row in table.rows if row.name == layer] if layer is not None else list(table.rows)
    found = [row for row in rows if row.field is not None and (layer is not None or None not in row.field.stride)]
    if found and found[-1].field is not None:
        return found[-1].field.largest
    lost = next((f" ({row.lost} is not followed)" for row in rows if row.lost), "")
    raise UsageError(f"{table.name} has no receptive field at {layer or 'any layer'}{lost}", "try method='gradient'")
