"""All that can be said of a model's captions of given photos: words, slots, attention."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from prefixcap.captioner import Caption, Captioner
from prefixcap.errors import InputError
from prefixcap.explain.attention import slot_attention
from prefixcap.explain.heat_maps import grid_side, seen_box
from prefixcap.explain.numbers import Sharing, same_word_share, sharing
from prefixcap.explain.prefix import NearestToken, prefix_as_words, token_text
from prefixcap.explain.slots import SlotEffect, slot_effects
from prefixcap.images import Photo, Skipped, UnreadableImage, open_rgb
from prefixcap.lstm import LstmCaptioner
from prefixcap.mapper import PatchMapper
from prefixcap.model import ClipCap

PHOTO_PX = 720  # longest side of a photo that is kept
ROLLOUT = (
    "attention rollout through the mapper's layers (Abnar & Zuidema 2020), from each slot to the "
    "image tokens"
)
OWN_PLACE = "each slot's own place, whose patch token it is"
POOLING = "the weights by which the mapper pools the image tokens, the same for all slots"
WORD_ATTENTION = "the LSTM's attention when it writes each word (Xu et al. 2015)"


@dataclass(frozen=True)
class Look:
    """Something that looks at the photo: a slot of the prefix, or a word of the caption.

    Attributes:
        nearest: tokens nearest to a slot's vector; of a word, the word alone.
        effect: what changes without the slot; None of words, and of a single photo.
        weights: (N,) of a square grid over the seen part, row by row, sum 1; None without places.
    """

    nearest: Sequence[NearestToken]
    effect: SlotEffect | None = None
    weights: Sequence[float] | None = None


@dataclass(frozen=True)
class ExplainedPhoto:
    """A photo, its caption, and what that comes from.

    Attributes:
        name: of the photo.
        image: RGB, at most `PHOTO_PX` long.
        seen: left, top, right, bottom of what the encoder sees, in the image's pixels.
        caption: by the model's own decoding options.
        looks: of each slot, or of each word.
        pooled: (N,) weights of the one look that all slots share, None elsewhere.
    """

    name: str
    image: Image.Image
    seen: tuple[int, int, int, int]
    caption: Caption
    looks: Sequence[Look]
    pooled: Sequence[float] | None = None


@dataclass(frozen=True)
class Explanation:
    """What photos tell of a model.

    Attributes:
        model: its name.
        of: "slots" or "words", what the looks belong to.
        photos: those that could be read.
        maps: how the weights came about; "" where there are none.
        sharing: what the prefixes have in common; None of words, and of a single photo.
        same_word: share of slots with the same nearest token in most photos; None likewise.
        skipped: photos that cannot be read.
    """

    model: str
    of: str
    photos: Sequence[ExplainedPhoto]
    maps: str
    sharing: Sharing | None
    same_word: float | None
    skipped: Sequence[Skipped]


def explain_photos(
    captioner: Captioner,
    photos: Sequence[Photo],
    count: int = 3,
    on_progress: Callable[[int], None] | None = None,
) -> Explanation:
    """The prefix, slot by slot, or the attention, word by word, behind each photo's caption.

    Args:
        captioner: of a ClipCap, or of an LSTM with attention.
        photos: files; those that cannot be read come back as skipped.
        count: nearest tokens of each slot.
        on_progress: told after each photo how many are captioned.

    Raises:
        InputError: no photo can be read, or an LSTM without attention.
    """
    if isinstance(captioner.model, LstmCaptioner) and not captioner.model.config.lstm.attention:
        raise InputError(
            f"{captioner.name}: an LSTM without attention has neither a prefix nor places that it "
            "looks at; explain a ClipCap, or an LSTM trained with lstm.attention"
        )
    names, images, skipped = _opened(photos)
    captions: list[Caption] = []
    embeddings: list[Tensor] = []
    for image in images:
        embeddings.append(captioner.embed([image]))  # (1, D) or (1, N, D)
        captions += [found[0] for found in captioner.captions_of_embeddings(embeddings[-1])]
        if on_progress:
            on_progress(len(captions))
    seen = torch.cat(embeddings)  # (B, D) or (B, N, D)
    if isinstance(captioner.model, LstmCaptioner):
        looks = [_words(captioner.model, *pair) for pair in zip(seen, captions, strict=True)]
        parts = _Parts("words", looks, WORD_ATTENTION)
    else:
        parts = _slots(captioner, seen, captions, count)
    return Explanation(
        captioner.name,
        parts.of,
        _put_together(captioner, names, images, captions, parts),
        parts.maps,
        parts.sharing,
        parts.same_word,
        skipped,
    )


@dataclass(frozen=True)
class _Parts:
    """Looks of all photos, and what is known of them together."""

    of: str
    looks: Sequence[Sequence[Look]]
    maps: str
    pooled: Tensor | None = None
    sharing: Sharing | None = None
    same_word: float | None = None


def _put_together(
    captioner: Captioner,
    names: Sequence[str],
    images: Sequence[Image.Image],
    captions: Sequence[Caption],
    parts: _Parts,
) -> list[ExplainedPhoto]:
    """Each photo with its own, its picture made smaller."""
    found = []
    for place, (name, image) in enumerate(zip(names, images, strict=True)):
        image.thumbnail((PHOTO_PX, PHOTO_PX), Image.Resampling.LANCZOS)
        seen = seen_box(image.size, captioner.preprocess)
        pooled = None if parts.pooled is None else parts.pooled[place].tolist()
        found.append(ExplainedPhoto(name, image, seen, captions[place], parts.looks[place], pooled))
    return found


def _opened(photos: Sequence[Photo]) -> tuple[list[str], list[Image.Image], list[Skipped]]:
    """Names and pictures of the photos that can be read, and the others."""
    names, images, skipped = [], [], []
    for photo in photos:
        try:
            images.append(open_rgb(photo.path))
            names.append(photo.key)
        except UnreadableImage as error:
            skipped.append(Skipped(photo.key, error.reason))
    if not images:
        first = f", such as {skipped[0].key}: {skipped[0].reason}" if skipped else ""
        raise InputError(f"no photo can be read{first}; give photos or folders of them")
    return names, images, skipped


def _slots(
    captioner: Captioner, embeddings: Tensor, captions: Sequence[Caption], count: int
) -> _Parts:
    """What the prefix slots of each photo say, do and look at."""
    model, several = captioner.model, len(embeddings) > 1
    with torch.inference_mode():
        prefixes = model.prefix(embeddings)  # (B, P, D)
    words = prefix_as_words(model, embeddings, count)
    effects = slot_effects(captioner, prefixes, captions, rewrite=True) if several else None
    maps = slot_attention(model, embeddings)  # (B, P, N), (B, 1, N) or None
    if maps is not None and grid_side(maps.shape[2]) is None:
        maps = None
    pools = maps is not None and maps.shape[1] == 1 < prefixes.shape[1]
    looks = [
        [
            Look(
                nearest,
                effects[image][slot] if effects else None,
                None if maps is None or pools else maps[image, slot].tolist(),
            )
            for slot, nearest in enumerate(slots)
        ]
        for image, slots in enumerate(words)
    ]
    return _Parts(
        "slots",
        looks,
        "" if maps is None else _told_of_maps(model, pools=pools),
        maps[:, 0] if pools else None,
        sharing(prefixes) if several else None,
        same_word_share(words) if several else None,
    )


def _told_of_maps(model: ClipCap, *, pools: bool) -> str:
    """What the maps of a model of patch tokens show."""
    if isinstance(model.mapper, PatchMapper):
        return OWN_PLACE
    return POOLING if pools else ROLLOUT


def _words(model: LstmCaptioner, embedding: Tensor, caption: Caption) -> list[Look]:
    """Where an attention LSTM looks for each word of a caption."""
    if not caption.token_ids:
        return []
    attention = model.attention(embedding, caption.token_ids)  # (T, N)
    drawn = grid_side(attention.shape[1]) is not None
    return [
        Look(
            [NearestToken(token_text(model.tokenizer, token), token, 1.0)],
            weights=weights if drawn else None,
        )
        for token, weights in zip(caption.token_ids, attention.tolist(), strict=True)
    ]
