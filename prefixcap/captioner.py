"""Captioner: pictures in, captions out; the object that users hold."""

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from prefixcap.config import DecodeOptions, ModelConfig, PreprocessConfig
from prefixcap.consensus import Consensus
from prefixcap.decoding import Hypothesis, decode
from prefixcap.encoder import ImageEncoder, fitting_batch, load_encoder
from prefixcap.errors import InputError
from prefixcap.images import Source, open_rgb
from prefixcap.lstm import LstmCaptioner
from prefixcap.metrics import DocumentFrequencies
from prefixcap.model import ClipCap
from prefixcap.model_files import open_model
from prefixcap.precision import bf16_is_fast
from prefixcap.preprocess import normalised, resized
from prefixcap.processes import usable_device
from prefixcap.token_rules import TokenRules
from prefixcap.word_vocabulary import UNKNOWN

BATCH_SIZE = 32  # images; benchmarks/folder.py measures no gain from more on a CPU
HASHED_BYTES = 65_536  # of each tensor in a fingerprint: training moves all of a tensor

CaptionModel = ClipCap | LstmCaptioner


@dataclass(frozen=True)
class Caption:
    """What was written about one picture.

    Attributes:
        text: the caption on one line.
        score: mean natural-log probability of its tokens; nearer to 0 is surer.
        token_ids: with the end token or stop word, where one was produced.
        token_log_probs: of each token, in the model's own distribution.
        path: of the picture, where it came from a file.
        confidence: chance, 0 to 1, that the caption is right, where the model is calibrated.
    """

    text: str
    score: float
    token_ids: list[int]
    token_log_probs: list[float]
    path: str | None = None
    confidence: float | None = None


class Captioner:
    """A trained model together with its image encoder.

    Args:
        model: trained, with its encoder in `model.encoder`.
        name: what records call the model.

    Raises:
        InputError: the model has no encoder.
    """

    def __init__(self, model: CaptionModel, name: str = "model") -> None:
        if not isinstance(model.encoder, ImageEncoder):
            raise InputError(
                f"{name}: has no image encoder; use Captioner.from_pretrained, or set model.encoder"
            )
        self.model = model.eval()
        self.encoder: ImageEncoder = model.encoder
        self.name = name
        self.device = next(model.caption_parts[0].parameters()).device

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "mini",
        *,
        revision: str | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        encoder: ImageEncoder | None = None,
    ) -> Self:
        """Captioner of a built-in model, a model folder or a hub name.

        Args:
            name: where the model is.
            revision: branch, tag or commit of a hub model.
            device: None is a GPU where there is one, else the CPU.
            dtype: None is bfloat16 where that is fast on the device, else float32, which is exact.
            encoder: the model's, where it is loaded already or its weights are not at hand.

        Raises:
            InputError: no such model or device, or a file of the model is missing or does not fit.
        """
        device = usable_device(device)
        if dtype is None:
            dtype = torch.bfloat16 if bf16_is_fast(device) else torch.float32
        model = load_model(name, revision=revision, device=device, dtype=dtype)
        if model.encoder is None:
            model.encoder = encoder or load_encoder(
                model.config.encoder, dtype=dtype, device=str(device)
            )
        return cls(model, str(name))

    @property
    def preprocess(self) -> PreprocessConfig:
        """How photos become pixels for this model."""
        return self.encoder.config.preprocess or PreprocessConfig()

    @overload
    def caption(
        self, photos: Source, options: DecodeOptions | None = None, *, batch_size: int = BATCH_SIZE
    ) -> Caption: ...

    @overload
    def caption(
        self,
        photos: Sequence[Source],
        options: DecodeOptions | None = None,
        *,
        batch_size: int = BATCH_SIZE,
    ) -> list[Caption]: ...

    def caption(
        self,
        photos: Source | Sequence[Source],
        options: DecodeOptions | None = None,
        *,
        batch_size: int = BATCH_SIZE,
    ) -> Caption | list[Caption]:
        """The best caption of each photo, in order; of a single photo, the caption itself.

        Args:
            photos: paths, encoded bytes, Pillow images or arrays (H, W, C).
            options: None are those that the model was saved with.
            batch_size: images at a time; it changes speed and memory, not captions.

        Raises:
            UnreadableImage: a photo cannot be opened; `folder.caption_folder` would go on.
            InputError: options that the model cannot serve.
        """
        if _is_one(photos):
            return self.captions([photos], options, batch_size=batch_size)[0][0]
        return [found[0] for found in self.captions(photos, options, batch_size=batch_size)]

    def captions(
        self,
        photos: Sequence[Source],
        options: DecodeOptions | None = None,
        *,
        batch_size: int = BATCH_SIZE,
    ) -> list[list[Caption]]:
        """`captions_per_image` captions of each photo, best first; see `caption`."""
        found: list[list[Caption]] = []
        for batch, levels in self._batches(photos, batch_size):
            paths = [str(photo) if isinstance(photo, str | Path) else None for photo in batch]
            found += self.captions_of_levels(levels, options, paths)
        return found

    def captions_of_levels(
        self,
        levels: np.ndarray,
        options: DecodeOptions | None = None,
        paths: Sequence[str | None] | None = None,
    ) -> list[list[Caption]]:
        """Captions of photos that `preprocess.resized` has made (B, S, S, 3) uint8."""
        seeds = [zlib.crc32(photo.tobytes()) for photo in levels]
        return self.captions_of_embeddings(self._embed_levels(levels), options, paths, seeds)

    def captions_of_embeddings(
        self,
        embeddings: Tensor,
        options: DecodeOptions | None = None,
        paths: Sequence[str | None] | None = None,
        image_seeds: Sequence[int] | None = None,
    ) -> list[list[Caption]]:
        """Captions of this model's own encoder's embeddings (B, D) or (B, N, D).

        Samples depend on `image_seeds` beside the seed of the options; without them every image
        sees the same random numbers.
        """
        options = options or self.model.config.decoding
        if options.votes:
            found = self._agreed(embeddings, options, image_seeds)
        else:
            found = self._decoded(embeddings, options, image_seeds)
        paths = paths or [None] * len(embeddings)
        return [
            [self._caption(hypothesis, path) for hypothesis in hypotheses]
            for hypotheses, path in zip(found, paths, strict=True)
        ]

    def _decoded(
        self, embeddings: Tensor, options: DecodeOptions, image_seeds: Sequence[int] | None
    ) -> list[list[Hypothesis]]:
        """Hypotheses of each embedding, best first."""
        return decode(
            self.model,
            embeddings,
            options,
            stop_ids=self.stop_ids(options),
            forced_ids=self._forced_ids(options),
            image_seeds=image_seeds,
        )

    def _agreed(
        self, embeddings: Tensor, options: DecodeOptions, image_seeds: Sequence[int] | None
    ) -> list[list[Hypothesis]]:
        """The beam's hypotheses of each embedding, those first that the votes agree with most."""
        if len(embeddings) == 0:
            return []
        whole_beam = options.model_copy(update={"captions_per_image": options.beam_size})
        found = self._decoded(embeddings, whole_beam, image_seeds)
        votes = self._decoded(embeddings, options.voting, image_seeds)
        ranked = Consensus(self.model.tokenizer, self._frequencies()).ranked(found, votes)
        return [hypotheses[: options.captions_per_image] for hypotheses in ranked]

    def _frequencies(self) -> DocumentFrequencies:
        """Document frequencies stored with the model.

        Raises:
            InputError: there are none.
        """
        if self.model.frequencies is None:
            raise InputError(
                f"votes: {self.name} has no document frequencies, which weigh what captions agree "
                "in; give it those of its training captions: prefixcap export RUN --votes"
            )
        return self.model.frequencies

    def embed(self, photos: Sequence[Source], *, batch_size: int = BATCH_SIZE) -> Tensor:
        """Embeddings (B, D) or (B, N, D) float32 of photos, on the model's device."""
        parts = [self._embed_levels(levels) for _, levels in self._batches(photos, batch_size)]
        if not parts:
            return torch.empty(0, self.model.config.embedding_dim, device=self.device)
        return torch.cat(parts)

    def stop_ids(self, options: DecodeOptions) -> frozenset[int]:
        """Tokens that end a caption under `options`.

        Raises:
            InputError: the end token was not trained, or the stop word is not a single token.
        """
        tokenizer, stops = self.model.tokenizer, set()
        if options.stop in ("end", "either") and self.model.config.end_token:
            stops |= {tokenizer.end_id} - {None}
        if options.stop == "end" and not stops:
            raise InputError(f"{self.name}: was trained without an end token; use stop 'word'")
        if options.stop in ("word", "either"):
            stop = tokenizer.word_id(options.stop_word)
            is_asked = options.stop == "word" or options.stop_word != DecodeOptions().stop_word
            if stop is None and is_asked:
                raise InputError(
                    f"stop word {options.stop_word!r}: is not a single token of {self.name}; "
                    "give a common word or a punctuation mark"
                )
            stops |= {stop} - {None}
        return frozenset(stops)

    def check(self, options: DecodeOptions) -> None:
        """Nothing, where this model can write captions with `options`.

        Raises:
            InputError: a stop word that it does not have, or more tokens than it can write.
        """
        stops = torch.tensor(sorted(self.stop_ids(options)), dtype=torch.int64)  # (S,)
        forced, config = tuple(self._forced_ids(options)), self.model.config
        TokenRules(stops, forced, options.min_tokens, options.max_tokens, options.block_ngrams)
        shape = (1, config.embedding_tokens, config.embedding_dim)
        nothing = torch.zeros([size for size in shape if size is not None], device=self.device)
        self.model.start(nothing, 1, options.max_tokens)
        if options.votes:
            self._frequencies()

    def fingerprint(self) -> str:
        """Hash of the weights and settings that captions come from, 16 hexadecimal digits."""
        digest = hashlib.blake2b(digest_size=8)
        digest.update(self.model.config.model_dump_json(exclude={"decoding"}).encode())
        digest.update(self.encoder.fingerprint().encode())
        if self.model.frequencies is not None:
            digest.update(self.model.frequencies.digest().encode())
        for part in self.model.caption_parts:
            for name, tensor in sorted(part.state_dict().items()):
                head = tensor.detach().flatten()[: HASHED_BYTES // tensor.element_size()]  # (K,)
                digest.update(f"{name} {tuple(tensor.shape)}".encode())
                digest.update(head.cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def _batches(
        self, photos: Sequence[Source], batch_size: int
    ) -> Iterator[tuple[Sequence[Source], np.ndarray]]:
        """Photos in batches with their levels (B, S, S, 3) uint8, opened batch by batch."""
        if batch_size < 1:
            raise InputError(f"batch size {batch_size}: expected 1 or more")
        for start in range(0, len(photos), batch_size):
            batch = photos[start : start + batch_size]
            yield batch, np.stack([resized(open_rgb(photo), self.preprocess) for photo in batch])

    @torch.inference_mode()
    def _embed_levels(self, levels: np.ndarray) -> Tensor:
        """Embeddings (B, D) or (B, N, D) float32 of levels (B, S, S, 3) uint8."""
        pixels = torch.from_numpy(normalised(levels, self.preprocess))  # (B, 3, S, S)
        parts = pixels.to(self.device).split(fitting_batch(self.encoder))
        return torch.cat([self.encoder(part) for part in parts])

    def _forced_ids(self, options: DecodeOptions) -> list[int]:
        """Tokens that every caption begins with."""
        words = " ".join(options.forced_words.split())
        ids = self.model.tokenizer.encode(words) if words else []
        if self.model.tokenizer.backend.token_to_id(UNKNOWN) in ids:
            raise InputError(
                f"forced words {words!r}: {self.name} does not have all of them in its vocabulary"
            )
        return ids

    def _caption(self, hypothesis: Hypothesis, path: str | None) -> Caption:
        """Caption of a hypothesis."""
        log_probs = hypothesis.log_probs
        score = sum(log_probs) / max(len(log_probs), 1)
        text = self.model.tokenizer.decode(hypothesis.ids)
        curve = self.model.config.calibration
        confidence = curve.confidence(score) if curve else None
        return Caption(text, score, hypothesis.ids, log_probs, path, confidence)


def load_model(
    name: str | Path,
    *,
    revision: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> CaptionModel:
    """Trained model, ClipCap or LSTM as its settings say; see `ClipCap.from_pretrained`."""
    kind = model_class(open_model(str(name), revision).config)
    return kind.from_pretrained(name, revision=revision, device=device, dtype=dtype)


def model_class(config: ModelConfig) -> type[CaptionModel]:
    """The class of models with these settings."""
    return ClipCap if config.lstm is None else LstmCaptioner


def _is_one(photos: Source | Sequence[Source]) -> bool:
    """True for a single photo; an array of four dimensions is a batch."""
    if isinstance(photos, np.ndarray):
        return photos.ndim < 4
    return isinstance(photos, str | Path | bytes | Image.Image)
