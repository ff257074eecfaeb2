"""Weights that somebody else wrote: a table of tensors from a .safetensors file or one of torch's."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from neocog.core.errors import ModelFileError
from neocog.core.safetensors_header import read_header
from neocog.export.torch_file import load_torch_file


def read_weights(path: Path) -> dict[str, Tensor]:
    """Finite, dense tensors on the CPU by key; no code in the file is run, and it is looked at before anything is
    allocated. ModelFileError for all else."""
    state = load_safetensors(path) if path.suffix == ".safetensors" else load_torch_file(path)
    for key, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise ModelFileError(f"{path} holds numbers that are not finite ({key})", "give an undamaged file")
    return state


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """Tensors by name, after `read_header` has found the file sound."""
    if not read_header(path):
        raise ModelFileError(f"{path} holds no table of weights", "give a file that holds a state dict")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ModelFileError(f"{path} is not a sound safetensors file ({error})", "restore it from a copy") from None
