"""Tensors of a weights file: safetensors, a torch state dict or a TorchScript archive.

Nothing in a file is executed. Damage is reported with the first tensor that it hits. What is
written is safetensors.
"""

import json
import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from prefixcap.errors import InputError
from prefixcap.torchscript import read_torchscript

LONGEST_HEADER = 100_000_000  # bytes; the safetensors format allows no more


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write a safetensors file of `tensors`, of any strides.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    try:
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:  # it has the system's error in its words only
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        code = int(number[1])
        raise OSError(code, os.strerror(code), str(path)) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file by name, as they are stored (any dtype), on the CPU.

    A torch file may hold a state dict, the same under "state_dict", or be a TorchScript archive,
    as OpenAI released CLIP.

    Raises:
        InputError: the file is missing, damaged, or would have to execute code to be read.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected weights in .safetensors, .pt or .pth")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if _is_torchscript(path):
        return read_torchscript(path)
    return _read_state_dict(path)


def check_safetensors(path: Path) -> None:
    """Refuse a safetensors file that is cut short.

    Raises:
        InputError: names the first tensor beyond the end of the file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(LONGEST_HEADER, size - 8):
            raise InputError(f"{path}: is damaged or no safetensors file ({size} bytes)")
        header = file.read(length)
    try:
        entries = [(n, e["data_offsets"]) for n, e in json.loads(header).items() if n[:2] != "__"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: has a damaged safetensors header ({error})") from error
    for name, (_, end) in sorted(entries, key=lambda entry: entry[1]):
        if 8 + length + end > size:
            raise InputError(
                f"{path}: is truncated at {size} bytes; tensor {name} needs {8 + length + end}. "
                f"Copy or download the file again"
            )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file."""
    check_safetensors(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: is not a whole safetensors file ({error})") from error


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors of a file that torch.save wrote, read without executing what it names."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path}: holds Python objects beside tensors, and reading those would execute code. "
            f"Save its state_dict() alone, or as safetensors"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: is damaged or no torch file ({reason})") from error
    found = _inner_state_dict(found)
    tensors = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
    if not tensors:
        raise InputError(f"{path}: holds no named tensors; expected a state dict")
    return tensors


def _inner_state_dict(found: Any) -> dict[Any, Any]:
    """The state dict itself, where a training script wrapped it."""
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        return found["state_dict"]
    return found if isinstance(found, dict) else {}


def _is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive: a zip with a `constants.pkl`."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.split("/")[-1] == "constants.pkl" for name in archive.namelist())
