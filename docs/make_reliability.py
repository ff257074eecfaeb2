"""Prints docs/reliability.md: what each bad input gets, from the `row` marks of the tests that prove it.

    @pytest.mark.row(6, "excluded `too_many_pixels` from the header, in under 50 MB")
    def test_...

says what happens to input 6 of the list below. `scripts/docs` writes the page.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).resolve().parents[1] / "tests"

HEAD = """# Reliability: what each bad input gets

Written by `scripts/docs` from the tests: every line names the tests that prove it, and they run with the suite.
Exit codes: 0 ok, 1 a bug of neocog, 2 usage or configuration, 3 data, 4 model or checkpoint file, 5 the training
diverged, 6 memory or disk, 130 and 143 stopped by a signal (everything saved). An error is one line: what, where, what
next. A picture that is *excluded* is listed in `scan.json` with its reason, counted on the screen, and never replaced.
The suite kills a few times; `NEOCOG_KILLS=50 .venv/bin/pytest tests/test_kill.py` does it fifty times for each network.
"""

SECTIONS = {"Files and folders": 1, "Configuration and environment": 34, "Training and checkpoints": 43}

INPUTS = {
    1: "a truncated JPEG: cut in half, in the header, by its last two bytes",
    2: "a file of zero bytes",
    3: "text, HTML, PDF, EPS or SVG called .jpg",
    4: "a PNG called .jpg",
    5: "1 x 1 and 1 x 5000 pixels",
    6: "a header that claims 50,000 x 50,000 pixels, or 2^31",
    7: "144 megapixels, which Pillow would load",
    8: "a PNG whose text unpacks to gigabytes; an EXIF block that loops",
    9: "CMYK, inverted YCCK, L, LA, 1-bit, palette with transparency, RGBA",
    10: "16-bit grey, 16-bit RGB, float TIFF",
    11: "animated GIF, WebP, APNG; TIFF of several pages",
    12: "EXIF orientation 1 to 8, 99, none",
    13: "an ICC profile (Display P3)",
    14: "a file with flipped bits that still decodes",
    15: "a file deleted or changed while a run trains",
    16: "loops of links, dangling links, links out of the folder",
    17: "a FIFO, socket, device or folder called .jpg",
    18: "an unreadable file or folder",
    19: "emoji, right-to-left, NFC beside NFD, 255 bytes, spaces, quotes, newlines, a leading `-` in names",
    20: "bytes in names that are no UTF-8",
    21: "classes called `<script>`, `{{7*7}}`, `[/red]`, `=1+1`, ESC codes, `CON`, `..`, 300 characters",
    22: "the classes `Cat` and `cat`",
    23: "hidden files, `.DS_Store`, `Thumbs.db`, `__MACOSX`, `.ipynb_checkpoints`",
    24: "exact duplicates in a class, across classes, across sets",
    25: "near duplicates across sets",
    26: "one class only",
    27: "an empty class folder",
    28: "one picture a class; fewer pictures than sets or batch",
    29: "classes of 100,000 pictures and of one",
    30: "files directly in the root, nested class folders, a zip, an empty or missing folder",
    31: "a million files, 10,000 classes",
    32: "a data folder that is read-only",
    33: "a network share that drops out (EIO, ESTALE)",
    34: "unknown keys, wrong types, `epochs=true`, NaN, infinities, numbers out of range",
    35: "TOML with a duplicate key, bad UTF-8, a byte-order mark, 100 MB, deep nesting",
    36: "a run folder that exists, is a file, is read-only, lies inside the data, or is in use",
    37: "a clock that runs backwards, another time zone",
    38: "a disk without room for the checkpoints",
    39: "too little memory: GPU, host, killed worker",
    40: "a tiny /dev/shm, as containers have",
    41: "a missing optional extra",
    42: "`--help`, `--version`, `doctor`",
    43: "a loss or gradient that is NaN or infinite",
    44: "NaN in batch norm's statistics or in the weights only",
    45: "kill -9 in the middle of an epoch, fifty times",
    46: "kill -9 in the middle of writing a checkpoint",
    47: "a full disk while a checkpoint, log or report is written",
    48: "a power cut that leaves a file of zero bytes",
    49: "Ctrl-C once, twice; SIGTERM; SIGHUP",
    50: "a corrupt, cut, bit-flipped, empty or textual checkpoint",
    51: "a malicious pickle, a pickle behind safetensors, a zip bomb, a shape bomb, sparse tensors",
    52: "resuming with other classes, image size, network, split seed or data",
    53: "resuming with another number of processes, threads, device, or another torch",
    54: "a checkpoint or model of a newer neocog",
    55: "a process of several dies or hangs",
    56: "two processes that resume one run",
    57: "the same command twice",
}


class Proof(NamedTuple):
    row: int
    what: str  # happens
    test: str  # file.py::name


def proofs() -> Iterator[Proof]:
    """Every `row` mark of the tests, in the order of files and lines."""
    for path in sorted(TESTS.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef):
                for mark in node.decorator_list:
                    if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.row":
                        row, what = (ast.literal_eval(argument) for argument in mark.args)
                        yield Proof(row, what, f"{path.name}::{node.name}")


def page() -> str:
    found = sorted(proofs(), key=lambda proof: proof.row)
    lines = [HEAD]
    for row, given in INPUTS.items():
        lines += [line for title, first in SECTIONS.items() if first == row for line in heading(title)]
        whats = list(dict.fromkeys(proof.what for proof in found if proof.row == row))
        tests = list(dict.fromkeys(proof.test for proof in found if proof.row == row))
        if not tests:
            raise SystemExit(f"no test proves what input {row} gets")
        proved = ", ".join(f"`{test}`" for test in tests)
        lines.append(f"| {row} | {given} | {'; '.join(whats)} | {proved} |")
    return "\n".join(lines) + "\n"


def heading(title: str) -> list[str]:
    return [f"\n## {title}\n", "| # | input | what happens | proved by |", "|---|---|---|---|"]


if __name__ == "__main__":
    print(page(), end="")
