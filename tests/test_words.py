"""Numbers and the nouns that go with them, in the helper and where a person meets one of a thing."""

import pytest
import torch

from neocog.app.machine import Machine
from neocog.core.words import counted
from neocog.explaining.diagnosis import of_dead


@pytest.mark.parametrize(
    ("number", "nouns", "said"),
    [
        (1, ("picture",), "1 picture"), (0, ("picture",), "0 pictures"), (2000, ("picture",), "2,000 pictures"),
        (1, ("class", "classes"), "1 class"), (2, ("class", "classes"), "2 classes"),
        (1, ("channel is dead", "channels are dead"), "1 channel is dead"),
    ],
)  # fmt: skip
def test_one_is_no_plural(number: int, nouns: tuple[str, ...], said: str) -> None:
    assert counted(number, *nouns) == said


@pytest.mark.parametrize(("threads", "said"), [(1, ", 1 thread, "), (2, ", 2 threads, ")])
def test_a_machine_of_one_thread(monkeypatch: pytest.MonkeyPatch, threads: int, said: str) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert said in Machine(torch.device("cpu"), False, False).describe()


def test_a_dead_channel() -> None:
    [one] = of_dead([("stem", 1, 8)], 1, 3.0)
    assert one.text.startswith("After epoch 3, one of the 8 channels behind ReLUs is dead, 0 for the one picture: 1 of")
    [two] = of_dead([("stem", 2, 8)], 30, 3.0)
    assert two.text.startswith("After epoch 3, 2 of the 8 channels behind ReLUs are dead, 0 for all 30 pictures: 2 of")
