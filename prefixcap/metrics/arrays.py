"""Numpy arrays in one safetensors file, with the standard library alone."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from prefixcap.atomic import write_bytes
from prefixcap.errors import InputError

# https://huggingface.co/docs/safetensors: 8 bytes of header length, JSON header, then the data.
_TYPES = {"U64": "<u8", "I64": "<i8", "I32": "<i4", "F64": "<f8", "F32": "<f4"}
_NAMES = {np.dtype(code): name for name, code in _TYPES.items()}


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write arrays and some words about them to `path`, atomically.

    Raises:
        OSError: the folder cannot be written or the disk is full.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    place = 0
    for name, array in arrays.items():
        header[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [place, place + array.nbytes],
        }
        place += array.nbytes
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)  # data starts at a multiple of eight bytes
    data = (np.ascontiguousarray(array).tobytes() for array in arrays.values())
    write_bytes(path, b"".join([len(head).to_bytes(8, "little"), head, *data]))


def read_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays and metadata of a safetensors file.

    Raises:
        InputError: the file cannot be read, or is not a whole safetensors file.
    """
    try:
        content = path.read_bytes()
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])
        metadata = header.pop("__metadata__", {})
        data = memoryview(content)[8 + size :]
        arrays = {name: _array(data, entry) for name, entry in header.items()}
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: not a whole safetensors file ({error}). Write or download it again"
        ) from error
    return arrays, metadata


def _array(data: memoryview, entry: dict) -> np.ndarray:
    """One array of the file, read-only."""
    first, stop = entry["data_offsets"]
    if stop > len(data):
        raise ValueError(f"{stop} bytes of data expected, {len(data)} found")
    return np.frombuffer(data[first:stop], _TYPES[entry["dtype"]]).reshape(entry["shape"])
