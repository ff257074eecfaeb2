"""Inputs that are none, and modules that do not run on what they were given, in one line."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

from torch import Tensor

from neocog.core.errors import UsageError

LARGEST = 2**31  # of a side


def checked(shape: Any) -> tuple[int, ...]:
    """An input's shape without the batch. UsageError where it is none."""
    if isinstance(shape, Sequence) and shape and all(isinstance(n, Integral) and 0 < int(n) < LARGEST for n in shape):
        return tuple(int(n) for n in shape)
    raise UsageError(f"{shape!r} is no input shape", "give positive sizes without the batch: (3, 224, 224)")


def does_not_run(error: Exception, name: str, where: str, inputs: Sequence[Tensor]) -> UsageError:
    """What `error`, raised by a module in its layer `where`, means to whoever gave it `inputs`."""
    if isinstance(error, UsageError):
        return error
    shapes = ", ".join(" x ".join(str(n) for n in t.shape) for t in inputs)
    first = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
    place = f"in {where or 'its forward'}: {first}"
    said = str(error).lower()
    if "meta tensor" in said or ("meta" in said and isinstance(error, NotImplementedError)):
        return UsageError(f"{name} looks at its numbers while it runs ({place})",
                          "run it on real ones: cost(module, ..., allocate=True)")  # fmt: skip
    return UsageError(f"{name} does not run on an input of {shapes} ({place})",
                      "give the input_shape it was made for, without the batch")  # fmt: skip
