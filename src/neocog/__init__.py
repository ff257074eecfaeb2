"""neocog: convolutional networks on your own pictures. Everything here is imported on first use.

No folder of the package may have the name of one of these faces: importing `neocog.train.x` would put a module
where the function `neocog.train` stands.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_FACES = {
    "list_models": "neocog.app.zoo",
    "create_model": "neocog.app.zoo",
    "train": "neocog.app.train",
    "Run": "neocog.app.run",
}
__all__ = ["Run", "__version__", "create_model", "list_models", "train"]


def __getattr__(name: str) -> Any:
    if name in _FACES:
        return getattr(importlib.import_module(_FACES[name]), name)
    raise AttributeError(f"module 'neocog' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_FACES])
