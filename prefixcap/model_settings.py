"""Settings of a saved model, found by folder, hub name or built-in name."""

import json
from pathlib import Path

from prefixcap.config import FORMAT_VERSION, ModelConfig, parse
from prefixcap.errors import InputError
from prefixcap.hub import looks_local, model_file

CONFIG_FILE = "config.json"
BUILTIN = Path(__file__).parent / "builtin"


def builtin_names() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.parent.name for path in BUILTIN.glob(f"*/{CONFIG_FILE}"))


def model_source(name: str) -> str:
    """The folder or hub name that `name` means: a folder wins, then a built-in model.

    Raises:
        InputError: it means neither.
    """
    if looks_local(name) or "/" in name:
        return name
    if name in builtin_names():
        return str(BUILTIN / name)
    names = ", ".join(builtin_names()) or "none"
    raise InputError(
        f"{name}: is neither a folder here nor a built-in model ({names}); models on the hub are "
        "called owner/model"
    )


def required_file(source: str, file: str, revision: str | None) -> Path:
    """Path of a file that every model has.

    Raises:
        InputError: it is not there.
    """
    path = model_file(source, file, revision)
    if path is None:
        raise InputError(
            f"{source}: has no {file}, so it is no prefixcap model; give a folder that "
            "save_pretrained wrote, or a model's name"
        )
    return path


def read_settings(source: str, revision: str | None = None) -> ModelConfig:
    """Settings of the model in a folder or on the hub.

    Raises:
        InputError: there is no such model, or a newer prefixcap wrote it.
    """
    path = required_file(source, CONFIG_FILE, revision)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: is not a JSON file ({error}); copy it again") from error
    version = values.pop("format_version", None) if isinstance(values, dict) else None
    if not isinstance(version, int):
        raise InputError(f"{path}: has no format_version, so {source} is no prefixcap model")
    if version > FORMAT_VERSION:
        raise InputError(
            f"{path}: has format_version {version}, this prefixcap reads up to {FORMAT_VERSION}. "
            "Update it: pip install --upgrade prefixcap"
        )
    return parse(ModelConfig, values, str(path))
