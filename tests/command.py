"""The command line as tests call it."""

from collections.abc import Callable
from typing import NamedTuple


class Result(NamedTuple):
    code: int
    out: str
    err: str


Command = Callable[..., Result]


def one_line_error(result: Result, code: int, *words: str) -> None:
    assert result.code == code, result
    lines = [line for line in result.err.splitlines() if line]
    assert len(lines) == 1, result.err
    assert lines[0].startswith("error: ")
    assert ";" in lines[0], "the next step is missing"
    assert "Traceback" not in result.err
    for word in words:
        assert word in lines[0], f"{word!r} is not in {lines[0]!r}"
