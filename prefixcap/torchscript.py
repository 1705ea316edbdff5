"""Weights of a TorchScript archive, such as OpenAI's CLIP files, read without executing it.

`torch.jit.load` would compile and may run the code inside an archive. Here only its `data.pkl` is
walked, by an unpickler that knows tensors, containers and nothing else, and the tensors' bytes are
taken from the archive's `data/` entries.
"""

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from prefixcap.errors import InputError

STORAGE_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


# What reading raises, in a zip file, a pickle or a tensor's bytes, where they are not whole.
DAMAGE = (
    zipfile.BadZipFile,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    RuntimeError,
    OSError,
)


class Part:
    """Inert stand-in for a TorchScript module: the attributes that the archive gives it."""


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Tensors of a TorchScript archive under their dotted attribute names, such as `visual.conv1`.

    Raises:
        InputError: the archive is damaged, or names anything but tensors and plain containers.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.split("/")[-1] == "data.pkl"]
            if len(names) != 1:
                raise pickle.UnpicklingError(f"has {len(names)} data.pkl, expected one")
            folder = names[0].removesuffix("data.pkl")
            with archive.open(names[0]) as file:
                root = _TensorUnpickler(file, archive, folder).load()
    except pickle.UnpicklingError as error:
        raise InputError(f"{path}: {error}; only tensors are read from TorchScript") from error
    except DAMAGE as error:
        raise InputError(f"{path}: is a damaged TorchScript file ({error})") from error
    return _named_tensors(root)


class _TensorUnpickler(pickle.Unpickler):
    """Unpickler that can make tensors, ordered dicts and `Part`, and refuses all else."""

    def __init__(self, file: BinaryIO, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(file)
        self.archive = archive
        self.folder = folder

    def find_class(self, module: str, name: str) -> Any:
        """Stand-in for a named global.

        Raises:
            pickle.UnpicklingError: it is none of those that hold weights.
        """
        if module == "__torch__" or module.startswith("__torch__."):
            return Part
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _rebuild_parameter
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in STORAGE_DTYPES:
            return STORAGE_DTYPES[name]
        if module == "torch.jit._pickle" and name.startswith("build_"):
            return _as_list
        raise pickle.UnpicklingError(f"refuses to load {module}.{name}")

    def persistent_load(self, pid: Any) -> Tensor:
        """Flat tensor of a storage (kind, dtype, key, device, length)."""
        if not isinstance(pid, tuple) or len(pid) != 5 or pid[0] != "storage":
            raise pickle.UnpicklingError("refuses an object that is not a tensor's storage")
        _, dtype, key, _, length = pid
        content = bytearray(self.archive.read(f"{self.folder}data/{key}"))
        if length == 0:
            return torch.empty(0, dtype=dtype)
        return torch.frombuffer(content, dtype=dtype, count=length)


def _rebuild_tensor(
    storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> Tensor:
    """Tensor of a size and stride in a storage; torch checks that it lies within."""
    return torch.as_strided(storage, size, stride, offset)


def _rebuild_parameter(tensor: Tensor, *_: Any) -> Tensor:
    """The tensor of a parameter."""
    return tensor


def _as_list(values: Any, *_: Any) -> Any:
    """Elements of a typed TorchScript list."""
    return values


def _named_tensors(part: Any, prefix: str = "") -> dict[str, Tensor]:
    """Tensors in a tree of parts, by dotted name."""
    found: dict[str, Tensor] = {}
    for name, value in vars(part).items() if isinstance(part, Part) else ():
        if isinstance(value, Tensor):
            found[prefix + name] = value
        found |= _named_tensors(value, f"{prefix}{name}.")
    return found
