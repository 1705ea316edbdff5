"""Captions from a model that can start from an image and step by one token."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from prefixcap.beam import AverageBeam, Greedy, SumBeam
from prefixcap.config import DecodeOptions
from prefixcap.errors import InputError
from prefixcap.hypotheses import Choice, Hypothesis, HypothesisTable, NextTokens
from prefixcap.sampling import Filter, Sampling, random_streams
from prefixcap.token_rules import TokenRules
from prefixcap.top_tokens import log_normalizer

__all__ = ["Hypothesis", "StepModel", "StepState", "decode"]

LEAVE_SHARE = 1 / 8  # of the batch: fewer finished images are cheaper to carry along than to drop


class StepState(Protocol):
    """What a model remembers of B images with W hypotheses each."""

    def reorder(self, parents: Tensor) -> None:
        """Hypothesis w of each image continues hypothesis `parents[:, w]`; (B, W) int64."""

    def keep(self, images: Tensor) -> None:
        """Only the images at these places of the batch stay, in this order; (B',) int64."""


class StepModel(Protocol):
    """A captioning model as decoding sees it.

    Logits are float32 and may lack a constant for each row. They belong to the caller until the
    next call: it may overwrite them, and the model may then.
    """

    def start(self, source: Tensor, width: int, max_tokens: int) -> tuple[Tensor, Any]:
        """Logits (B, V) of the first token, and the state of B images with `width` hypotheses."""

    def step(self, ids: Tensor, state: Any) -> Tensor:
        """Logits (B, W, V) of the token after `ids` (B, W) int64; the state moves on."""


class Strategy(Protocol):
    """How the next tokens are chosen, and when an image is finished."""

    width: int

    def choose(self, following: NextTokens, live: HypothesisTable) -> Choice:
        """The next token of each hypothesis."""

    def finished(self, live: HypothesisTable) -> Tensor:
        """Images that need no further step, (B,) bool."""

    def keep(self, images: Tensor) -> None:
        """Only the images at these places of the batch stay, in this order."""

    def hypotheses(self, live: HypothesisTable, images: Sequence[int]) -> list[list[Hypothesis]]:
        """The hypotheses of the images at these places, best first."""


@torch.inference_mode()
def decode(
    model: StepModel,
    source: Tensor,
    options: DecodeOptions,
    *,
    stop_ids: frozenset[int],
    forced_ids: Sequence[int] = (),
    image_seeds: Sequence[int] | None = None,
) -> list[list[Hypothesis]]:
    """At most `captions_per_image` hypotheses for each image of `source` (B, ...), best first.

    The result for an image does not depend on the other images of the batch. `options.stop`,
    `stop_word` and `forced_words` are words and mean nothing here; their tokens are:

    Args:
        model: what is stepped.
        source: what the model starts from, one row per image.
        options: how to search or sample.
        stop_ids: tokens that end a caption; they are kept as its last token.
        forced_ids: tokens that every caption begins with; none of them ends it.
        image_seeds: for sampling, a number per image that its draws depend on beside
            `options.seed`. None: all images see the same random numbers.

    Raises:
        InputError: more forced tokens than `max_tokens`, or the model's logits are not numbers.
    """
    if len(source) == 0:
        return []
    rules = TokenRules(
        stop_ids=torch.tensor(sorted(stop_ids), dtype=torch.int64, device=source.device),
        forced_ids=tuple(forced_ids),
        min_tokens=options.min_tokens,
        max_tokens=options.max_tokens,
        block_ngrams=options.block_ngrams,
    )
    strategy = _strategy(options, image_seeds or [0] * len(source))
    found = _Search(model, source, strategy, rules).run()
    return [hypotheses[: options.captions_per_image] for hypotheses in found]


def _strategy(options: DecodeOptions, image_seeds: Sequence[int]) -> Strategy:
    """The search that the options name."""
    if options.resolved_method == "sample":
        width = options.captions_per_image
        randoms = random_streams(options.seed, image_seeds, width, options.max_tokens)
        return Sampling(width, Filter(options.temperature, options.top_k, options.top_p), randoms)
    if options.resolved_method == "greedy":
        return Greedy()
    if options.order == "sum":
        return SumBeam(options.beam_size, options.length_penalty)
    return AverageBeam(options.beam_size)


class _Search:
    """One batch from its prefixes to its hypotheses; images leave the batch as they finish."""

    def __init__(
        self, model: StepModel, source: Tensor, strategy: Strategy, rules: TokenRules
    ) -> None:
        self.model = model
        self.strategy = strategy
        self.rules = rules
        logits, self.state = model.start(source, strategy.width, rules.max_tokens)
        self.logits = logits[:, None]  # (B, 1, V)
        self.live = HypothesisTable.empty(len(source), rules.max_tokens, logits.device)
        self.rows = list(range(len(source)))  # place in `source` of each image in the batch
        self.found: list[list[Hypothesis]] = [[] for _ in self.rows]

    def run(self) -> list[list[Hypothesis]]:
        """All hypotheses of every image, best first."""
        for step in range(self.rules.max_tokens):
            following = self._following(step)
            choice = self.strategy.choose(following, self.live)
            self.live = self.live.extended(choice, following.stop_ids)
            finished = self.strategy.finished(self.live).tolist()
            if all(finished) or following.is_last:
                break
            if step > 0 and choice.parents is not None:  # the first token continues the prefix
                self.state.reorder(choice.parents)
            if sum(finished) >= LEAVE_SHARE * len(finished):
                self._drop(finished)
            self.logits = self.model.step(self.live.last_tokens(), self.state)
        self._collect(range(len(self.rows)))
        return self.found

    def _following(self, step: int) -> NextTokens:
        """What can follow the hypotheses as token number `step`."""
        normalizer = log_normalizer(self.logits)
        if not normalizer.isfinite().all():
            raise InputError(
                f"the language model's logits are not numbers at caption token {step + 1}. "
                "Check its weights, or run it in float32"
            )
        return NextTokens(
            logits=self.rules.restrict(self.logits, self.live),
            normalizer=normalizer,
            stop_ids=self.rules.stops_at(step),
            is_last=step + 1 == self.rules.max_tokens,
        )

    def _drop(self, finished: list[bool]) -> None:
        """Take the finished images out of the batch, with their hypotheses."""
        self._collect([place for place, done in enumerate(finished) if done])
        staying = [place for place, done in enumerate(finished) if not done]
        images = torch.tensor(staying, device=self.logits.device)
        self.state.keep(images)
        self.strategy.keep(images)
        self.live = self.live.kept(images)
        self.rows = [self.rows[place] for place in staying]

    def _collect(self, places: Sequence[int]) -> None:
        """File the hypotheses of the images at these places of the batch."""
        found = self.strategy.hypotheses(self.live, places)
        for place, hypotheses in zip(places, found, strict=True):
            self.found[self.rows[place]] = hypotheses
