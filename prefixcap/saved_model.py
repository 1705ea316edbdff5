"""What ClipCap and the LSTM captioners share: how they come from files and go into them."""

from abc import ABC, abstractmethod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from prefixcap.config import ModelConfig
from prefixcap.errors import InputError
from prefixcap.metrics import DocumentFrequencies
from prefixcap.model_card import model_card
from prefixcap.model_files import (
    FREQUENCIES_FILE,
    WEIGHTS_FILE,
    Extras,
    ModelFolder,
    cast,
    fill,
    open_model,
    stored_tensors,
    upload_model,
    write_model,
)
from prefixcap.tokenizer import CaptionTokenizer


class SavedModel(nn.Module, ABC):
    """A captioner whose settings, weights and tokenizer make up a folder or a hub repository.

    Attributes:
        config: everything that `config.json` holds.
        tokenizer: of the captions.
        encoder: the image encoder where it is loaded, else None.
        frequencies: of n-grams in captions, where they are stored with the model (`consensus`).
    """

    config: ModelConfig
    tokenizer: CaptionTokenizer
    encoder: nn.Module | None
    frequencies: DocumentFrequencies | None = None

    @classmethod
    @abstractmethod
    def _from_settings(cls, found: ModelFolder) -> Self:
        """Model as the folder's settings say, its weights still to be read."""

    @abstractmethod
    def _caption_modules(self, config: ModelConfig) -> dict[str, nn.Module]:
        """What is stored with a model of these settings, beside the encoder."""

    def _lm_settings(self, config: ModelConfig) -> PreTrainedConfig | None:
        """Settings of a stored language model that is not built from sizes in `config`."""
        return None

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
        """Trained model in evaluation mode, by folder, hub name or built-in name.

        Args:
            name: where it is.
            revision: branch, tag or commit of a hub model.
            device: where its weights go.
            dtype: of its weights; None is float32, however they are stored.

        Raises:
            InputError: no such model, or a file of it is missing, cut off or does not fit.
        """
        found = open_model(str(name), revision)
        model = cls._from_settings(found)
        fill(model._parts(found.config), found.files[WEIGHTS_FILE])
        if FREQUENCIES_FILE in found.files:
            model.frequencies = DocumentFrequencies.load(found.files[FREQUENCIES_FILE])
        return model.to(device=device, dtype=dtype).eval()

    def _write(
        self, folder: Path, config: ModelConfig, dtype: torch.dtype | None, card: str | None
    ) -> None:
        """Write the files of the model with the settings `config`; see `save_pretrained`."""
        tensors = stored_tensors(self._parts(config))
        if dtype is not None:
            tensors = {name: cast(tensor, dtype, name) for name, tensor in tensors.items()}
        text = card or model_card(config)
        network = self.encoder.network_settings() if config.encoder.stored else None
        extras = Extras(self._lm_settings(config), self.frequencies, network)
        write_model(folder, config, tensors, self.tokenizer, text, extras)

    def _upload(
        self, repo_id: str, config: ModelConfig, dtype: torch.dtype | None, *, private: bool
    ) -> str:
        """Address of the hub repository that now holds these files; see `push_to_hub`."""
        card = model_card(config, name=repo_id)
        with TemporaryDirectory() as folder:
            self._write(Path(folder), config, dtype, card)
            return upload_model(Path(folder), repo_id, private=private)

    def _parts(self, config: ModelConfig) -> nn.ModuleDict:
        """What is stored with a model of these settings."""
        parts = self._caption_modules(config)
        if config.encoder.stored:
            if self.encoder is None:
                raise InputError(
                    "the encoder's weights belong into this model, but it has no encoder; "
                    "set model.encoder, or encoder.stored to false"
                )
            parts["encoder"] = self.encoder
        return nn.ModuleDict(parts)

    def _preprocessed_config(self) -> ModelConfig:
        """Settings that say how photos are preprocessed."""
        if self.encoder is None:
            return self.config
        preprocess = self.encoder.config.preprocess
        encoder = self.config.encoder.model_copy(update={"preprocess": preprocess})
        return self.config.model_copy(update={"encoder": encoder})

    def _check_embeddings(self, embeddings: Tensor, reader: str) -> None:
        """Raise where `embeddings` (B, D) or (B, N, D) are not those that `reader` was made for."""
        tokens, width = self.config.embedding_tokens, self.config.embedding_dim
        expected = (width,) if tokens is None else (tokens, width)
        if embeddings.shape[1:] != expected:
            raise InputError(
                f"embeddings are {tuple(embeddings.shape[1:])} per image, the {reader} expects "
                f"{expected}; encode the images with this model's own encoder"
            )
