"""LSTM captioners: Show and Tell, and Show, Attend and Tell; loss, start and step, their files."""

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import torch
from torch import Tensor, nn

from prefixcap.caption_batch import CaptionBatch, check_weights
from prefixcap.config import LstmConfig, ModelConfig
from prefixcap.cross_entropy import chunked_cross_entropy
from prefixcap.encoder import ImageEncoder, build_encoder
from prefixcap.errors import InputError
from prefixcap.lstm_networks import OrderedCaptions, build_network
from prefixcap.lstm_step import LstmState, LstmStepper
from prefixcap.model_card import model_card
from prefixcap.model_files import (
    WEIGHTS_FILE,
    cast,
    fill,
    open_model,
    stored_tensors,
    upload_model,
    write_model,
)
from prefixcap.tokenizer import CaptionTokenizer
from prefixcap.word_vocabulary import special_ids


class LstmCaptioner(nn.Module):
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

        With attention, Xu et al.'s doubly stochastic term (equation 14) of each caption is added,
        whatever its weight.

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
        total = chunked_cross_entropy(
            told,
            output.weight,
            output.bias,
            captions.predicted(label_smoothing),
            dtype=torch.get_autocast_dtype(device) if autocast else output.weight.dtype,
        )
        if attended is not None and self._settings.doubly_stochastic:
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

    @property
    def trained_parameters(self) -> int:
        """Number of weights that training changes, as the papers' tables count them."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
    ) -> Self:
        """Trained model in evaluation mode, by folder or hub name.

        Args:
            name: where it is.
            revision: branch, tag or commit of a hub model.
            device: where its weights go.
            dtype: of its weights; None is float32, however they are stored.

        Raises:
            InputError: no such model, or a file of it is missing, cut off or does not fit.
        """
        found = open_model(str(name), revision)
        encoder = None
        if found.config.encoder.stored:
            encoder = build_encoder(found.config.encoder).requires_grad_(False)
        model = cls(found.config, found.tokenizer, encoder)
        fill(model._parts(), found.files[WEIGHTS_FILE])
        return model.to(device=device, dtype=dtype).eval()

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
        config, tensors = self._config_to_save(), stored_tensors(self._parts())
        if dtype is not None:
            tensors = {name: cast(tensor, dtype, name) for name, tensor in tensors.items()}
        write_model(Path(folder), config, tensors, self.tokenizer, card or model_card(config))

    def push_to_hub(
        self, repo_id: str, *, private: bool = False, dtype: torch.dtype | None = None
    ) -> str:
        """Address of the hub repository that now holds the files that `save_pretrained` writes.

        Raises:
            InputError: the hub cannot be reached, or refuses the name or the login.
        """
        card = model_card(self._config_to_save(), name=repo_id)
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder, dtype=dtype, card=card)
            return upload_model(Path(folder), repo_id, private=private)

    @property
    def _settings(self) -> LstmConfig:
        """The table `lstm` of the settings."""
        return self.config.lstm

    def _checked(self, embeddings: Tensor) -> Tensor:
        """The embeddings, standardised, in the network's dtype, if it was made for such ones."""
        tokens, width = self.config.embedding_tokens, self.config.embedding_dim
        expected = (width,) if tokens is None else (tokens, width)
        if embeddings.shape[1:] != expected:
            raise InputError(
                f"embeddings are {tuple(embeddings.shape[1:])} per image, the LSTM expects "
                f"{expected}; encode the images with this model's own encoder"
            )
        return self.network.standard(embeddings.to(self.network.output.weight.dtype))

    def _config_to_save(self) -> ModelConfig:
        """Settings that say how photos are preprocessed."""
        if self.encoder is None:
            return self.config
        preprocess = self.encoder.config.preprocess
        encoder = self.config.encoder.model_copy(update={"preprocess": preprocess})
        return self.config.model_copy(update={"encoder": encoder})

    def _parts(self) -> nn.ModuleDict:
        """What is stored with the model."""
        parts: dict[str, nn.Module] = {"lstm": self.network}
        if self.config.encoder.stored:
            if self.encoder is None:
                raise InputError(
                    "the encoder's weights belong into this model, but it has no encoder; "
                    "set model.encoder, or encoder.stored to false"
                )
            parts["encoder"] = self.encoder
        return nn.ModuleDict(parts)
