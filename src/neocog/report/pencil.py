"""Numbers as they are written down, so that who adds them up with a pencil knows what to expect."""

import math
from collections.abc import Iterable
from decimal import Decimal

DIGITS = 4  # of the largest number of a group
MOST = 12  # decimals


def decimals(numbers: Iterable[float], digits: int = DIGITS) -> int:
    """So many that the largest number has `digits` digits, and all have as many decimals."""
    largest = max((abs(n) for n in numbers if math.isfinite(n)), default=0.0)
    if largest == 0:
        return digits - 1
    return min(max(digits - 1 - math.floor(math.log10(largest)), 0), MOST)


def rounded(number: float, places: int) -> Decimal:
    """The number as it is shown; no zero is negative."""
    return Decimal(number).quantize(Decimal(1).scaleb(-places)) + 0


def shown(number: float | None, places: int) -> str:
    return "–" if number is None or not math.isfinite(number) else f"{rounded(number, places):f}"


def carried(parts: Iterable[Decimal], total: Decimal) -> Decimal:
    """What rounding has taken from the parts, or added: with it they make the total exactly."""
    return total - sum(parts, Decimal(0))
