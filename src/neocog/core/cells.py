"""Text in CSV cells: any file or class name survives a round trip, and none runs in a spreadsheet.

Excel and LibreOffice read a cell that begins with = + - @ (or their full-width twins) as a formula, so such
cells get a leading apostrophe (OWASP, "CSV injection"). Names that are not valid UTF-8 reach Python as lone
surrogates, which no UTF-8 file can hold: they are written as \\udcXX. Both are undone on reading.
"""

import re

_FORMULA = ("=", "+", "-", "@", "'", "＝", "＋", "－", "＠")
# A backslash that already looks like an escape is escaped itself, so decoding is unambiguous.
_ENCODE = re.compile(r"\\(?=u[0-9a-f]{4})|[\ud800-\udfff]")
_DECODE = re.compile(r"\\u([0-9a-f]{4})")


def to_cell(text: str) -> str:
    """The cell of a text, quoted where CSV (RFC 4180) asks for it."""
    text = _ENCODE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    if _risky(text):
        text = "'" + text
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\r\n') else text


def from_cell(text: str) -> str:
    """The text of a cell that a CSV reader has already unquoted."""
    return _DECODE.sub(lambda match: chr(int(match[1], 16)), text.removeprefix("'") if _quoted(text) else text)


def _quoted(text: str) -> bool:
    return text.startswith("'") and _risky(text[1:])


def _risky(text: str) -> bool:
    return text.startswith(("\t", "\r")) or text.lstrip().startswith(_FORMULA)
