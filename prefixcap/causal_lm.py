"""The language model that continues a prefix: a fresh GPT-2, or any causal LM of transformers."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
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
from prefixcap.cross_entropy import chunked_cross_entropy
from prefixcap.errors import InputError
from prefixcap.hub import looks_local, model_folder
from prefixcap.packed_rows import PackedRows


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
        lm = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{config.name}: cannot be read as a causal language model ({reason}); give another, "
            "or copy its files again"
        ) from error
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


def places_of(lm: PreTrainedModel) -> int | None:
    """How many positions `lm` has, or None where it has no limit of its own."""
    return getattr(lm.config.get_text_config(), "max_position_embeddings", None)


def packed_loss(lm: PreTrainedModel, prefix: Tensor, rows: PackedRows, smoothing: float) -> Tensor:
    """Sum of the token cross-entropies of the captions in `rows`, float32 scalar.

    Args:
        lm: the language model.
        prefix: (R, P, lm_dim) float, the prefix that opens each row.
        rows: the captions.
        smoothing: label smoothing, 0 to 1.

    Raises:
        InputError: prefix and caption need more positions than the language model has.
    """
    limit, needed = places_of(lm), prefix.shape[1] + rows.ids.shape[1]
    if limit is not None and needed > limit:
        needed = int(rows.position_ids.max()) + 1
    if limit is not None and needed > limit:
        raise InputError(
            f"a prefix of {prefix.shape[1]} and its caption take {needed} positions, the language "
            f"model has {limit}; shorten the captions"
        )
    hidden = hidden_states(lm, prefix, rows).flatten(0, 1)[rows.sources]  # (N, lm_dim)
    head = lm.get_output_embeddings()
    device = hidden.device.type
    autocast = torch.is_autocast_enabled(device)
    return chunked_cross_entropy(
        hidden,
        head.weight,
        head.bias,
        rows.targets,
        smoothing=smoothing,
        dtype=torch.get_autocast_dtype(device) if autocast else head.weight.dtype,
    )


def hidden_states(lm: PreTrainedModel, prefix: Tensor, rows: PackedRows) -> Tensor:
    """Outputs (R, P + L, lm_dim) of the last layer, before the vocabulary."""
    tokens = lm.get_input_embeddings()(rows.ids)  # (R, L, lm_dim)
    inputs = torch.cat([prefix.to(tokens.dtype), tokens], dim=1)  # (R, P + L, lm_dim)
    with _fast_attention(lm, inputs.device):
        mask = rows.visible
        if mask is not None and lm.config._attn_implementation == "eager":
            lowest = torch.finfo(inputs.dtype).min
            mask = torch.zeros_like(mask, dtype=inputs.dtype).masked_fill_(~mask, lowest)
        return lm.base_model(
            inputs_embeds=inputs,
            attention_mask=mask,
            position_ids=rows.position_ids,
            use_cache=False,
        ).last_hidden_state


@contextmanager
def _fast_attention(lm: PreTrainedModel, device: torch.device) -> Iterator[None]:
    """Plain matrix products in place of the fused attention, on a CPU.

    Rows are short here: with 75 places in bf16, forward and backward of the fused kernel took 23 ms
    a layer, the plain products 7 ms (8 rows, 12 heads of 64, one thread).
    """
    before = lm.config._attn_implementation
    if device.type == "cpu" and before == "sdpa":
        lm.config._attn_implementation = "eager"
    try:
        yield
    finally:
        lm.config._attn_implementation = before
