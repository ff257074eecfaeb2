"""How the units of a tensor see the picture: one path at a time, one axis of the picture at a time.

A `Path` says in which dimensions of a tensor an axis of the picture lives. Each dimension is a list of factors
(size, step), the slowest first: moving by one along that factor moves `step` units along the axis, and 0 means that
the factor is something else, a channel or a head. So (B, C, H, W) has for the height ((B, 0)) ((C, 0)) ((H, 1))
((W, 0)), and the same map as tokens (B, H * W, C) has ((B, 0)) ((H, 1), (W, 0)) ((C, 0)): reshaping, cutting into
windows and shuffling pixels only regroup factors. A `Span` says which pixels unit i of the axis sees.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod

from neocog.costs.steps import Span, Steps

Factor = tuple[int, int]  # (size, step)
Dimension = tuple[Factor, ...]
Reach = tuple[int, int, int]  # (a, b, c): unit i reaches the input's unit floor((a * i + b) / c)

STRAIGHT: Reach = (1, 0, 1)
SCATTERED = -1  # the step of a factor whose units lie in no order that is followed


class FieldLost(Exception):
    """What an operation does to the field cannot be followed."""


@dataclass(frozen=True)
class Path:
    """`largest` and `smallest` give the spans by the unit's index along the axis; None sees the whole axis."""

    dims: tuple[Dimension, ...]
    largest: Span | None
    smallest: Span | None
    hull: tuple[int, int] | None = None  # what scattered units see together, first and last pixel

    def related(self, dim: int) -> bool:
        return any(step for _, step in self.dims[dim])

    @property
    def single(self) -> bool:
        """No dimension is left along which the span would change."""
        return not any(self.related(dim) for dim in range(len(self.dims)))

    # Layers

    def resized(self, dim: int, size: int, low: Reach, high: Reach) -> "Path":
        """Through a layer that slides along `dim`: its output unit i reads from `low` of i to `high` of i."""
        if not self.related(dim):
            return self._with(dim, ((size, 0),))
        if low == high == STRAIGHT and size == self._size(dim):
            return self
        self._alone(dim)
        return self._plain(dim)._map(lambda span: span.through(low, high))._with(dim, ((size, 1),))

    def sliced(self, dim: int, start: int, step: int, size: int) -> "Path":
        if not self.related(dim) or (start, step, size) == (0, 1, self._size(dim)):
            return self._with(dim, self.dims[dim] if self.related(dim) else ((size, 0),))
        ladder = self.tidy().dims[dim]
        if ladder[0][1] == SCATTERED or any(other for _, other in ladder[1:]):  # tokens of two axes, without the first
            return self.scattered(dim, size)
        plain = self._plain(dim)
        ((_, own),) = plain.dims[dim]
        return plain._shifted(own * start)._with(dim, ((size, own * step),))

    def selected(self, dim: int, index: int) -> "Path":
        """One position of `dim`, which disappears."""
        units, inner = 0, self._size(dim)
        for n, step in self.dims[dim]:
            inner //= n
            units += max(step, 0) * (index // inner % n)  # scattered units all see alike
        rest = self._shifted(units)
        return replace(rest, dims=rest.dims[:dim] + rest.dims[dim + 1 :])._settled()

    def mixed(self, dims: Sequence[int], pixels: int) -> "Path":
        """Every unit sees what all units along `dims` saw; the dimensions stay. `pixels`: the axis's length."""
        steps = [(n, step) for dim in dims for n, step in self.dims[dim] if step]
        if not steps:
            return self
        left = tuple(((self._size(d), 0),) if d in dims else f for d, f in enumerate(self.dims))
        if (SCATTERED in (step for _, step in steps)) or not any(step for f in left for _, step in f):
            return replace(self, dims=left)._all(steps, pixels)
        ahead = sum((n - 1) * step for n, step in steps)
        return replace(self, dims=left)._map(lambda span: Span(span.low, span.high.after(1, ahead)))

    def _all(self, steps: Sequence[Factor], pixels: int) -> "Path":
        """Nothing is left of the axis: whoever sees it from end to end sees the whole, whatever its length."""
        if not self.single:  # scattered units remain elsewhere
            raise FieldLost
        last = sum((n - 1) * step for n, step in steps)

        def together(span: Span | None) -> Span | None:
            if span is None:
                return None
            low, high = self.hull or (span.low(0), span.high(last))
            return None if low <= 0 and high >= pixels - 1 else Span(Steps((low,), 0), Steps((high,), 0))

        return replace(self, largest=together(self.largest), smallest=together(self.smallest), hull=None)

    # Shapes

    def dropped(self, dims: Sequence[int]) -> "Path":
        """Without dimensions of a single unit, or of units that all see the same."""
        return replace(self, dims=tuple(f for d, f in enumerate(self.dims) if d not in dims))._settled()

    def inserted(self, dim: int, size: int = 1) -> "Path":
        return replace(self, dims=(*self.dims[:dim], ((size, 0),), *self.dims[dim:]))

    def permuted(self, order: Sequence[int]) -> "Path":
        return replace(self, dims=tuple(self.dims[d] for d in order))

    def expanded(self, shape: Sequence[int]) -> "Path":
        """Aligned on the right, sizes of 1 repeated."""
        missing = len(shape) - len(self.dims)
        dims: list[Dimension] = [((n, 0),) for n in shape[:missing]]
        for dim, n in enumerate(shape[missing:]):
            dims.append(self.dims[dim] if self._size(dim) == n else ((n, 0),))
        return replace(self, dims=tuple(dims))._settled()

    def scattered(self, dim: int, size: int) -> "Path":
        """The units of `dim` in an order that is not followed: each still sees as much as before."""
        if not self.related(dim):
            return self._with(dim, ((size, 0),))
        self._alone(dim)
        last = sum((n - 1) * max(step, 0) for n, step in self.dims[dim])
        seen = None if self.largest is None else (self.largest.low(0), self.largest.high(last))
        return self.lump(dim, size, self.hull or seen)

    def lump(self, dim: int, size: int, hull: tuple[int, int] | None) -> "Path":
        """`dim` holds units that each see as much as before, somewhere within `hull`."""
        lumped = self._map(lambda span: Span(Steps((0,), 0), Steps((span.size - 1,), 0)))
        dims = (*self.dims[:dim], ((size, SCATTERED),), *self.dims[dim + 1 :])
        return replace(lumped, dims=dims, hull=hull)

    def reshaped(self, shape: Sequence[int]) -> "Path":
        """The same numbers in the same order, in other dimensions."""
        factors = [factor for dimension in self.dims for factor in dimension if factor[0] != 1]
        dims: list[Dimension] = []
        for size in shape:
            taken: list[Factor] = []
            while size > 1:
                n, step = factors.pop(0)
                if n > size:  # cut it: the slower part belongs here, the faster one to what follows
                    if n % size or step == SCATTERED:
                        raise FieldLost
                    factors.insert(0, (n // size, step))
                    n, step = size, step * (n // size)
                elif size % n:
                    raise FieldLost
                taken.append((n, step))
                size //= n
            dims.append(joined(taken))
        return replace(self, dims=tuple(dims))._settled()

    def tidy(self) -> "Path":
        """The same with as few factors as possible."""
        return replace(self, dims=tuple(joined(f for f in factors if f[0] > 1 or f[1]) for factors in self.dims))

    def plain(self) -> "Path":
        """The same with one factor in the related dimension, where there is one such dimension and no other axis."""
        related = [dim for dim in range(len(self.dims)) if self.related(dim)]
        if len(related) != 1:
            return self
        (_, step), *rest = self.dims[related[0]]
        return self if step <= 0 or any(other for _, other in rest) else self._plain(related[0])

    # Parts

    def _map(self, change: Callable[[Span], Span]) -> "Path":
        return replace(
            self,
            largest=None if self.largest is None else change(self.largest),
            smallest=None if self.smallest is None else change(self.smallest),
        )

    def _size(self, dim: int) -> int:
        return prod(n for n, _ in self.dims[dim])

    def _alone(self, dim: int) -> None:
        if any(self.related(other) for other in range(len(self.dims)) if other != dim):
            raise FieldLost

    def _plain(self, dim: int) -> "Path":
        """`dim` as one factor of step 1: units that stand there several times become more units."""
        factors = [factor for factor in self.dims[dim] if factor[0] > 1 or factor[1]]
        (n, step), repeats = factors[0], prod(n for n, _ in factors[1:])
        if step <= 0 or any(other for _, other in factors[1:]):
            raise FieldLost
        if repeats == 1 and step == 1:
            return self
        wider = self._map(lambda s: s.through((step, 0, 1), (step, 0, 1)).through((1, 0, repeats), (1, 0, repeats)))
        return wider._with(dim, ((n * repeats, 1),))

    def _shifted(self, units: int) -> "Path":
        return self._map(lambda span: span.through((1, units, 1), (1, units, 1))) if units else self

    def _with(self, dim: int, factors: Dimension) -> "Path":
        return replace(self, dims=(*self.dims[:dim], factors, *self.dims[dim + 1 :]))._settled()

    def _settled(self) -> "Path":
        """Once no dimension is related to the axis, the spans are those of a single position."""
        return self._map(Span.constant) if self.single else self


def joined(factors: Iterable[Factor]) -> Dimension:
    """Neighbours that count on as one: (8, 7), (7, 1) is (56, 1)."""
    kept: list[Factor] = []
    for n, step in factors:
        if kept and step >= 0 and kept[-1][1] == step * n:
            kept[-1] = (kept[-1][0] * n, step)
        else:
            kept.append((n, step))
    return tuple(kept) or ((1, 0),)
