"""A model as a folder: found by name, read with every doubt named, written whole."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedConfig

from prefixcap import atomic
from prefixcap.config import FORMAT_VERSION, ModelConfig, parse
from prefixcap.errors import InputError
from prefixcap.hub import model_file
from prefixcap.tensor_files import read_tensors
from prefixcap.tokenizer import SETTINGS_FILE, TOKENIZER_FILE, CaptionTokenizer

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "README.md"
LM_CONFIG_FILE = "language_model.json"  # transformers' settings of a stored LM that has a name
BUILTIN = Path(__file__).parent / "builtin"
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


def open_model(name: str, revision: str | None = None) -> ModelFolder:
    """The model in a folder, built in under this name, or on the hub.

    Raises:
        InputError: nothing of that name, a file is missing, or a newer prefixcap wrote it.
    """
    builtin = BUILTIN / name
    is_builtin = not Path(name).exists() and "/" not in name and (builtin / CONFIG_FILE).is_file()
    source = str(builtin) if is_builtin else name
    config = _read_config(source, _required(source, CONFIG_FILE, revision))
    files = {
        file: _required(source, file, revision)
        for file in (WEIGHTS_FILE, TOKENIZER_FILE, SETTINGS_FILE)
    }
    lm_config = model_file(source, LM_CONFIG_FILE, revision)
    if lm_config is not None:
        files[LM_CONFIG_FILE] = lm_config
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
    lm_settings: PreTrainedConfig | None = None,
) -> None:
    """Write the files of a model into `folder`, made if need be; each is whole or not there.

    Args:
        folder: where to.
        config: the model's settings.
        tensors: its weights by name.
        tokenizer: its tokenizer.
        card: text of README.md.
        lm_settings: of a stored language model that is not built from sizes in `config`.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with atomic.replacing(folder / WEIGHTS_FILE) as part:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part)
    tokenizer.save(folder)
    atomic.write_text(folder / CARD_FILE, card)
    if lm_settings is not None:
        values = json.loads(lm_settings.to_json_string(use_diff=False))
        atomic.write_json(folder / LM_CONFIG_FILE, values)
    values = {"format_version": FORMAT_VERSION, **config.model_dump(mode="json")}
    atomic.write_json(folder / CONFIG_FILE, values)  # last: a folder with it is complete


def _required(source: str, file: str, revision: str | None) -> Path:
    """Path of a file that every model has."""
    path = model_file(source, file, revision)
    if path is None:
        raise InputError(
            f"{source}: has no {file}, so it is no prefixcap model; give a folder that "
            "save_pretrained wrote, or a model's name"
        )
    return path


def _read_config(source: str, path: Path) -> ModelConfig:
    """Settings in `path`, if this version can read them."""
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
