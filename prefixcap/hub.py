"""Files of a model by local folder or hub name, and one clear line when neither can be had."""

import json
from pathlib import Path

from prefixcap.errors import InputError

CONFIG_FILE = "config.json"
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
PROBE_TIMEOUT_S = 10


def looks_local(name: str) -> bool:
    """Whether `name` can only mean a path on this machine: it exists, or no hub name is like it."""
    path = Path(name).expanduser()
    return path.exists() or name.startswith(("/", "./", "../", "~")) or name.count("/") > 1


def model_file(name: str, filename: str, revision: str | None = None) -> Path | None:
    """Path of `filename` in the folder or hub repository `name`; None where it has no such file.

    A hub file comes from the local cache, or is downloaded into it.

    Raises:
        InputError: `name` is a path that is no folder, no such repository or revision is on the
            hub, or the hub cannot be reached and the file is not in the cache.
    """
    if not looks_local(name):
        return _hub_file(name, filename, revision)
    folder = Path(name).expanduser()
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise InputError(f"{name}: {found}, expected a model folder or a hub name like owner/model")
    path = folder / filename
    return path if path.is_file() else None


def model_folder(name: str, revision: str | None = None) -> Path:
    """Local folder with the `config.json` and the weights of a folder or hub repository.

    Raises:
        InputError: as `model_file`, or the configuration or the weights are missing.
    """
    config = model_file(name, CONFIG_FILE, revision)
    if config is None:
        raise InputError(f"{name}: has no {CONFIG_FILE}; expected a model saved by transformers")
    # All files of one commit: the snapshot folder of a cached hub file is named after it.
    commit = None if looks_local(name) else config.parent.name
    for filename in WEIGHT_FILES:
        weights = model_file(name, filename, commit)
        if weights is not None:
            _fetch_parts(name, weights, commit)
            return config.parent
    raise InputError(
        f"{name}: has no weights here; expected one of {', '.join(WEIGHT_FILES)}. "
        f"Copy them there; for a hub model, connect once to fetch them"
    )


def _fetch_parts(name: str, weights: Path, commit: str | None) -> None:
    """Fetch every part that a weights index names.

    Raises:
        InputError: the index is damaged, or a part is missing.
    """
    if weights.suffix != ".json":
        return
    try:
        parts = sorted(set(json.loads(weights.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{weights}: is not a weights index ({error!r})") from error
    for part in parts:
        if model_file(name, part, commit) is None:
            raise InputError(f"{name}: {part} is missing, which {weights.name} names")


def _hub_file(name: str, filename: str, revision: str | None) -> Path | None:
    """Cached or downloaded hub file, None where the repository lacks it."""
    from huggingface_hub import errors, hf_hub_download, try_to_load_from_cache

    try:
        cached = try_to_load_from_cache(name, filename, revision=revision)
        if isinstance(cached, str):
            return Path(cached)
        if cached is not None:  # the hub has said before that there is no such file
            return None
        if not _answers():
            if isinstance(try_to_load_from_cache(name, CONFIG_FILE, revision=revision), str):
                return None  # the model is in the cache, this file is not: an optional one
            raise InputError(_unreachable(name))
        return Path(hf_hub_download(name, filename, revision=revision))
    except errors.LocalEntryNotFoundError as error:
        raise InputError(_unreachable(name)) from error
    except errors.EntryNotFoundError:
        return None
    except errors.GatedRepoError as error:
        raise InputError(
            f"{name}: is gated. Accept its terms on the hub, then log in: hf auth login"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise InputError(f"{name}: has no revision {revision!r} on the hub") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise InputError(
            f"{name}: is neither a folder here nor a model on the hub; give a folder or owner/model"
        ) from error
    except (errors.HfHubHTTPError, OSError) as error:
        raise InputError(_unreachable(name)) from error


def _answers() -> bool:
    """Whether the hub answers, known at once; its own client would retry for half a minute."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=PROBE_TIMEOUT_S)
    except Exception:  # which class it is depends on the client's HTTP library
        return False
    return True


def _unreachable(name: str) -> str:
    """The line for a hub model that is not in the cache while the hub does not answer."""
    return (
        f"{name}: no such folder here, and the model hub cannot be reached to fetch it. "
        f"Connect once to cache it, or give a local folder"
    )
