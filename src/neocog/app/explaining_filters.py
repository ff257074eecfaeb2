"""The filters of a network as pictures, and those that say nothing."""

import torch
import torch.nn.functional as F
from torch import Tensor

from neocog import report
from neocog.app.pictures import mosaic, png
from neocog.core.contracts import Network
from neocog.core.errors import UsageError
from neocog.costs.cost import cost
from neocog.explaining.filters import Convolution, convolutions, kernels
from neocog.explaining.filters import Filters as Kernels
from neocog.explaining.ranges import Ranges

KERNELS = 128  # of the first convolution
GRID = 8  # rows and columns


def reached(network: Network, shape: tuple[int, ...]) -> list[str]:
    """The convolutions that a picture passes: those of auxiliary heads are for training alone."""
    called = {row.name for row in cost(network, shape).rows}
    return [name for name in convolutions(network) if name in called]


def filters_of(network: Network, names: list[str], grids: list[str], ranges: Ranges | None) -> report.Filters:
    """`names`: the convolutions; `grids`: stages of which one is shown. `ranges`: what they gave, where pictures were
    looked at."""
    found = {name: kernels(network, name) for name in names}
    silent = {name: numbers(one.silent) for name, one in found.items()}
    dead = {name: quiet(ranges, name) for name in names}
    parts: dict[str, list[str]] = {}
    for name in names:
        parts.setdefault(part(name), []).append(name)
    counted = tuple(
        report.Counted(
            stage, len(own), sum(len(found[name].norms) for name in own), sum(len(silent[name]) for name in own),
            None if ranges is None else sum(len(dead[name]) for name in own),
        )
        for stage, own in parts.items()
    )  # fmt: skip
    wide = {stage: [name for name in parts.get(part(stage), []) if size(found[name]) != (1, 1)] for stage in grids}
    first = names[0] if names else ""
    return report.Filters(
        first=first,
        reads=inputs(network, first) if first else 0,
        kernel=size(found[first]) if first else (0, 0),
        kernels=tuple(shown(found[first], number) for number in found[first].order[:KERNELS].tolist()) if first else (),
        of=len(found[first].norms) if first else 0,
        grids=tuple(grid(found[own[0]]) for own in wide.values() if own and own[0] != first),
        pointwise=tuple(part(stage) for stage, own in wide.items() if not own and part(stage) in parts),
        counted=counted,
        quiet=tuple(
            report.Quiet(name, len(found[name].norms), silent[name], dead[name])
            for name in names if silent[name] or dead[name]
        ),
    )  # fmt: skip


def part(name: str) -> str:
    """Of a layer the stage, or stem or head."""
    first, _, rest = name.partition(".")
    return rest.partition(".")[0] if first == "stages" else first


def numbers(which: Tensor) -> tuple[int, ...]:
    return tuple(which.nonzero().flatten().tolist())


def quiet(ranges: Ranges | None, name: str) -> tuple[int, ...]:
    """Dead channels; none where a single number cannot tell."""
    try:
        return () if ranges is None else numbers(ranges.dead(name))
    except UsageError:
        return ()


def inputs(network: Network, name: str) -> int:
    module = network.get_submodule(name)
    assert isinstance(module, Convolution)
    return module.in_channels


def size(found: Kernels) -> tuple[int, int]:
    return found.pictures.shape[2], found.pictures.shape[3]


def shown(found: Kernels, number: int) -> report.Kernel:
    """In colour, or its inputs side by side."""
    own = painted(found)[number]
    picture = png(own, None) if found.colour or len(own) == 1 else spaced(own[:, None], len(own))
    return report.Kernel(number, picture, float(found.norms[number]), bool(found.silent[number]))


def painted(found: Kernels) -> Tensor:
    """Each filter on its own scale, but silent ones on that of the largest, which would else look like the others."""
    scale = torch.where(found.silent, found.norms / found.norms.max().clamp(min=1e-30), 1.0)
    return (0.5 + (found.pictures - 0.5) * scale[:, None, None, None]).cpu()


def grid(found: Kernels) -> report.Grid:
    """The filters of the largest norm; of their inputs those that weigh most in them."""
    each, single = found.pictures.shape[1], found.pictures.shape[1] == 1
    chosen = painted(found)[found.order[: GRID * GRID if single else GRID].cpu()]
    if not single:
        weight = (chosen - 0.5).square().sum((0, 2, 3))
        most = weight.argsort(descending=True, stable=True)[:GRID].sort().values
        chosen = chosen[:, most]
    columns = min(GRID, len(chosen)) if single else chosen.shape[1]
    kernels = chosen.flatten(0, 1)[:, None]
    return report.Grid(
        found.layer, len(found.norms), each, size(found), -(-len(kernels) // columns), columns, spaced(kernels, columns)
    )  # fmt: skip


def spaced(kernels: Tensor, columns: int) -> bytes:
    """(N, 1, kh, kw) -> one PNG, a pixel of white between any two."""
    return mosaic(F.pad(kernels, (0, 1, 0, 1), value=1.0), columns, limit=None)
