"""Every way neocog can fail, and the exit code each one leaves behind.

    NeocogError           1   a bug in neocog, or something nobody foresaw
    ├── UsageError        2   a wrong option, name or configuration
    ├── DataError         3   the pictures, the table or the folder that holds them
    ├── ModelFileError    4   a bundle, checkpoint or weights file
    ├── DivergedError     5   the loss or the weights are no longer finite
    ├── ResourceError     6   memory or disk
    └── Interrupted     130   Ctrl-C (143 after SIGTERM); the run can be resumed

A message is one line: where it happened, what is wrong, what to do next.
"""

import difflib
from collections.abc import Iterable


class NeocogError(Exception):
    """`cause`: what is wrong, naming the file, key or class. `hint`: the next thing to do."""

    exit_code = 1

    def __init__(self, cause: str, hint: str = "") -> None:
        super().__init__(cause, hint)
        self.cause = cause
        self.hint = hint

    def __str__(self) -> str:
        return one_line(f"{self.cause}; {self.hint}" if self.hint else self.cause)


class UsageError(NeocogError):
    exit_code = 2


class DataError(NeocogError):
    exit_code = 3


class ModelFileError(NeocogError):
    exit_code = 4


class DivergedError(NeocogError):
    exit_code = 5


class ResourceError(NeocogError):
    exit_code = 6


class Interrupted(NeocogError):
    """`exit_code` is 128 + the signal's number, as shells report it."""

    def __init__(self, cause: str, hint: str = "", signal_number: int = 2) -> None:
        super().__init__(cause, hint)
        self.exit_code = 128 + signal_number


def remedy(extra: str) -> str:
    """The command that installs an optional extra."""
    return f'pip install "neocog[{extra}]"'


def one_line(text: str) -> str:
    """Control characters (a file name may hold any) become visible escapes, so a message stays one line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def nearest(name: str, known: Iterable[str], n: int = 3) -> list[str]:
    """The known names closest to a misspelt one, best first."""
    return difflib.get_close_matches(name.lower(), list(known), n=n, cutoff=0.5)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint for a misspelt name: "did you mean a, b or c?", or "" where nothing is near."""
    names = nearest(name, known)
    if not names:
        return ""
    return f"did you mean {', '.join(names[:-1]) + ' or ' + names[-1] if len(names) > 1 else names[0]}?"
