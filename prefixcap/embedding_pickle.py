"""Embedding pickles of the original ClipCap code, read without executing anything in them.

The original's parse scripts write {`clip_embedding`: tensor (N, D), `captions`: list of
{`image_id`, `id`, `caption`, `clip_embedding`: row}} with plain pickle, which may call any function
on loading. The reader here knows the few that rebuild tensors and arrays, and refuses every other
by name.
"""

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._utils import _rebuild_tensor
from torch.storage import TypedStorage

from prefixcap.errors import InputError

EXPECTED = "{'clip_embedding': tensor (N, D), 'captions': [{'caption', 'clip_embedding': row}]}"


@dataclass(frozen=True)
class EmbeddingPickle:
    """Embeddings, and captions that point into them.

    Attributes:
        embeddings: (N, D), dtype as stored, on the CPU.
        rows: (M,) int64, the row that each caption points to; it may be out of range.
        captions: M texts.
        image_ids: M ids; "" where the file names none.
    """

    embeddings: Tensor
    rows: np.ndarray
    captions: list[str]
    image_ids: list[str]


def read_embedding_pickle(path: str | Path) -> EmbeddingPickle:
    """Embeddings and captions of an original embedding pickle.

    Raises:
        InputError: the file is missing, cut off, would call a function that no such file needs, or
            holds something else.
    """
    path = Path(path)
    found = _read(path)
    try:
        embeddings = _matrix(found["clip_embedding"])
        entries = found["captions"]
        rows = np.array([int(entry["clip_embedding"]) for entry in entries], dtype=np.int64)
        captions = [str(entry["caption"]) for entry in entries]
        image_ids = [str(entry.get("image_id", "")) for entry in entries]
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise InputError(
            f"{path}: is no embedding pickle of the original ({type(error).__name__}: {error}); "
            f"expected {EXPECTED}"
        ) from error
    return EmbeddingPickle(embeddings, rows, captions, image_ids)


def _read(path: Path) -> Any:
    """What is pickled in `path`, rebuilt by the functions in ALLOWED only."""
    try:
        with path.open("rb") as file:
            return _RestrictedUnpickler(file).load()
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a .pkl file") from error
    except Exception as error:  # damaged bytes make the unpickler raise nearly anything
        raise InputError(
            f"{path}: is cut off, or no pickle ({type(error).__name__}: {error}); "
            f"expected {EXPECTED}"
        ) from error


class _RestrictedUnpickler(pickle.Unpickler):
    """Unpickler for which only the names in ALLOWED exist."""

    def find_class(self, module: str, name: str) -> Any:
        """Our own function for an allowed name.

        Raises:
            InputError: any other name; nothing has been imported or called then.
        """
        if (module, name) not in ALLOWED:
            raise InputError(
                f"asks for {module}.{name} on loading, which no embedding pickle needs; it was not "
                "called. Do not load this file with pickle"
            )
        return ALLOWED[module, name]


def _storage(content: bytes) -> TypedStorage:
    """Storage of a tensor from the bytes that torch.save wrote of it; executes nothing either."""
    storage = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if not isinstance(storage, TypedStorage):
        raise InputError(f"holds a {type(storage).__name__} in the place of a tensor's numbers")
    return storage


def _tensor(
    storage: TypedStorage, offset: int, size: Sequence[int], stride: Sequence[int], *_: Any
) -> Tensor:
    """View of a storage; the rest of what the pickle says, such as hooks, is left unused."""
    if not isinstance(storage, TypedStorage):
        raise InputError("holds a tensor without numbers")
    # the public ways to a TypedStorage warn that it is deprecated, yet pickles are made of it
    held = storage._untyped_storage.nbytes() // storage.dtype.itemsize
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if min(offset, *size, *stride) < 0 or (0 not in size and last >= held):
        raise InputError(f"holds a tensor {tuple(size)} with only {held} numbers")
    return _rebuild_tensor(storage, offset, tuple(size), tuple(stride))


def _text_as_bytes(text: str, encoding: str) -> bytes:
    """Bytes that pickle protocols before 3 hold as text."""
    if encoding != "latin1":
        raise InputError(f"holds bytes in encoding {encoding!r}, expected latin1")
    return text.encode("latin1")


def _numpy_functions() -> dict[tuple[str, str], Callable[..., Any]]:
    """numpy's own functions for arrays and scalars, by the names of all its versions."""
    core = np._core.multiarray
    names = {"_reconstruct": core._reconstruct, "scalar": core.scalar}
    modules = ("numpy.core.multiarray", "numpy._core.multiarray")
    return {(module, name): function for module in modules for name, function in names.items()}


ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _text_as_bytes,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    **_numpy_functions(),
}


def _matrix(found: Any) -> Tensor:
    """Embeddings (N, D), also from an array or from a list of their parts."""
    if isinstance(found, np.ndarray):
        found = torch.from_numpy(found)
    if isinstance(found, list):
        found = torch.cat(found)
    if not isinstance(found, Tensor) or found.dim() != 2 or not found.is_floating_point():
        shown = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise TypeError(f"clip_embedding is {shown}")
    return found
