"""Texts that settings may be, each checked where it is read: ValueError says what would be right."""

import re
import warnings
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from neocog.core.noise import Noise, Sparsity
from neocog.core.spec import MAX_CHANNELS


def _file_name(text: str) -> str:
    """Bytes in names that are no UTF-8 are surrogates in Python, and welcome; what no name can hold is not."""
    if "\0" in text:
        raise ValueError("no name holds a NUL character")
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ValueError("no name holds half of a surrogate pair") from None
    return text


def _regular_expression(text: str) -> str:
    try:
        with warnings.catch_warnings(action="ignore"):  # about brackets that a later Python may read otherwise
            re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"it is no regular expression ({str(error) or 'nested too deeply'})") from None
    return text


def _channels(value: Any) -> str:
    """5 -> "5"."""
    text = str(value) if type(value) is int else value
    if text == "3":
        raise ValueError("use rgb")
    known = ("auto", "rgb", "grey", *map(str, range(2, MAX_CHANNELS + 1)))
    if text not in known:
        raise ValueError(f"must be auto, rgb, grey, or a number of bands from 2 to {MAX_CHANNELS}")
    return str(text)


def _noise(value: Any) -> Any:
    """0.1 -> "gaussian:0.1"."""
    text = repr(float(value)) if type(value) in (int, float) else value
    return str(Noise.parse(text)) if isinstance(text, str) else value


def _sparse(text: str) -> str:
    Sparsity.parse(text)
    return text


Name = Annotated[str, AfterValidator(_file_name)]
NoiseText = Annotated[str, BeforeValidator(_noise)]
Sparse = Annotated[str, AfterValidator(_sparse)]
Channels = Annotated[str, BeforeValidator(_channels)]
Pattern = Annotated[str, Field(max_length=1000), AfterValidator(_regular_expression)]
