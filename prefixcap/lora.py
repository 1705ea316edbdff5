"""LoRA: low-rank adapters beside the weights of a frozen language model (extra `lora`)."""

from collections.abc import Mapping
from copy import deepcopy

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from prefixcap.config import LanguageModelConfig
from prefixcap.errors import InputError, MissingExtraError

BASE = ".base_layer."  # in the names of weights that have an adapter beside them


def add_adapters(lm: PreTrainedModel, config: LanguageModelConfig) -> PreTrainedModel:
    """`lm`, in place, with trainable adapters of rank `config.lora_rank` (Hu et al. 2021).

    They begin at zero, so that nothing is changed yet; all other weights are frozen.

    Raises:
        MissingExtraError: peft is not installed.
        InputError: the targets are no layers of it, or are its word embeddings.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise MissingExtraError("peft", "lora", "language_model.lora_rank") from error
    _refuse_embeddings(lm, config)
    wanted = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=list(config.lora_targets) or None,
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in lm.modules()),
    )
    lm.requires_grad_(False)
    try:
        return inject_adapter_in_model(wanted, lm)
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"language_model.lora_targets {list(config.lora_targets)}: fit no layer of this "
            f"{lm.config.model_type} ({reason}). Name some of: {', '.join(_linear_names(lm))}"
        ) from error


def merged(lm: PreTrainedModel) -> PreTrainedModel:
    """A copy of `lm` in its plain form, adapters added to the weights; without any, `lm` itself."""
    if not has_adapters(lm):
        return lm
    copy = deepcopy(lm)
    for name, module in list(copy.named_modules()):
        if _is_adapted(module):
            module.merge()
            parent, _, child = name.rpartition(".")
            setattr(copy.get_submodule(parent), child, module.get_base_layer())
    return copy


def load_plain(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Fill a module with the tensors of its plain form; adapters stay as they are.

    Raises:
        RuntimeError: a tensor is missing, too many, or of another shape.
    """
    own = module.state_dict()
    adapters = {name: tensor for name, tensor in own.items() if ".lora_" in name}
    places = {name.replace(BASE, "."): name for name in own}
    module.load_state_dict(
        adapters | {places.get(name, name): tensor for name, tensor in tensors.items()}
    )


def has_adapters(lm: nn.Module) -> bool:
    """Whether adapters were added to some layer."""
    return any(_is_adapted(module) for module in lm.modules())


def _is_adapted(module: nn.Module) -> bool:
    """Whether this is a layer with an adapter."""
    return hasattr(module, "lora_A") and hasattr(module, "get_base_layer")


def _refuse_embeddings(lm: PreTrainedModel, config: LanguageModelConfig) -> None:
    """Raise where the targets are word embeddings: loss and decoding read their weights."""
    embeddings = (lm.get_input_embeddings(), lm.get_output_embeddings())
    for name, module in lm.named_modules():
        is_target = any(f".{name}".endswith(f".{target}") for target in config.lora_targets)
        if is_target and any(module is embedding for embedding in embeddings):
            raise InputError(
                f"language_model.lora_targets: {name} holds word embeddings, which take no adapter "
                f"here; name some of: {', '.join(_linear_names(lm))}"
            )


def _linear_names(lm: PreTrainedModel) -> list[str]:
    """Last names of the layers that adapters fit to."""
    head = lm.get_output_embeddings()
    return sorted(
        {
            name.rpartition(".")[2]
            for name, module in lm.named_modules()
            if isinstance(module, nn.Linear | Conv1D) and module is not head
        }
    )
