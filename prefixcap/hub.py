"""Files of a model by local folder or hub name, and one clear line when neither can be had."""

from pathlib import Path

from prefixcap.errors import InputError


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


def _hub_file(name: str, filename: str, revision: str | None) -> Path | None:
    """Cached or downloaded hub file, None where the repository lacks it."""
    from huggingface_hub import errors, hf_hub_download

    try:
        return Path(hf_hub_download(name, filename, revision=revision))
    except errors.LocalEntryNotFoundError as error:
        raise InputError(unreachable(name)) from error
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
        raise InputError(unreachable(name)) from error


def unreachable(name: str) -> str:
    """The line for a hub model that is not in the cache while the hub does not answer."""
    return (
        f"{name}: no such folder here, and the model hub cannot be reached to fetch it. "
        f"Connect once to cache it, or give a local folder"
    )
