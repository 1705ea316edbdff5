"""A model as a folder: found by name, read with every doubt named, written whole."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
from torch import Tensor, nn
from transformers import PreTrainedConfig

from prefixcap import atomic
from prefixcap.config import FORMAT_VERSION, ModelConfig
from prefixcap.errors import InputError
from prefixcap.hub import model_file
from prefixcap.metrics import DocumentFrequencies
from prefixcap.model_settings import CONFIG_FILE, model_source, read_settings, required_file
from prefixcap.tensor_files import read_tensors, save_tensors
from prefixcap.tokenizer import SETTINGS_FILE, TOKENIZER_FILE, CaptionTokenizer

WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "README.md"
FREQUENCIES_FILE = "frequencies.safetensors"  # of n-grams in captions, where votes need them
LM_CONFIG_FILE = "language_model.json"  # transformers' settings of a stored LM that has a name
ENCODER_CONFIG_FILE = "encoder.json"  # what the network of a stored encoder is built by
EXTRA_FILES = (LM_CONFIG_FILE, ENCODER_CONFIG_FILE, FREQUENCIES_FILE)
SHOWN = 3  # tensors named in one error


@dataclass(frozen=True)
class ModelFolder:
    """Where the files of a model lie, and its settings."""

    name: str
    files: dict[str, Path]
    config: ModelConfig

    @property
    def tokenizer(self) -> CaptionTokenizer:
        """The tokenizer stored with the model."""
        return CaptionTokenizer.load(self.files[TOKENIZER_FILE].parent)


@dataclass(frozen=True)
class Extras:
    """What only some models have in their folder.

    Attributes:
        lm_settings: of a stored language model that is not built from sizes in `config.json`.
        frequencies: of n-grams in captions, for `DecodeOptions.votes`.
        encoder_settings: of a stored encoder whose network `config.json` does not describe.
    """

    lm_settings: PreTrainedConfig | None = None
    frequencies: DocumentFrequencies | None = None
    encoder_settings: Mapping[str, Any] | None = None


NO_EXTRAS = Extras()


def open_model(name: str, revision: str | None = None) -> ModelFolder:
    """The model in a folder, built in under this name, or on the hub.

    Raises:
        InputError: nothing of that name, a file is missing, or a newer prefixcap wrote it.
    """
    source = model_source(name)
    config = read_settings(source, revision)
    files = {
        file: required_file(source, file, revision)
        for file in (WEIGHTS_FILE, TOKENIZER_FILE, SETTINGS_FILE)
    }
    for file in EXTRA_FILES:
        path = model_file(source, file, revision)
        if path is not None:
            files[file] = path
    return ModelFolder(name, files, config)


def fill(module: nn.Module, path: Path) -> None:
    """Copy the tensors of the safetensors file `path` into `module`, in the module's own dtype.

    Raises:
        InputError: the file is cut off, or a tensor is missing, too many, or of another shape.
    """
    copy_into(stored_tensors(module), read_tensors(path), path)


def copy_into(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], path: str | Path) -> None:
    """Copy the tensors `found` in the file `path` into those of a model, in the model's dtype.

    Raises:
        InputError: a tensor is missing, too many, or of another shape.
    """
    _compare(found, wanted, path)
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(found[name])


def stored_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Tensors of `module` by name, each once: tied weights keep their first name only."""
    seen: set[tuple[int, tuple[int, ...]]] = set()
    tensors = {}
    for name, tensor in module.state_dict().items():
        place = (tensor.data_ptr(), tuple(tensor.shape))
        if tensor.numel() and place in seen:
            continue
        seen.add(place)
        tensors[name] = tensor
    return tensors


def write_model(
    folder: Path,
    config: ModelConfig,
    tensors: Mapping[str, Tensor],
    tokenizer: CaptionTokenizer,
    card: str,
    extras: Extras = NO_EXTRAS,
) -> None:
    """Write the files of a model into `folder`, made if need be.

    They are written beside the old ones and then take their places, so a full disk changes nothing.

    Args:
        folder: where to.
        config: the model's settings.
        tensors: its weights by name.
        tokenizer: its tokenizer.
        card: text of README.md.
        extras: what only some models have.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".", suffix=".part") as name:
        part = Path(name)
        with atomic.replacing(part / WEIGHTS_FILE) as file:
            save_tensors(tensors, file)
        tokenizer.save(part)
        atomic.write_text(part / CARD_FILE, card)
        if extras.lm_settings is not None:
            values = json.loads(extras.lm_settings.to_json_string(use_diff=False))
            atomic.write_json(part / LM_CONFIG_FILE, values)
        if extras.encoder_settings is not None:
            atomic.write_json(part / ENCODER_CONFIG_FILE, extras.encoder_settings)
        if extras.frequencies is not None:
            extras.frequencies.save(part / FREQUENCIES_FILE)
        values = {"format_version": FORMAT_VERSION, **config.model_dump(mode="json")}
        atomic.write_json(part / CONFIG_FILE, values)
        _move_into(folder, part)


def _move_into(folder: Path, part: Path) -> None:
    """Put the written files in place of those of an earlier model, all within a moment."""
    for extra in EXTRA_FILES:
        if not (part / extra).exists():
            (folder / extra).unlink(missing_ok=True)
    for file in sorted(part.iterdir()):
        file.replace(folder / file.name)


def cast(tensor: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    """`tensor` in another float dtype; whole numbers stay as they are.

    Raises:
        InputError: a weight is too large for the dtype.
    """
    if not tensor.is_floating_point():
        return tensor
    found = tensor.to(dtype)
    if not torch.equal(found.isfinite(), tensor.isfinite()):
        raise InputError(
            f"tensor {name} holds numbers too large for {dtype}; store it in torch.float32"
        )
    return found


def upload_model(folder: Path, repo_id: str, *, private: bool) -> str:
    """Address of the hub repository that now holds the files in `folder`.

    Raises:
        InputError: the hub cannot be reached, or refuses the name or the login.
    """
    api = HfApi()
    try:
        address = api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=repo_id, commit_message="Upload the model")
    except (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OSError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{repo_id}: could not be written on the hub ({reason}). Give owner/model as the name, "
            "and log in: hf auth login"
        ) from error
    return str(address)


def _compare(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: str | Path) -> None:
    """Raise where the file's tensors are not exactly those of the model."""
    missing = [name for name in wanted if name not in found]
    if missing:
        raise InputError(f"{path}: lacks {_listed(missing)}; it is incomplete, or of another model")
    unknown = [name for name in found if name not in wanted]
    if unknown:
        raise InputError(f"{path}: holds {_listed(unknown)}, unknown to the model it should be")
    for name, tensor in wanted.items():
        if tensor.shape != found[name].shape:
            raise InputError(
                f"{path}: tensor {name} is {tuple(found[name].shape)}, the model's settings make "
                f"it {tuple(tensor.shape)}; they belong to different models"
            )


def _listed(names: list[str]) -> str:
    """A few of `names`, and how many there are beyond them."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"tensor {', '.join(names[:SHOWN])}{more}"
