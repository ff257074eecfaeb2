"""Lets torchvision import where its compiled operators cannot load.

It registers shapes for them by name. Built for CUDA, they do not load beside a CPU-only torch, and the import
fails; with the names declared, everything written in Python works.
"""

import importlib.util
from pathlib import Path

import torch

_PAIRED = ("roi_align", "ps_roi_align", "roi_pool", "ps_roi_pool", "deform_conv2d")
OPERATORS = ("nms", "qnms", "qroi_align", *_PAIRED, *(f"_{name}_backward" for name in _PAIRED))


def declare_missing() -> torch.library.Library | None:
    """Call before the first import of torchvision and keep the answer: the names last as long as it does."""
    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None:
        return None
    for binary in Path(found.origin).parent.glob("_C*.so"):
        try:
            torch.ops.load_library(binary)
        except OSError:
            continue
        return None
    library = torch.library.Library("torchvision", "DEF")
    for name in OPERATORS:
        library.define(f"{name}(Tensor input) -> Tensor")
    return library
