"""ClipCap: a mapper in front of a causal language model; loss, start and step, and its files."""

from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from prefixcap.caption_batch import CaptionBatch, check_weights
from prefixcap.causal_lm import fresh_gpt2, load_causal_lm, pinned, stored_causal_lm
from prefixcap.config import ModelConfig
from prefixcap.encoder import ImageEncoder, stored_encoder
from prefixcap.errors import InputError
from prefixcap.language_model import PrefixDecoder, State
from prefixcap.lora import add_adapters, merged
from prefixcap.loss_targets import Taught
from prefixcap.mapper import Mapper, build_mapper
from prefixcap.model_files import ENCODER_CONFIG_FILE, LM_CONFIG_FILE, ModelFolder
from prefixcap.packed_loss import Abilities, abilities_of, expected, packed_loss
from prefixcap.packed_rows import PackedRows, pack
from prefixcap.saved_model import SavedModel
from prefixcap.tokenizer import CaptionTokenizer


class ClipCap(SavedModel):
    """Image embeddings in, captions out (Mokady et al., arXiv 2111.09734).

    Attributes:
        config: everything that `config.json` holds.
        mapper: embedding to prefix.
        lm: the causal language model.
        tokenizer: the language model's.
        encoder: the image encoder where it is loaded, else None.
    """

    def __init__(
        self,
        config: ModelConfig,
        mapper: Mapper,
        lm: PreTrainedModel,
        tokenizer: CaptionTokenizer,
        encoder: ImageEncoder | None = None,
    ) -> None:
        super().__init__()
        _check_widths(lm, tokenizer)
        self.config = config
        self.mapper = mapper
        self.lm = lm
        self.tokenizer = tokenizer
        self.encoder = encoder
        self._decoder = PrefixDecoder(lm)
        self._abilities: Abilities | None = None  # found by a trial when first needed

    @classmethod
    def build(cls, config: ModelConfig, tokenizer: CaptionTokenizer) -> Self:
        """Model to be trained: a random mapper and the language model that `config` says.

        Raises:
            InputError: sizes that do not fit each other, or a language model that cannot be loaded
                or adapted.
        """
        lm_config = pinned(config.language_model)
        lm = load_causal_lm(lm_config) if lm_config.name else fresh_gpt2(lm_config)
        if lm_config.lora_rank:
            add_adapters(lm, lm_config)
        config = config.model_copy(update={"language_model": lm_config})
        return cls(config, _mapper(config, lm), lm, tokenizer)

    def prefix(self, embeddings: Tensor) -> Tensor:
        """Prefix (B, P, lm_dim) of `embeddings` (B, D) or (B, N, D).

        Raises:
            InputError: embeddings of another width or kind than the mapper was made for.
        """
        self._check_embeddings(embeddings, "mapper")
        return self.mapper(embeddings.to(next(self.mapper.parameters()).dtype))

    def loss(
        self,
        batch: CaptionBatch,
        *,
        shared: bool = True,
        label_smoothing: float = 0.0,
        taught: Taught | None = None,
    ) -> tuple[Tensor, int]:
        """Sum of the weighted cross-entropies (float32 scalar), and number of caption tokens.

        Args:
            batch: the captions.
            shared: an image's captions share its prefix in one row, where the language model can
                read such rows; else one row per caption. The value and gradients are the same.
            label_smoothing: 0 to 1.
            taught: what teachers expect of the same batch, see `expected`.

        Raises:
            InputError: prefix and caption are longer than the language model can read, or there is
                not one weight per caption.
        """
        prefix, rows = self._rows(batch, shared)
        total = packed_loss(self.lm, prefix, rows, label_smoothing, self._abilities, taught)
        return total, len(rows.targets)

    def expected(self, batch: CaptionBatch, *, shared: bool = True) -> Tensor:
        """Probabilities (U, V) float32 of the captions' next tokens, for `loss` of another model.

        Raises:
            InputError: as `loss`, or logits that the language model scales or caps.
        """
        with torch.no_grad():
            prefix, rows = self._rows(batch, shared)
            return expected(self.lm, prefix, rows, self._abilities)

    def _rows(self, batch: CaptionBatch, shared: bool) -> tuple[Tensor, PackedRows]:
        """Prefix (R, P, lm_dim) of each row, and the rows of a batch's captions."""
        check_weights(batch)
        if self._abilities is None:
            self._abilities = abilities_of(self.lm)
        prefix = self.prefix(batch.embeddings)
        shared = shared and self._abilities.shared
        rows = pack(
            batch.ids, batch.image_rows, prefix.shape[1], shared=shared, weights=batch.weights
        )
        return prefix[rows.images], rows

    def start(self, embeddings: Tensor, width: int, max_tokens: int) -> tuple[Tensor, State]:
        """Logits (B, V) float32 of the first caption token, and the state of `width` beams each.

        Args:
            embeddings: (B, D) or (B, N, D).
            width: beams per image.
            max_tokens: caption tokens that will be asked for at most.
        """
        with torch.inference_mode():
            return self._decoder.start(self.prefix(embeddings), width, max_tokens)

    def step(self, ids: Tensor, state: State) -> Tensor:
        """Logits (B, W, V) float32 of the token after `ids` (B, W) int64; the state moves on."""
        return self._decoder.step(ids, state)

    @property
    def caption_parts(self) -> list[nn.Module]:
        """What turns embeddings into captions."""
        return [self.mapper, self.lm]

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        store_lm: bool | None = None,
        dtype: torch.dtype | None = None,
        card: str | None = None,
    ) -> None:
        """Write settings, weights, tokenizer and model card, so that `from_pretrained` reads them.

        Args:
            folder: where to; made if need be.
            store_lm: whether the language model's weights go in too. None: unless it is frozen and
                has a name to be found by.
            dtype: that weights are stored in, such as torch.float16; None is their own.
            card: text of README.md; None writes what is known of the model.

        Raises:
            InputError: `store_lm` is False for a language model that no name leads back to.
            OSError: the folder cannot be written, or the disk is full.
        """
        self._write(Path(folder), self._config_to_save(store_lm), dtype, card)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = False,
        store_lm: bool | None = None,
        dtype: torch.dtype | None = None,
    ) -> str:
        """Address of the hub repository that now holds the files that `save_pretrained` writes.

        Raises:
            InputError: the hub cannot be reached, or refuses the name or the login.
        """
        return self._upload(repo_id, self._config_to_save(store_lm), dtype, private=private)

    def _config_to_save(self, store_lm: bool | None) -> ModelConfig:
        """Settings that say what is stored, and how photos are preprocessed."""
        lm_config = self.config.language_model
        needed = not lm_config.name or not lm_config.keeps_weights
        stored = (lm_config.stored or needed) if store_lm is None else store_lm
        if needed and not stored:
            raise InputError(
                "store_lm=False, but the language model was trained here, so no name leads back to "
                "its weights; leave store_lm away"
            )
        update = {"language_model": lm_config.model_copy(update={"stored": stored})}
        return self._preprocessed_config().model_copy(update=update)

    @classmethod
    def _from_settings(cls, found: ModelFolder) -> Self:
        config = found.config
        lm = stored_causal_lm(config.language_model, found.files.get(LM_CONFIG_FILE))
        encoder = stored_encoder(config.encoder, found.files.get(ENCODER_CONFIG_FILE))
        return cls(config, _mapper(config, lm), lm, found.tokenizer, encoder)

    def _caption_modules(self, config: ModelConfig) -> dict[str, nn.Module]:
        parts: dict[str, nn.Module] = {"mapper": self.mapper}
        if config.language_model.stored:
            parts["lm"] = merged(self.lm)
        return parts

    def _lm_settings(self, config: ModelConfig) -> PreTrainedConfig | None:
        lm_config = config.language_model
        return self.lm.config if lm_config.stored and lm_config.name else None


def _mapper(config: ModelConfig, lm: PreTrainedModel) -> Mapper:
    """Random mapper of the sizes in `config`, as wide as the language model's word embeddings."""
    lm_dim = lm.get_input_embeddings().embedding_dim
    return build_mapper(config.mapper, config.embedding_dim, lm_dim, config.embedding_tokens)


def _check_widths(lm: PreTrainedModel, tokenizer: CaptionTokenizer) -> None:
    """Raise where the tokenizer has ids that the language model has no vector for."""
    rows = lm.get_input_embeddings().num_embeddings
    if tokenizer.vocabulary_size > rows:
        raise InputError(
            f"the tokenizer has {tokenizer.vocabulary_size} tokens, the language model {rows}; "
            "set language_model.vocabulary to the tokenizer's, or use the model's own tokenizer"
        )
