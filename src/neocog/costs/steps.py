"""Integer functions that climb in regular steps: f(i + P) = f(i) + rise.

Which input pixel a unit's field begins or ends at is such a function of the unit's index: i -> 4i - 2 after a strided
convolution, floor(i / 2) after an upsampling. They are closed under everything layers do, hold for every index (as if
the picture had no borders), and stay exact through transposed convolutions, whose fields differ from unit to unit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm

LONGEST = 4096  # a period beyond this is not followed


@dataclass(frozen=True)
class Steps:
    """f(i) = values[i mod P] + rise * (i div P), with P = len(values)."""

    values: tuple[int, ...]
    rise: int

    def __call__(self, i: int) -> int:
        turn, phase = divmod(i, len(self.values))
        return self.values[phase] + self.rise * turn

    @property
    def slope(self) -> Fraction:
        return Fraction(self.rise, len(self.values))

    def after(self, a: int, b: int, c: int = 1) -> "Steps":
        """i -> f(floor((a * i + b) / c))."""
        period = len(self.values)
        if period == 1 and c == 1:
            return Steps((self.values[0] + self.rise * b,), self.rise * a)
        common = gcd(a, b, c)
        a, b, c = a // common, b // common, c // common
        longer = period * c // gcd(a, period * c)
        if longer > LONGEST:
            raise OverflowError(f"a period of {longer} units")
        values = tuple(self((a * i + b) // c) for i in range(longer))
        return Steps(values, self.rise * (a * longer // c) // period).shortest()

    def shortest(self) -> "Steps":
        """The same function with its smallest period."""
        n = len(self.values)
        for period in range(1, n // 2 + 1):
            if n % period == 0 and self.rise % (n // period) == 0:
                rise = self.rise // (n // period)
                if all(self.values[i] + rise == self.values[i + period] for i in range(n - period)):
                    return Steps(self.values[:period], rise)
        return self

    def constant(self) -> "Steps":
        return Steps((self(0),), 0)

    def spread(self, period: int) -> tuple[int, ...]:
        return tuple(self(i) for i in range(period))


IDENTITY = Steps((0,), 1)


def combine(first: Steps, second: Steps, choose: Callable[[int, int], int]) -> Steps:
    """The lower or upper of two functions of one slope. ValueError where the slopes differ."""
    if first.slope != second.slope:
        raise ValueError(f"slopes {first.slope} and {second.slope}")
    period = lcm(len(first.values), len(second.values))
    values = tuple(map(choose, first.spread(period), second.spread(period)))
    return Steps(values, int(first.slope * period)).shortest()


@dataclass(frozen=True)
class Span:
    """Unit i sees the pixels low(i) to high(i), both included."""

    low: Steps
    high: Steps

    @property
    def size(self) -> int:
        """Pixels that the unit with the largest span sees."""
        period = lcm(len(self.low.values), len(self.high.values))
        pairs = zip(self.low.spread(period), self.high.spread(period), strict=True)
        return max(high - low + 1 for low, high in pairs)

    @property
    def stride(self) -> Fraction:
        return self.low.slope

    @property
    def offset(self) -> Fraction:
        """The pixel on which unit 0 is centred, or would be if all units were equally spaced."""
        period = lcm(len(self.low.values), len(self.high.values))
        total = sum(self.low.spread(period)) + sum(self.high.spread(period))
        return Fraction(total, 2 * period) - self.stride * Fraction(period - 1, 2)

    @property
    def even(self) -> bool:
        """All units see as much, each one stride further."""
        return len(self.low.values) == len(self.high.values) == 1

    def through(self, low: tuple[int, int, int], high: tuple[int, int, int]) -> "Span":
        """After a layer whose unit i reads its input from floor((a i + b) / c) of `low` to that of `high`."""
        return Span(self.low.after(*low), self.high.after(*high))

    def with_(self, other: "Span") -> "Span":
        """Both together. ValueError where their strides differ."""
        return Span(combine(self.low, other.low, min), combine(self.high, other.high, max))

    def constant(self) -> "Span":
        return Span(self.low.constant(), self.high.constant())


ONE_PIXEL = Span(IDENTITY, IDENTITY)
