"""The language model that continues a prefix: a fresh GPT-2, or any causal LM of transformers."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.activations import GELUTanh, NewGELUActivation
from transformers.initialization import no_init_weights

from prefixcap.config import LanguageModelConfig
from prefixcap.errors import InputError
from prefixcap.hub import looks_local, model_folder


def fresh_gpt2(config: LanguageModelConfig) -> GPT2LMHeadModel:
    """GPT-2 architecture of the sizes in `config`, with random weights.

    Raises:
        InputError: the heads do not divide the width.
    """
    if config.width % config.heads:
        raise InputError(
            f"language_model.heads = {config.heads} does not divide its width {config.width}; "
            "choose a divisor of it"
        )
    return prepared(
        GPT2LMHeadModel(
            GPT2Config(
                vocab_size=config.vocabulary,
                n_positions=config.positions,
                n_embd=config.width,
                n_layer=config.layers,
                n_head=config.heads,
                bos_token_id=None,  # its defaults are ids of GPT-2's own vocabulary
                eos_token_id=None,
            )
        ),
        config,
    )


def load_causal_lm(config: LanguageModelConfig) -> PreTrainedModel:
    """The causal language model `config.name`, from a folder, the local cache or the hub.

    Raises:
        InputError: there is no such model, or it cannot be fetched.
    """
    folder = model_folder(config.name, config.revision)
    try:
        lm, loading = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{config.name}: cannot be read as a causal language model ({reason}); give another, "
            "or copy its files again"
        ) from error
    missing = sorted(loading["missing_keys"])
    if missing:  # transformers leaves them random, with a warning
        raise InputError(
            f"{config.name}: its weights lack {len(missing)} tensors of the model, such as "
            f"{missing[0]}; copy its files again"
        )
    return prepared(lm, config)


def pinned(config: LanguageModelConfig) -> LanguageModelConfig:
    """`config` with the commit that a hub name means now, so that it means the same later."""
    if not config.name or looks_local(config.name):
        return config
    commit = model_folder(config.name, config.revision).name  # a cached snapshot is named after it
    return config.model_copy(update={"revision": commit})


def stored_causal_lm(config: LanguageModelConfig, architecture: Path | None) -> PreTrainedModel:
    """The language model of a saved model; its weights are still to come where they are stored.

    Args:
        config: how it was saved.
        architecture: file of transformers' settings, for a stored LM that came by name.

    Raises:
        InputError: it was saved by name and cannot be found, or its settings cannot be read.
    """
    if not config.stored:
        return load_causal_lm(config)
    with no_init_weights():
        if architecture is None:
            lm = fresh_gpt2(config)
        else:
            lm = prepared(AutoModelForCausalLM.from_config(_read_settings(architecture)), config)
    lm.tie_weights()  # skipped together with the initialisation
    return lm


def _read_settings(path: Path) -> PreTrainedConfig:
    """transformers' settings of a language model, from a file that names their type."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return AutoConfig.for_model(**values)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{path}: are no settings of a language model ({error}); copy it again"
        ) from error


def prepared(lm: PreTrainedModel, config: LanguageModelConfig) -> PreTrainedModel:
    """`lm`, frozen or trainable as `config` says, with its dropout and without slow parts.

    A frozen LM has no dropout, as in the original, so that `train()` on the whole model is safe.
    """
    rate = 0.0 if config.frozen else config.dropout
    for module in lm.modules():
        if isinstance(module, nn.Dropout):
            module.p = rate
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = rate
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(module, name, GELUTanh())  # the same function, in one kernel
    return lm.requires_grad_(not config.frozen)
