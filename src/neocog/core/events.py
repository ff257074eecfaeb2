"""Named moments. The loop says when; whoever listens decides what to do about it."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any


class Events:
    """`on(moment, listener)` and `emit(moment, **facts)`; listeners run in the order they were added.

    Moments of training, in order: "run_started", "epoch_started", "step_ended", "epoch_ended",
    "checkpoint_written", "run_ended". Moments of the rest: "progress" (what, done, total) and
    "note" (text), which only the faces turn into something a person sees.
    """

    def __init__(self) -> None:
        self._listeners: dict[str, list[Callable[..., Any]]] = defaultdict(list)

    def on(self, moment: str, listener: Callable[..., Any]) -> None:
        self._listeners[moment].append(listener)

    def emit(self, moment: str, **facts: Any) -> None:
        for listener in self._listeners[moment]:
            listener(**facts)
