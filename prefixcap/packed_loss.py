"""The loss of packed rows under a causal language model of any architecture."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GPT2LMHeadModel, PreTrainedModel
from transformers.utils import ModelOutput

from prefixcap.cross_entropy import OutputLayer, chunked_cross_entropy
from prefixcap.errors import InputError
from prefixcap.gpt2_rows import GPT2Rows, fits
from prefixcap.late_gradient import LateGradient
from prefixcap.loss_targets import Targets, Taught
from prefixcap.packed_rows import PackedRows, pack
from prefixcap.products import TypedWeight, linear

TRIAL_TOLERANCE = 1e-2  # relative; a model that packing does not fit is off by far more

_NOT_PLAIN = (
    "a language model that scales or caps its logits neither teaches nor is taught; leave "
    "[teachers] out, or use another one"
)


@dataclass(frozen=True)
class Abilities:
    """What a language model allows.

    Attributes:
        shared: captions may share a row: the model heeds the block mask and the positions. Models
            with ALiBi or recurrent layers do not.
        plain_head: its logits are one linear layer of its last outputs, not scaled or capped.
        gpt2: its layers in the form that is fastest on a CPU, if there is one.
        typed: the vocabulary's weight in the type of the products.
    """

    shared: bool
    plain_head: bool
    gpt2: GPT2Rows | None = None
    typed: TypedWeight = field(default_factory=TypedWeight)


def packed_loss(
    lm: PreTrainedModel,
    prefix: Tensor,
    rows: PackedRows,
    smoothing: float,
    abilities: Abilities,
    taught: Taught | None = None,
) -> Tensor:
    """Sum of the token cross-entropies of the captions in `rows`, weighted, float32 scalar.

    Args:
        lm: the language model.
        prefix: (R, P, lm_dim) float, the prefix that opens each row.
        rows: the captions.
        smoothing: label smoothing, 0 to 1.
        abilities: the language model's.
        taught: what teachers expect, `expected` of theirs.

    Raises:
        InputError: prefix and caption need more positions than the language model has, or it has
            teachers and no plain head.
    """
    _check_length(lm, rows)
    if not abilities.plain_head:
        if taught:
            raise InputError(_NOT_PLAIN)
        logits = _run(lm, lm, prefix, rows).logits.flatten(0, 1)[rows.sources]  # (N, V)
        losses = F.cross_entropy(
            logits.float(), rows.targets, reduction="none", label_smoothing=smoothing
        )
        return losses @ rows.weights
    places, row_of_target = _places(rows)
    head = lm.get_output_embeddings()
    tied = abilities.gpt2 is not None and head.weight is lm.get_input_embeddings().weight
    late = LateGradient() if tied else None
    hidden = _hidden_at(lm, prefix, rows, places, abilities, late)
    if taught and taught.probabilities.shape != (len(places), len(head.weight)):
        raise InputError(
            f"the teachers' probabilities are {tuple(taught.probabilities.shape)}, expected "
            f"{(len(places), len(head.weight))}; name teachers with a language model of this kind"
        )
    dtype = _product_type(hidden, head.weight)
    matrix = None if head.weight.requires_grad else abilities.typed(head.weight, dtype)
    return chunked_cross_entropy(
        hidden,
        OutputLayer(head.weight, head.bias, matrix, dtype),
        Targets(rows.targets, row_of_target, rows.weights, smoothing, taught),
        late=late,
    )


@torch.no_grad()
def expected(lm: PreTrainedModel, prefix: Tensor, rows: PackedRows, abilities: Abilities) -> Tensor:
    """Probabilities (U, V) float32 of the token after each place that predicts one, in order.

    Captions in one row share the place before their first tokens, so that U may be below N. Row by
    row these are the places whose logits `packed_loss` forms, under any prefix length.

    Raises:
        InputError: the language model has no plain head, or too few positions.
    """
    _check_length(lm, rows)
    if not abilities.plain_head:
        raise InputError(_NOT_PLAIN)
    hidden = _hidden_at(lm, prefix, rows, _places(rows)[0], abilities)
    head = lm.get_output_embeddings()
    dtype = _product_type(hidden, head.weight)
    bias = None if head.bias is None else head.bias.to(dtype)
    logits = linear(hidden.to(dtype), abilities.typed(head.weight, dtype), bias)  # (U, V)
    return logits.float().softmax(dim=-1)


def _places(rows: PackedRows) -> tuple[Tensor, Tensor]:
    """Flat places (U,) that predict tokens, ascending, and which of them predicts each (N,).

    Captions that share a prefix share the place that predicts their first tokens.
    """
    return rows.sources.unique(return_inverse=True)


def _hidden_at(
    lm: PreTrainedModel,
    prefix: Tensor,
    rows: PackedRows,
    places: Tensor,
    abilities: Abilities,
    late: LateGradient | None = None,
) -> Tensor:
    """Outputs (U, lm_dim) of the last layer at flat `places` (U,)."""
    if abilities.gpt2 is not None:
        return abilities.gpt2(prefix, rows, places, late or LateGradient())
    return hidden_states(lm, prefix, rows).flatten(0, 1)[places]


def _product_type(hidden: Tensor, weight: Tensor) -> torch.dtype:
    """Type of the product of `hidden` with the vocabulary's `weight`."""
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def hidden_states(lm: PreTrainedModel, prefix: Tensor, rows: PackedRows) -> Tensor:
    """Outputs (R, P + L, lm_dim) of the last layer, before the vocabulary."""
    return _run(lm, lm.base_model, prefix, rows).last_hidden_state


@torch.no_grad()
def abilities_of(lm: PreTrainedModel) -> Abilities:
    """What `lm` allows: known of GPT-2, found by a trial on a few tokens of every other."""
    if isinstance(lm, GPT2LMHeadModel):
        return Abilities(True, True, GPT2Rows(lm) if fits(lm) else None)
    training = lm.training
    lm.eval()
    words = lm.get_input_embeddings().weight
    prefix = words[None, 2:4].clone()  # (1, 2, lm_dim)
    ids, image_rows = torch.tensor([[1, 2], [3, 4]], device=words.device), words.new_zeros(2).long()
    apart = pack(ids, image_rows, 2, shared=False)
    exact = _run(lm, lm, prefix[apart.images], apart).logits.flatten(0, 1)[apart.sources]  # (4, V)
    head = lm.get_output_embeddings()
    try:
        together = pack(ids, image_rows, 2, shared=True)
        packed = _run(lm, lm, prefix[together.images], together).logits.flatten(0, 1)
        shared = _alike(packed[together.sources], exact)
    except (TypeError, ValueError, RuntimeError):  # it takes no positions, or no mask of this form
        shared = False
    hidden = hidden_states(lm, prefix[apart.images], apart).flatten(0, 1)[apart.sources]
    lm.train(training)
    return Abilities(shared, plain_head=not _caps_logits(lm) and _alike(head(hidden), exact))


def _caps_logits(lm: PreTrainedModel) -> bool:
    """Whether settings of `lm` bound its logits, which a trial with small ones would not show."""
    settings = lm.config.get_text_config().to_dict()
    return any("logit" in key and "cap" in key and value for key, value in settings.items())


def _alike(found: Tensor, exact: Tensor) -> bool:
    """Whether two results differ by rounding only."""
    return float((found - exact).norm()) <= TRIAL_TOLERANCE * float(exact.norm())


def _run(
    lm: PreTrainedModel, module: PreTrainedModel, prefix: Tensor, rows: PackedRows
) -> ModelOutput:
    """Outputs of `lm`, or of a `module` of it, on rows behind their prefix (R, P, lm_dim)."""
    tokens = lm.get_input_embeddings()(rows.ids)  # (R, L, lm_dim)
    inputs = torch.cat([prefix.to(tokens.dtype), tokens], dim=1)  # (R, P + L, lm_dim)
    with _fast_attention(lm, inputs.device):
        if rows.visible is None:
            return module(inputs_embeds=inputs, use_cache=False)
        mask = rows.visible
        if lm.config._attn_implementation == "eager":
            lowest = torch.finfo(inputs.dtype).min
            mask = torch.zeros_like(mask, dtype=inputs.dtype).masked_fill_(~mask, lowest)
        return module(
            inputs_embeds=inputs,
            attention_mask=mask,
            position_ids=rows.position_ids,
            use_cache=False,
        )


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


def _check_length(lm: PreTrainedModel, rows: PackedRows) -> None:
    """Raise where a caption ends beyond the last position of the language model."""
    limit = _positions(lm)
    if limit is not None and rows.position_ids.shape[1] > limit:
        check_positions(lm, int(rows.position_ids.max()) + 1)


def _positions(lm: PreTrainedModel) -> int | None:
    """Number of positions that a language model has; None where it does not say."""
    return getattr(lm.config.get_text_config(), "max_position_embeddings", None)


def check_positions(lm: PreTrainedModel, needed: int) -> None:
    """Raise where the language model has fewer positions than a prefix and its caption take.

    Raises:
        InputError: it has fewer.
    """
    limit = _positions(lm)
    if limit is not None and needed > limit:
        raise InputError(
            f"a prefix and its caption take {needed} positions, the language model has {limit}; "
            "shorten the captions or the prefix"
        )
