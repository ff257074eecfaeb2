"""Imports go down only. The house is drawn in FLOORS; an edge that is not there is an error.

Beside the edges, each floor's manners: one place downloads, one place prints, networks touch no files.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "neocog"

FLOORS = {
    "core": set(),
    "layers": {"core"},
    "data": {"core"},
    "metrics": {"core"},
    "costs": {"core"},
    "report": {"core"},
    "export": {"core"},
    "explaining": {"core", "costs"},  # patches need the receptive field
    "models": {"core", "layers"},
    "tasks": {"core", "metrics"},
    "training": {"core", "metrics", "tasks"},
    "evaluate": {"core", "metrics", "tasks"},
    "transfer": {"core", "layers", "training"},
}
FLOORS["app"] = set(FLOORS)
FLOORS |= {"cli": {"core", "app"}, "web": {"core", "app"}, "labs": set(FLOORS)}

NETWORK = {"aiohttp", "ftplib", "http", "httpx", "requests", "socket", "ssl", "urllib"}
TERMINAL = {"rich", "typer"}
FILES = {"io", "os", "pathlib", "safetensors", "shutil", "tempfile"}
FILE_CALLS = {"open", "torch.load", "torch.save"}


def problems(path: Path, source: str) -> list[str]:
    """What the file at `path` (relative to src/neocog) does that its floor may not do, each with its line."""
    floor = path.parts[0]
    if len(path.parts) == 1:  # neocog/__init__.py and __main__.py name the faces, lazily
        return []
    if floor not in FLOORS:
        return [f"{path}: the folder {floor} is on no floor of the house"]
    tree = ast.parse(source)
    wrong = []
    for line, name in imports(tree, path):
        top, *below = name.split(".")
        if top == "neocog":
            if below and below[0] not in FLOORS[floor] | {floor, "__version__"}:
                wrong.append(f"{path}:{line}: {floor} may not import {below[0]}")
        elif top in NETWORK and path != Path("data/fetch.py"):
            wrong.append(f"{path}:{line}: only data/fetch.py may reach the network ({name})")
        elif top in TERMINAL and floor != "cli":
            wrong.append(f"{path}:{line}: only cli speaks to the terminal ({name})")
        elif top in FILES and floor in ("layers", "models"):
            wrong.append(f"{path}:{line}: {floor} may touch no files ({name})")
    for line, name in mentions(tree):
        if name in ("print", "sys.stdout", "sys.stderr") and floor != "cli":
            wrong.append(f"{path}:{line}: only cli prints ({name})")
        elif name in FILE_CALLS and floor in ("layers", "models"):
            wrong.append(f"{path}:{line}: {floor} may touch no files ({name})")
    return wrong


def imports(tree: ast.Module, path: Path) -> Iterator[tuple[int, str]]:
    """(line, absolute dotted name) of everything imported, in whatever way."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = ("neocog", *path.parts[:-1])
            above = list(package[: len(package) - node.level + 1]) if node.level else []
            base = ".".join(above + ([node.module] if node.module else []))
            # `from neocog import x`: x is what is imported; `from neocog.data import x`: data is.
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Attribute) and dotted(node).startswith("neocog."):
            yield node.lineno, dotted(node)  # after a bare `import neocog`
        elif isinstance(node, ast.Call) and dotted(node.func) in ("importlib.import_module", "import_module"):
            yield from ((node.lineno, str(name.value)) for name in node.args[:1] if isinstance(name, ast.Constant))


def mentions(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything called, and of every attribute of `sys`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node.lineno, dotted(node.func)
        elif isinstance(node, ast.Attribute) and dotted(node).startswith("sys."):
            yield node.lineno, dotted(node)


def dotted(node: ast.expr) -> str:
    """`a.b.c` of such an expression, "" of any other."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attribute) if inner := dotted(value):
            return f"{inner}.{attribute}"
    return ""


@pytest.mark.parametrize("floor", sorted(p.name for p in SOURCE.iterdir() if p.is_dir() and p.name != "__pycache__"))
def test_floor_keeps_to_the_house(floor: str) -> None:
    files = sorted((SOURCE / floor).rglob("*.py"))
    wrong = [p for f in files for p in problems(f.relative_to(SOURCE), f.read_text(encoding="utf-8"))]
    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("core/a.py", "import neocog.data"),
        ("core/a.py", "import neocog\nneocog.create_model('vgg11')"),
        ("layers/a.py", "from neocog.cost.table import Row"),
        ("layers/a.py", "from neocog import models"),
        ("layers/a.py", "from ..models import vgg"),
        ("models/a.py", "def f():\n    from neocog.training import loop"),
        ("tasks/a.py", "if TYPE_CHECKING:\n    import neocog.models.vgg"),
        ("train/a.py", "import importlib\nimportlib.import_module('neocog.models')"),
        ("report/a.py", "from neocog import train"),
        ("cli/a.py", "import neocog.train"),
        ("elsewhere/a.py", ""),
        ("data/scan.py", "from urllib.request import urlopen"),
        ("app/a.py", "import socket"),
        ("train/a.py", "print('epoch')"),
        ("app/a.py", "import sys\nsys.stdout.write('x')"),
        ("app/a.py", "from rich.table import Table"),
        ("models/a.py", "open('weights')"),
        ("layers/a.py", "import pathlib"),
        ("models/a.py", "import torch\ntorch.load('x')"),
    ],
)
def test_sabotage_is_seen(path: str, source: str) -> None:
    assert problems(Path(path), source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("core/a.py", "import torch, pathlib"),
        ("models/a.py", "from neocog.core.registry import register\nfrom neocog.layers import conv\nfrom . import vgg"),
        ("models/a.py", "from .vgg import VGG"),
        ("data/fetch.py", "from urllib.request import urlopen"),
        ("cli/a.py", "from neocog.app import training\nfrom rich.table import Table\nprint(1)"),
        ("cli/a.py", "from neocog import __version__"),
        ("app/a.py", "import neocog\nneocog.__version__"),
        ("app/a.py", "import neocog.models\nimport sys\nsys.exc_info()"),
    ],
)
def test_good_manners_pass(path: str, source: str) -> None:
    assert problems(Path(path), source) == []
