"""Self-critical training: captions that the model samples, weighted by their CIDEr-D.

Rennie et al. 2017 (arXiv 1612.00563). A caption earns its CIDEr-D; what the image's other samples
earn on average (Luo 2020, arXiv 2003.09971), or its greedy caption, is taken off; the caption
becomes likelier or less likely by the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from prefixcap.batches import ImageSource, epoch_order, padded, steps_per_epoch
from prefixcap.captioner import Captioner, CaptionModel
from prefixcap.config import DecodeOptions
from prefixcap.datasets.records import CaptionRecord
from prefixcap.decoding import Hypothesis, decode
from prefixcap.errors import InputError
from prefixcap.metrics import CiderReferences, DocumentFrequencies
from prefixcap.metrics.ptb import tokenize, tokenize_lines
from prefixcap.model import CaptionBatch
from prefixcap.processes import ALONE, Processes
from prefixcap.recipe import Recipe, SelfCriticalConfig, TrainConfig, expand

END_WORD = "\x03"  # "end of text": the tokenizer takes it for a space, so no caption holds it
WITHOUT_MEANING = (  # of [train], where there is no caption to copy
    "label_smoothing",
    "noise",
    "captions_per_image",
    "caption_dropout",
    "shuffle_captions",
    "lr_encoder",
)


@dataclass(frozen=True)
class SelfCriticalStep:
    """B images of one step.

    Attributes:
        pixels: (B, 3, S, S) float32 where the encoder runs in the loop, else None.
        embeddings: (B, D) or (B, N, D) float32 where it does not.
        rows: (B,) int64, the records of the images.
        seeds: (B,) a number for each image that its samples follow from.
    """

    pixels: Tensor | None
    embeddings: Tensor
    rows: np.ndarray
    seeds: range


class SelfCriticalBatches:
    """Images of each step, in the order of `CaptionBatches`, with seeds for their samples."""

    def __init__(
        self,
        usable: np.ndarray,
        source: ImageSource,
        config: TrainConfig,
        processes: Processes = ALONE,
    ) -> None:
        """Batches of the records `usable`; a process has its share of each."""
        self.usable, self.source, self.config = usable, source, config
        self.processes = processes
        self.steps_per_epoch = steps_per_epoch(len(usable), config)

    def batch(self, step: int) -> SelfCriticalStep:
        """The images of one step, the same at every call."""
        epoch, place = divmod(step, self.steps_per_epoch)
        size, seed = self.config.images_per_step, self.config.seed
        order = epoch_order(len(self.usable), seed, epoch)
        chosen = self.usable[order[place * size : (place + 1) * size]]
        mine = self.processes.share(size)
        generator = np.random.default_rng((seed, 1, step))
        pixels, embeddings = self.source.images(chosen, generator, mine)
        seeds = range(step * size, (step + 1) * size)
        return SelfCriticalStep(pixels, embeddings, chosen[mine], seeds[mine])


class CiderReward:
    """CIDEr-D of captions against the references of their images, 0 to 10.

    With the guard, a caption earns nothing unless it has words and an end, and the end is one more
    word of every caption: fragments ("with a") then pay for n-grams such as "a END" that no
    reference has. Without it they win, as Rennie et al. found.
    """

    def __init__(
        self,
        references: Sequence[Sequence[str]],
        frequencies: DocumentFrequencies | None = None,
        *,
        guard: bool = True,
    ) -> None:
        """`references` of each image; `frequencies` are those of the references unless given.

        Raises:
            InputError: with the guard, frequencies of captions without their ends.
        """
        self.guard = guard
        if guard and frequencies is not None and not _has_ends(frequencies):
            raise InputError(
                "the document frequencies do not count the ends of captions, which are words of "
                "the reward; save those of `reward_tokens`, or set self_critical.guard=false"
            )
        tokens = [reward_tokens(captions, guard=guard) for captions in references]
        self._references = CiderReferences(dict(enumerate(tokens)), frequencies)

    def score(
        self, images: Sequence[int], captions: Sequence[str], ended: Sequence[bool]
    ) -> np.ndarray:
        """Reward of each caption (K,) float64, of the images at these places of `references`."""
        end = f" {END_WORD}" if self.guard else ""
        tokens = [tokenize(caption) for caption in captions]
        values = self._references.score(images, [text + end for text in tokens])
        if not self.guard:
            return values
        whole = [bool(text) and has_end for text, has_end in zip(tokens, ended, strict=True)]
        return values * np.array(whole, bool)


def reward_tokens(captions: Sequence[str], *, guard: bool = True) -> list[str]:
    """Tokens of one image's references as the reward counts them, joined by spaces."""
    end = f" {END_WORD}" if guard else ""
    return [text + end for text in tokenize_lines(captions)]


class SelfCriticalTask(nn.Module):
    """A captioner as `train.fit` trains it on its own samples; the encoder stays as it is.

    There is no dropout: the gradient is that of the distribution which the samples come from.
    """

    def __init__(
        self,
        model: CaptionModel,
        reward: CiderReward,
        baseline: str,
        sampling: DecodeOptions,
        stop_ids: frozenset[int],
    ) -> None:
        super().__init__()
        self.model = model
        self.reward = reward
        self.baseline = baseline
        self.sampling = sampling
        self.stop_ids = stop_ids
        if model.encoder is not None:
            model.encoder.requires_grad_(False)

    def loss(self, batch: SelfCriticalStep) -> tuple[Tensor, int, dict[str, float]]:
        """Sum of advantage x cross-entropy over the sampled captions, and their number.

        Its gradient, divided by that number, is minus that of the expected reward.
        """
        self.model.eval()
        with torch.no_grad():
            embeddings = (
                batch.embeddings if batch.pixels is None else self.model.encoder(batch.pixels)
            )
        samples = self._decoded(embeddings, self.sampling, batch.seeds)
        rewards = self._rewards(batch.rows, samples)  # (B, S)
        if self.baseline == "greedy":
            baselines = self._rewards(batch.rows, self._greedy(embeddings))  # (B, 1)
        else:
            others = rewards.shape[1] - 1
            baselines = (rewards.sum(axis=1, keepdims=True) - rewards) / others  # (B, S)
        ids, image_rows = padded([[sample.ids for sample in image] for image in samples])
        weights = torch.from_numpy((rewards - baselines).ravel()).float()  # (B * S,)
        captions = (part.to(embeddings.device) for part in (ids, image_rows, weights))
        loss, _ = self.model.loss(CaptionBatch(embeddings, *captions))
        written = [sample for image in samples for sample in image]
        values = {
            "captions": len(written),
            "reward": float(rewards.mean()),
            "baseline": float(baselines.mean()),
            "length": float(np.mean([len(sample.ids) for sample in written])),
            "unfinished": float(np.mean([not self._ended(sample) for sample in written])),
        }
        return loss, len(written), values

    def _greedy(self, embeddings: Tensor) -> list[list[Hypothesis]]:
        """The likeliest caption of each image, token by token."""
        options = DecodeOptions(method="greedy", max_tokens=self.sampling.max_tokens)
        return self._decoded(embeddings, options, None)

    def _decoded(
        self, embeddings: Tensor, options: DecodeOptions, seeds: Sequence[int] | None
    ) -> list[list[Hypothesis]]:
        """Captions of each image, without a gradient.

        Outside autocast, which would keep weights that it cast here for the pass with a gradient.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            return decode(
                self.model, embeddings, options, stop_ids=self.stop_ids, image_seeds=seeds
            )

    def _rewards(self, rows: np.ndarray, captions: list[list[Hypothesis]]) -> np.ndarray:
        """Reward of each caption (B, S) of the images at `rows`."""
        written = [hypothesis for image in captions for hypothesis in image]
        images = np.repeat(rows, [len(image) for image in captions])
        texts = [self.model.tokenizer.decode(hypothesis.ids) for hypothesis in written]
        ended = [self._ended(hypothesis) for hypothesis in written]
        return self.reward.score(images.tolist(), texts, ended).reshape(len(rows), -1)

    def _ended(self, caption: Hypothesis) -> bool:
        """Whether a caption came to its end."""
        return caption.ids[-1] in self.stop_ids


def self_critical_task(
    recipe: Recipe,
    config: SelfCriticalConfig,
    model: CaptionModel,
    records: Sequence[CaptionRecord],
) -> SelfCriticalTask:
    """The task that a recipe describes; rows of its batches are places in `records`.

    Raises:
        InputError: settings that mean nothing here, captions that cannot end, or a file of
            document frequencies that is none.
    """
    check(recipe)
    sampling = DecodeOptions(
        method="sample",
        captions_per_image=config.samples,
        temperature=config.temperature,
        max_tokens=recipe.decoding.max_tokens,
        stop=recipe.decoding.stop,
        stop_word=recipe.decoding.stop_word,
        seed=recipe.train.seed,
    )
    stop_ids = Captioner(model, recipe.name).stop_ids(sampling)
    frequencies = None
    if config.frequencies:
        frequencies = DocumentFrequencies.load(Path(expand(config.frequencies)))
    references = [record.captions for record in records]
    reward = CiderReward(references, frequencies, guard=config.guard)
    return SelfCriticalTask(model, reward, config.baseline, sampling, stop_ids)


def check(recipe: Recipe) -> None:
    """Nothing, where a self-critical recipe has a model to start from and no idle setting.

    Raises:
        InputError: it starts from random weights, or sets what only captions to copy have.
    """
    if recipe.stage != "caption" or not recipe.start_from:
        raise InputError(
            f"recipe {recipe.name}: [self_critical] improves a trained captioner, since samples of "
            'random weights earn nothing; set stage = "caption" and start_from'
        )
    default = TrainConfig()
    idle = [key for key in WITHOUT_MEANING if getattr(recipe.train, key) != getattr(default, key)]
    if idle:
        raise InputError(
            f"recipe {recipe.name}: train.{', train.'.join(idle)} means nothing in self-critical "
            "training, which keeps the encoder and copies no caption; leave it out"
        )


def _has_ends(frequencies: DocumentFrequencies) -> bool:
    """Whether the end was a word of every document."""
    [end] = DocumentFrequencies.of([[END_WORD]]).keys[0]
    place = int(np.searchsorted(frequencies.keys[0], end))
    known = place < len(frequencies.keys[0]) and frequencies.keys[0][place] == end
    return known and int(frequencies.counts[0][place]) == frequencies.documents
