"""What no file of the package, the benchmarks, the documents and the scripts may do, read from the source itself.

Nothing runs code that it finds in a file, and nothing needs shared memory.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from test_floors import dotted

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(path for folder in ("src", "bench", "docs", "scripts") for path in (ROOT / folder).rglob("*.py"))

# Calls that run code of somebody else's choice; the last names of a dotted one count, whatever it was imported as.
RUNS_CODE = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "pickle.load", "pickle.loads", "pickle.Unpickler",
    "yaml.load", "yaml.unsafe_load", "joblib.load", "torch.jit.load", "torch.hub.load", "runpy.run_path",
}  # fmt: skip
NEEDS = {"torch.load": ("weights_only", True)}
FORBIDS = {"weights_only": False, "allow_pickle": True, "shell": True}
MODULES = {"marshal", "shelve", "dill", "cloudpickle", "joblib"}
SHARED_MEMORY = (
    "DataLoader",
    "SharedMemory",
    "share_memory_",
    "multiprocessing.shared_memory",
    "torch.multiprocessing",
)


def problems(source: str) -> Iterator[str]:
    """What the source does that may run code of others, each with its line."""
    tree = ast.parse(source)
    known = names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for module in imported(node):
                if module.split(".")[0] in MODULES:
                    yield f"{node.lineno}: imports {module}"
        elif isinstance(node, ast.Call):
            called = resolved(node.func, known)
            given = {word.arg: word.value for word in node.keywords}
            if called in RUNS_CODE:
                yield f"{node.lineno}: calls {called}"
            if called in NEEDS and not is_constant(given.get(NEEDS[called][0]), NEEDS[called][1]):
                yield f"{node.lineno}: calls {called} without {NEEDS[called][0]}={NEEDS[called][1]}"
            for word, value in FORBIDS.items():
                if word in given and not is_constant(given[word], not value):
                    yield f"{node.lineno}: calls {called} with {word} that may be {value}"


def shared_memory(source: str) -> Iterator[str]:
    """Where the source would use shared memory between processes."""
    tree = ast.parse(source)
    known = names(tree)
    for node in ast.walk(tree):
        found = imported(node) if isinstance(node, ast.Import | ast.ImportFrom) else []
        found += [resolved(node, known)] if isinstance(node, ast.Attribute | ast.Name) else []
        yield from (f"{node.lineno}: {name}" for name in found if name.endswith(SHARED_MEMORY))


def imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [f"{node.module}.{alias.name}" for alias in node.names]


def names(tree: ast.Module) -> dict[str, str]:
    """Local name -> the dotted name that was imported under it."""
    known = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias, full in zip(node.names, imported(node), strict=True):
                known[alias.asname or alias.name.split(".")[0]] = full if alias.asname or "." not in alias.name else ""
    return {name: full for name, full in known.items() if full}


def resolved(node: ast.expr, known: dict[str, str]) -> str:
    """`load` after `from pickle import load` -> "pickle.load"; builtins.eval is eval."""
    first, dot, rest = dotted(node).partition(".")
    return (known.get(first, first) + dot + rest).removeprefix("builtins.")


def is_constant(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def test_there_are_files() -> None:
    assert len(FILES) > 100


@pytest.mark.row(51, "no source file calls anything that would run code of a file's")
def test_no_file_runs_code_of_others() -> None:
    wrong = [f"{path.relative_to(ROOT)}:{problem}" for path in FILES for problem in problems(path.read_text("utf-8"))]
    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.row(40, "makes no difference: pictures are decoded in threads, and nothing asks for shared memory")
def test_the_package_uses_no_shared_memory() -> None:
    own = [path for path in FILES if path.is_relative_to(ROOT / "src")]
    wrong = [f"{path.relative_to(ROOT)}:{found}" for path in own for found in shared_memory(path.read_text("utf-8"))]
    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    "source",
    [
        "from torch.utils.data import DataLoader",
        "import torch\ntorch.utils.data.DataLoader(x)",
        "import torch\ntorch.multiprocessing.spawn(f)",
        "from multiprocessing.shared_memory import SharedMemory",
        "tensor.share_memory_()",
    ],
)
def test_shared_memory_is_seen(source: str) -> None:
    assert list(shared_memory(source))


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load('x')",
        "import torch as t\nt.load('x', weights_only=safe)",
        "from torch import load\nload('x', weights_only=False)",
        "import pickle\npickle.load(f)",
        "from pickle import loads as read\nread(b'')",
        "import numpy as np\nnp.load(f, allow_pickle=True)",
        "np.load(f, allow_pickle=trust)",
        "eval('1')",
        "import builtins\nbuiltins.exec('1')",
        "__import__('os')",
        "import os\nos.system('ls')",
        "import subprocess\nsubprocess.run('ls', shell=True)",
        "import yaml\nyaml.load(f)",
        "import marshal",
        "from shelve import open",
    ],
)
def test_sabotage_is_seen(source: str) -> None:
    assert list(problems(source))


@pytest.mark.parametrize(
    "source",
    [
        "network.eval()",
        "import re\nre.compile('x')",
        "import torch\ntorch.load('x', weights_only=True)",
        "import json\njson.load(f)",
        "import numpy as np\nnp.load(f, allow_pickle=False)",
        "torch.compile(network)",
        "import subprocess\nsubprocess.run(['ls'], shell=False)",
    ],
)
def test_good_manners_pass(source: str) -> None:
    assert list(problems(source)) == []
