"""CLIPScore and RefCLIPScore (Hessel et al. 2021, arXiv 2104.08718), by any CLIP or SigLIP."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from prefixcap.captioner import usable_device
from prefixcap.datasets.records import CaptionRecord
from prefixcap.embeddings import EmbeddingStore
from prefixcap.encoder import ImageEncoder, load_encoder, resolve_encoder
from prefixcap.errors import InputError
from prefixcap.evaluate import BATCH, open_photos
from prefixcap.images import Skipped
from prefixcap.metrics import Statistic
from prefixcap.precision import bf16_is_fast
from prefixcap.score_sheet import mean_of_known
from prefixcap.text_tower import TextTower, load_text_tower

PROMPT = "A photo depicts "  # Hessel et al. 2021, section 3
WEIGHT = 2.5  # the same: stretches CLIP's cosines to about 0 to 1
DEFAULT_CLIP = "ViT-B/32"  # the paper's

ClipPrecision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class Clip:
    """Both halves of one model, computing in one precision on one device."""

    name: str
    encoder: ImageEncoder
    tower: TextTower
    precision: str

    @property
    def facts(self) -> dict[str, Any]:
        """What scores depend on; only scores of equal facts can be compared."""
        return {
            "model": self.name,
            "fingerprint": self.encoder.fingerprint()[:16],
            "precision": self.precision,
            "prompt": PROMPT,
        }


@dataclass(frozen=True)
class ClipScores:
    """CLIPScore of some images, and RefCLIPScore where they have references.

    Attributes:
        statistics: "CLIPScore" (0 to 2.5) and "RefCLIPScore" (0 to 1.43), images in the order of
            the records, NaN where the photo cannot be read.
        skipped: the photos that cannot be read.
        stored: images whose embedding came from a store.
    """

    statistics: dict[str, Statistic]
    skipped: list[Skipped]
    stored: int


def load_clip(
    name: str = DEFAULT_CLIP,
    *,
    precision: ClipPrecision = "auto",
    device: str | torch.device | None = None,
    store: EmbeddingStore | None = None,
) -> Clip:
    """CLIP or SigLIP of a hub name, one of OpenAI's names or a folder, both halves.

    Args:
        name: such as "ViT-B/32".
        precision: "auto" is bfloat16 where that is fast on the device, else float32.
        device: None is a GPU where there is one, else the CPU.
        store: embeddings that are to be scored; the encoder is set as it was for them.

    Raises:
        InputError: no such model or device, it has no text tower, a file of it is missing or does
            not fit, or the store holds another encoder's vectors.
    """
    where = usable_device(device)
    if precision == "auto":
        precision = "bf16" if bf16_is_fast(where) else "fp32"
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    config = resolve_encoder(name)
    tower = load_text_tower(config, dtype=dtype, device=where)
    if store is not None:
        config = config.model_copy(update={"normalize": _normalized(store)})
    encoder = load_encoder(config, dtype=dtype, device=str(where))
    if store is not None:
        store.check_encoder(encoder)
    return Clip(name, encoder, tower, precision)


def clip_scores(
    clip: Clip,
    captions: Mapping[str, str],
    records: Sequence[CaptionRecord],
    store: EmbeddingStore | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> ClipScores:
    """Scores of the records' captions by their photos, and by their references if all have some.

    CLIPScore is 2.5 max(cos(image, caption), 0). RefCLIPScore is its harmonic mean with
    max(cos(caption, reference), 0) of the nearest reference. Captions are taken as written.

    Args:
        clip: the model.
        captions: image id -> caption, for every record.
        records: the images; photos are opened where the store has no row of theirs.
        store: embeddings of the same encoder, found by image id.
        on_progress: told after each batch how many images are done.

    Raises:
        InputError: no photo can be read.
    """
    images, skipped, stored = _image_embeddings(clip, records, store, on_progress)
    if len(skipped) == len(records):
        raise InputError(f"CLIPScore: no photo can be read, such as {skipped[0].key}")
    candidates = _text_embeddings(clip, [captions[record.image_id] for record in records])
    by_photo = WEIGHT * _cosines(images, candidates).clip(min=0)  # (images,)
    statistics = {"CLIPScore": mean_of_known(by_photo)}
    if all(record.captions for record in records):
        nearest = _nearest(clip, candidates, records)
        statistics["RefCLIPScore"] = mean_of_known(_harmonic_means(by_photo, nearest))
    return ClipScores(statistics, skipped, stored)


def _normalized(store: EmbeddingStore) -> bool:
    """Whether a store's vectors are normalised, which is part of its encoder's fingerprint.

    Raises:
        InputError: it holds patch tokens.
    """
    encoder = store.index["encoder"]
    if encoder["output"] != "pooled":
        raise InputError(
            f"{store.folder}: holds {encoder['output']}, and CLIPScore needs the pooled vector; "
            "leave the store away, or build one with encoder.output=pooled"
        )
    return encoder["normalize"]


@torch.inference_mode()
def _image_embeddings(
    clip: Clip,
    records: Sequence[CaptionRecord],
    store: EmbeddingStore | None,
    on_progress: Callable[[int], None] | None,
) -> tuple[np.ndarray, list[Skipped], int]:
    """Unit embeddings (images, D) float32, NaN where there is no photo; those; rows stored."""
    found = np.full((len(records), clip.encoder.embedding_dim), np.nan, np.float32)
    rows = _stored_rows(store, records)
    if store is not None and rows:
        vectors = torch.from_numpy(store.rows(list(rows.values()))).float()
        found[list(rows)] = F.normalize(vectors, dim=-1).numpy()
    skipped: list[Skipped] = []
    left = [place for place in range(len(records)) if place not in rows]
    for start in range(0, len(left), BATCH):
        places = left[start : start + BATCH]
        readable, photos, unread = open_photos([records[place] for place in places])
        skipped += unread
        if photos:
            ids = {record.image_id for record in readable}
            known = [place for place in places if records[place].image_id in ids]
            found[known] = F.normalize(clip.encoder.encode(photos), dim=-1).cpu().numpy()
        if on_progress:
            on_progress(len(rows) + start + len(places))
    return found, skipped, len(rows)


def _stored_rows(store: EmbeddingStore | None, records: Sequence[CaptionRecord]) -> dict[int, int]:
    """Row in the store by place of the record, where exactly one row has its image id.

    Ids of a store that a recipe built begin with the number and format of their source, as in
    "dev-0-flickr8k/a.jpg".
    """
    if store is None:
        return {}
    rows: dict[str, list[int]] = {}
    for row, image_id in enumerate(store.ids):
        for key in {image_id, image_id.partition("/")[2]}:
            rows.setdefault(key, []).append(row)
    found = [rows.get(record.image_id, []) for record in records]
    return {place: row[0] for place, row in enumerate(found) if len(row) == 1}


def _text_embeddings(clip: Clip, captions: Sequence[str]) -> np.ndarray:
    """Unit embeddings (captions, D) float32 of captions behind the prompt."""
    vectors: Tensor = clip.tower.encode([PROMPT + caption for caption in captions])
    return F.normalize(vectors, dim=-1).cpu().numpy()


def _cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Row by row cosines (N,) float64 of unit vectors (N, D)."""
    return np.einsum("nd,nd->n", first.astype(np.float64), second.astype(np.float64))


def _nearest(clip: Clip, candidates: np.ndarray, records: Sequence[CaptionRecord]) -> np.ndarray:
    """Cosine (images,) of each candidate (images, D) with its nearest reference, at least 0."""
    references = _text_embeddings(clip, [text for record in records for text in record.captions])
    sizes = [len(record.captions) for record in records]
    owner = np.repeat(np.arange(len(records)), sizes)
    cosines = _cosines(candidates[owner], references)  # of each pair
    starts = np.cumsum([0, *sizes[:-1]])
    return np.maximum.reduceat(cosines, starts).clip(min=0)


def _harmonic_means(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Harmonic mean (N,) of values that are not negative; 0 where one of them is, NaN stays."""
    total = first + second
    return np.divide(2 * first * second, total, out=np.zeros_like(total), where=total != 0)
