"""LSTM captioners: Show and Tell, and Show, Attend and Tell; loss, start and step, their files."""

from collections.abc import Iterable
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from prefixcap.caption_batch import CaptionBatch, check_weights
from prefixcap.config import LstmConfig, ModelConfig
from prefixcap.cross_entropy import OutputLayer, chunked_cross_entropy
from prefixcap.encoder import ImageEncoder, stored_encoder
from prefixcap.errors import InputError
from prefixcap.lstm_networks import OrderedCaptions, build_network
from prefixcap.lstm_step import LstmState, LstmStepper
from prefixcap.model_files import ENCODER_CONFIG_FILE, ModelFolder
from prefixcap.saved_model import SavedModel
from prefixcap.tokenizer import CaptionTokenizer
from prefixcap.word_vocabulary import special_ids


class LstmCaptioner(SavedModel):
    """Image embeddings in, captions of whole words out, by an LSTM.

    Without attention it is Show and Tell (Vinyals et al. 2015), with it Show, Attend and Tell (Xu
    et al. 2015), both as decoders of a frozen encoder's vectors.

    Attributes:
        config: everything that `config.json` holds.
        network: embeddings and words to the next word.
        tokenizer: of whole words.
        encoder: the image encoder where it is loaded, else None.
    """

    def __init__(
        self, config: ModelConfig, tokenizer: CaptionTokenizer, encoder: ImageEncoder | None = None
    ) -> None:
        """A model with random weights.

        Raises:
            InputError: the settings have no `lstm`, or the tokenizer is not one of words.
        """
        super().__init__()
        if config.lstm is None:
            raise InputError("these are the settings of a ClipCap; an LSTM captioner has an [lstm]")
        unknown_id, self.start_id = special_ids(tokenizer)
        self.config = config
        self.tokenizer = tokenizer
        self.encoder = encoder
        self.network = build_network(config.lstm, config.embedding_dim, tokenizer.vocabulary_size)
        self._stepper = LstmStepper(self.network, self.start_id, (unknown_id, self.start_id))

    @classmethod
    def build(cls, config: ModelConfig, tokenizer: CaptionTokenizer) -> Self:
        """Model to be trained."""
        return cls(config, tokenizer)

    def see(self, embeddings: Iterable[Tensor]) -> None:
        """Standardise from now on what is read, by parts (B, D) or (B, N, D) of training images."""
        if self._settings.standardize:
            self.network.standard.learn(embeddings)

    def loss(self, batch: CaptionBatch, *, label_smoothing: float = 0.0) -> tuple[Tensor, int]:
        """Sum of the weighted cross-entropies (float32 scalar), and number of caption tokens.

        With attention, Xu et al.'s doubly stochastic term (equation 14) of each caption is added in
        training mode, whatever the caption's weight; a dev loss is the cross-entropy alone.

        Args:
            batch: the captions.
            label_smoothing: 0 to 1.

        Raises:
            InputError: embeddings of another width or kind than the model was made for, or there is
                not one weight per caption.
        """
        check_weights(batch)
        captions = OrderedCaptions.of(batch.ids, batch.image_rows, self.start_id, batch.weights)
        told, attended = self.network.read(self._checked(batch.embeddings), captions)
        device, output = told.device.type, self.network.output
        autocast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if autocast else output.weight.dtype
        total = chunked_cross_entropy(
            told,
            OutputLayer(output.weight, output.bias, dtype=dtype),
            captions.predicted(label_smoothing),
        )
        if self.training and attended is not None and self._settings.doubly_stochastic:
            total = total + self._settings.doubly_stochastic * (1 - attended).square().sum()
        return total, len(captions.targets)

    def start(self, embeddings: Tensor, width: int, max_tokens: int) -> tuple[Tensor, LstmState]:
        """Logits (B, V) float32 of the first word, and the state of `width` beams each.

        Args:
            embeddings: (B, D) or (B, N, D).
            width: beams per image.
            max_tokens: any number; an LSTM has no last position.
        """
        with torch.inference_mode():
            return self._stepper.start(self._checked(embeddings), width)

    def step(self, ids: Tensor, state: LstmState) -> Tensor:
        """Logits (B, W, V) float32 of the word after `ids` (B, W) int64; the state moves on.

        `<unk>` and `<start>` are never written: their logits are -inf.
        """
        with torch.inference_mode():
            return self._stepper.step(ids, state)

    @torch.inference_mode()
    def attention(self, embedding: Tensor, ids: list[int]) -> Tensor:
        """Where the model looked for each token of a caption: (T, N) float32, rows sum to 1.

        Args:
            embedding: (N, D) or (D,) of one image; positions of a grid stand row by row.
            ids: (T,) the caption's tokens, as `Caption.token_ids` has them.

        Raises:
            InputError: the model has no attention, or embeddings of another kind.
        """
        if not self._settings.attention:
            raise InputError("this LSTM captioner has no attention; train one with lstm.attention")
        read = torch.tensor(ids, device=embedding.device)
        return self._stepper.attention(self._checked(embedding[None]), read)

    @property
    def caption_parts(self) -> list[nn.Module]:
        """What turns embeddings into captions."""
        return [self.network]

    def save_pretrained(
        self, folder: str | Path, *, dtype: torch.dtype | None = None, card: str | None = None
    ) -> None:
        """Write settings, weights, tokenizer and model card, so that `from_pretrained` reads them.

        Args:
            folder: where to; made if need be.
            dtype: that weights are stored in, such as torch.float16; None is their own.
            card: text of README.md; None writes what is known of the model.

        Raises:
            InputError: the encoder's weights belong into the model, but it has no encoder.
            OSError: the folder cannot be written, or the disk is full.
        """
        self._write(Path(folder), self._preprocessed_config(), dtype, card)

    def push_to_hub(
        self, repo_id: str, *, private: bool = False, dtype: torch.dtype | None = None
    ) -> str:
        """Address of the hub repository that now holds the files that `save_pretrained` writes.

        Raises:
            InputError: the hub cannot be reached, or refuses the name or the login.
        """
        return self._upload(repo_id, self._preprocessed_config(), dtype, private=private)

    @property
    def _settings(self) -> LstmConfig:
        """The table `lstm` of the settings."""
        return self.config.lstm

    def _checked(self, embeddings: Tensor) -> Tensor:
        """The embeddings, standardised, in the network's dtype, if it was made for such ones."""
        self._check_embeddings(embeddings, "LSTM")
        return self.network.standard(embeddings.to(self.network.output.weight.dtype))

    @classmethod
    def _from_settings(cls, found: ModelFolder) -> Self:
        settings = found.files.get(ENCODER_CONFIG_FILE)
        return cls(found.config, found.tokenizer, stored_encoder(found.config.encoder, settings))

    def _caption_modules(self, config: ModelConfig) -> dict[str, nn.Module]:
        return {"lstm": self.network}
