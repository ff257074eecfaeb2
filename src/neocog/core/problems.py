"""What pydantic finds wrong with a file, in words for people: the key, its value, and everything that is allowed."""

import functools
from typing import Any

from pydantic import BaseModel, ValidationError

from neocog.core.errors import nearest

SHOWN = 60  # characters of a wrong value


def problems(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One text per wrong key: "epochs = 0: must be a whole number, at least 1 and at most 100,000"."""
    properties = _properties(model)
    return [_problem(item, properties) for item in error.errors(include_url=False)]


@functools.cache
def _properties(model: type[BaseModel]) -> dict[str, Any]:
    properties: dict[str, Any] = model.model_json_schema()["properties"]
    return properties


def allowed(schema: dict[str, Any]) -> str:
    """A property of a JSON schema in words: "true or false", "one of rgb, grey", "a number, above 0"."""
    if "examples" in schema:
        return f"text such as {', '.join(schema['examples'])}"
    if "anyOf" in schema:
        return " or ".join(allowed(one) for one in schema["anyOf"] if one != {"type": "null"})
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    kinds = {"boolean": "true or false", "integer": "a whole number", "number": "a number", "array": "a list"}
    kinds |= {"object": "a table", "string": "text"}
    limits = {
        "minimum": "at least {:,}", "exclusiveMinimum": "above {:,}", "maximum": "at most {:,}",
        "exclusiveMaximum": "below {:,}", "maxLength": "at most {:,} characters",
    }  # fmt: skip
    bounds = [words.format(_plain(schema[key])) for key, words in limits.items() if key in schema]
    kind = kinds.get(schema.get("type", ""), "")
    return ", ".join([kind, " and ".join(bounds)] if bounds else [kind])


def shown(value: Any) -> str:
    """The beginning of a value's repr, whatever it is."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of more digits than Python prints; lists in lists in lists
        return f"{type(value).__name__} too large to show"
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


def _problem(item: Any, properties: dict[str, Any]) -> str:
    path = [str(part) for part in item["loc"]]
    key = ".".join(path)
    if item["type"] == "extra_forbidden":
        close = nearest(key, properties)
        return f"unknown key {key[:SHOWN]!r}" + (f" (did you mean {close[0]!r}?)" if close else "")
    if item["type"] == "missing":
        return f"{key} is missing"
    if item["type"] == "value_error":  # a check of ours, which has said it
        message = item["msg"].removeprefix("Value error, ")
        return f"{key} = {shown(item['input'])}: {message}" if key else message
    words = allowed(properties[path[0]]) if len(path) == 1 and path[0] in properties else ""
    if item["type"] == "finite_number":
        words = words.replace("a number", "a finite number", 1)
    if item["type"] in ("model_type", "dict_type"):
        words = "a table"
    if not words:
        words = item["msg"].removeprefix("Input should be ")
    return f"{key[:SHOWN]} = {shown(item['input'])}: must be {words}" if key else f"must be {words}"


def _plain(value: float) -> float:
    """1.0 -> 1, for numbers that are read."""
    return int(value) if value == int(value) else value
