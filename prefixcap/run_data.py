"""What a run was begun with: hashes of its data and weights, and the photos it goes without."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from prefixcap.errors import InputError


def data_sheet(records: Sequence[tuple[str, Sequence[str]]]) -> dict[str, int | str]:
    """Numbers of photos and captions, and hashes of both."""
    ids, texts = hashlib.blake2b(digest_size=16), hashlib.blake2b(digest_size=16)
    for image_id, captions in records:
        ids.update(json.dumps(image_id).encode())
        texts.update(json.dumps(list(captions)).encode())
    return {
        "photos": len(records),
        "captions": sum(len(captions) for _, captions in records),
        "photos_hash": ids.hexdigest(),
        "captions_hash": texts.hexdigest(),
    }


def data_change(before: dict[str, Any], now: dict[str, Any]) -> str:
    """What differs between two data sheets, in words."""
    was, is_now = (
        f"{sheet['photos']:,} photos and {sheet['captions']:,} captions" for sheet in (before, now)
    )
    if was != is_now:
        return f"was {was}, is {is_now}"
    if before["photos_hash"] != now["photos_hash"]:
        return f"was {was}, is as many, but other photos or another order"
    return f"was {was}, is the same photos with other captions"


def held_data(path: Path) -> dict[str, Any]:
    """What the file says that a run was begun with: data sheets by part, and hashes of the "rest".

    Raises:
        InputError: it is damaged.
    """
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        held = None
    parts = dict(held) if isinstance(held, dict) else {"": None}
    is_whole = isinstance(parts.pop("rest", {}), dict)
    if not is_whole or not all(_is_sheet(part) for part in parts.values()):
        raise InputError(
            f"{path}: is damaged, so that it cannot be told whether the data is that of this run. "
            "If it is, delete this file, which is then written anew; else begin another run with "
            "--set name=NEW"
        )
    return held


def _is_sheet(part: Any) -> bool:
    """Whether this is what `data_sheet` gives."""
    blank = data_sheet([])
    return isinstance(part, dict) and {n: type(v) for n, v in part.items()} == {
        name: type(value) for name, value in blank.items()
    }


def noted_photos(path: Path) -> dict[str, list[str]]:
    """Ids of photos that a run goes without, by why; none where there is no file.

    Raises:
        InputError: it is damaged.
    """
    if not path.exists():
        return {}
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        noted = None
    groups = list(noted.values()) if isinstance(noted, dict) else [None]
    if not all(isinstance(g, list) and all(isinstance(i, str) for i in g) for g in groups):
        raise InputError(
            f"{path}: is damaged, so that it cannot be told which photos this run goes without. If "
            "they are those that are missing now, delete this file; else begin another run with "
            "--set name=NEW"
        )
    return noted


def frozen_digest(module: nn.Module) -> str:
    """Hash of the weights of a module that are not trained."""
    digest = hashlib.blake2b(digest_size=16)
    for name, weight in sorted(module.named_parameters()):
        if not weight.requires_grad:
            digest.update(f"{name} {weight.dtype} {tuple(weight.shape)} ".encode())
            digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def files_digest(paths: Iterable[Path]) -> str:
    """Hash of the sizes of files, in order; what is no file has none."""
    sizes = [path.stat().st_size if path.is_file() else -1 for path in paths]
    return hashlib.blake2b(json.dumps(sizes).encode(), digest_size=16).hexdigest()
