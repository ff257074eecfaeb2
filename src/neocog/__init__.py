"""neocog: convolutional networks on your own pictures. Everything here is imported on first use.

No folder of the package may have the name of one of these faces: importing `neocog.train.x` would put a module
where the function `neocog.train` stands.
"""

import importlib
import os
from typing import Any

__version__ = "0.1.0"

# Two settings of torch's CPU engine that are read only when it is first loaded; whoever set them keeps theirs.
# GNU OpenMP's threads spin about 300,000 turns at every barrier, so any other work on the cores slows a training
# loop five- to tenfold; with 5,000 turns nothing is lost on an idle machine.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")
# Large blocks as huge pages, where the kernel offers them: 1.03 to 1.16 times the training speed.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

_FACES = {
    "list_models": "neocog.app.zoo",
    "create_model": "neocog.app.zoo",
    "compare": "neocog.app.compare",
    "cost": "neocog.app.costing",
    "explain": "neocog.app.explaining",
    "explain_unit": "neocog.app.explaining_unit",
    "receptive_field": "neocog.costs.cost",
    "search": "neocog.app.searching",
    "training_memory": "neocog.costs.memory",
    "train": "neocog.app.train",
    "Run": "neocog.app.run",
}
__all__ = [
    "Run", "__version__", "compare", "cost", "create_model", "explain", "explain_unit", "list_models",
    "receptive_field", "search", "train", "training_memory",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _FACES:
        return getattr(importlib.import_module(_FACES[name]), name)
    raise AttributeError(f"module 'neocog' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_FACES])
