"""What each prefix slot carries: it is replaced by its mean over other images, and what changes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prefixcap.captioner import Caption, Captioner
from prefixcap.decoding import decode
from prefixcap.errors import InputError
from prefixcap.language_model import PrefixDecoder


@dataclass(frozen=True)
class SlotEffect:
    """What happens without one slot of one image.

    Attributes:
        log_prob: change of the caption's summed log-probability in nats; below 0: it needs the
            slot.
        caption: what is written instead; None where that was not asked.
    """

    log_prob: float
    caption: str | None = None


def slot_effects(
    captioner: Captioner, prefixes: Tensor, captions: Sequence[Caption], *, rewrite: bool
) -> list[list[SlotEffect]]:
    """Of each image and slot, what its replacement by the other images' mean changes.

    Args:
        captioner: of a ClipCap.
        prefixes: (B, P, D) of B images, two at least.
        captions: what the model wrote of each image.
        rewrite: whether captions are written anew, too; P times the work of captioning.

    Raises:
        InputError: fewer than two images.
    """
    decoder = PrefixDecoder(captioner.model.lm)
    found = []
    for place, caption in enumerate(captions):
        variants = without_each_slot(prefixes, place)  # (P, P, D)
        both = torch.cat([prefixes[place : place + 1], variants])  # (1 + P, P, D)
        log_probs = caption_log_probs(decoder, both, caption.token_ids)
        changes = (log_probs[1:] - log_probs[0]).tolist()
        texts = _written(captioner, decoder, variants) if rewrite else [None] * len(changes)
        found.append([SlotEffect(*pair) for pair in zip(changes, texts, strict=True)])
    return found


def without_each_slot(prefixes: Tensor, place: int) -> Tensor:
    """Prefixes (P, P, D) of one image: in row s, slot s is its mean over the other images.

    Args:
        prefixes: (B, P, D), two images at least.
        place: of the image.

    Raises:
        InputError: there is one image only.
    """
    if len(prefixes) < 2:
        raise InputError("one image: a slot is replaced by its mean over others; give two or more")
    own = prefixes[place]  # (P, D)
    means = (prefixes.sum(0) - own) / (len(prefixes) - 1)  # (P, D)
    here = torch.eye(len(own), dtype=torch.bool, device=own.device)[:, :, None]  # (P, P, 1)
    return torch.where(here, means, own)  # (P, P, D)


def caption_log_probs(decoder: PrefixDecoder, prefixes: Tensor, ids: Sequence[int]) -> Tensor:
    """Summed log-probability (S,) float32, in nats, of one caption after each prefix (S, P, D)."""
    total = torch.zeros(len(prefixes), device=prefixes.device)
    if not ids:
        return total
    logits, state = decoder.start(prefixes, 1, len(ids))
    for place, token in enumerate(ids):
        total = total + logits.log_softmax(-1)[:, token]  # logits (S, V)
        if place + 1 < len(ids):
            read = torch.full((len(prefixes), 1), token, device=prefixes.device)
            logits = decoder.step(read, state)[:, 0]  # (S, V)
    return total


def _written(captioner: Captioner, decoder: PrefixDecoder, prefixes: Tensor) -> list[str]:
    """The best caption after each prefix, by the model's own decoding options."""
    tokenizer, options = captioner.model.tokenizer, captioner.model.config.decoding
    begin = " ".join(options.forced_words.split())
    found = decode(
        decoder,
        prefixes,
        options,
        stop_ids=captioner.stop_ids(options),
        forced_ids=tokenizer.encode(begin) if begin else (),
    )
    return [tokenizer.decode(hypotheses[0].ids) for hypotheses in found]
