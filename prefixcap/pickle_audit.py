"""What an embedding pickle of the original code holds, and whether its captions can be believed.

The original's Conceptual Captions script keeps one list of embeddings across splits but starts its
row counter again for each, so the captions of every later split point to rows of the first: a model
trained on them says the same for every image. It also leaves the first split among the second.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from prefixcap.embedding_pickle import EmbeddingPickle, read_embedding_pickle
from prefixcap.errors import InputError

UNIT_TOLERANCE = 1e-2  # float16 keeps three digits of a norm
SAME_IMAGE = 0.99  # cosine; one image encoded twice gives 0.9999 and more, two images 0.3 to 0.9
ROWS_AT_ONCE = 65_536


@dataclass(frozen=True)
class PickleAudit:
    """Facts about an embedding pickle; `problems` is empty where it can be trained on.

    Attributes:
        path: the file.
        rows: N embeddings.
        width: D.
        dtype: such as "float16".
        normalized: whether every embedding has length 1.
        captions: M.
        images: distinct image ids; 0 where the file names none.
        captions_per_image: fewest, mean, most; None without image ids.
        unused_rows: rows that no caption points to.
        rows_out_of_range: captions that point outside the embeddings.
        rows_of_several_images: rows to which captions of different images point.
        images_of_several_rows: images whose captions point to embeddings that are not alike.
        broken_rows: embeddings with NaN or infinity, or of length 0.
        empty_captions: captions without a letter.
        restarts: places in the caption list where the row counter starts again from 0.
        mispairings: a line for each way in which captions point to embeddings that are not of
            their images.
        problems: a line for each thing that makes training on it wrong, mispairings first.
    """

    path: str
    rows: int
    width: int
    dtype: str
    normalized: bool
    captions: int
    images: int
    captions_per_image: tuple[int, float, int] | None
    unused_rows: int
    rows_out_of_range: int
    rows_of_several_images: int
    images_of_several_rows: int
    broken_rows: int
    empty_captions: int
    restarts: tuple[int, ...]
    mispairings: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The facts, then the problems, as lines of text."""
        facts = [
            f"{self.path}: {self.rows:,} embeddings of {self.width}, {self.dtype}, "
            f"{'normalised' if self.normalized else 'not normalised'}",
            f"{self.captions:,} captions" + self._per_image(),
        ]
        if self.unused_rows:
            facts.append(f"{self.unused_rows:,} embeddings that no caption points to")
        return facts + [f"problem: {problem}" for problem in self.problems]

    def _per_image(self) -> str:
        """How many images, and captions on each."""
        if self.captions_per_image is None:
            return "; no image ids"
        fewest, mean, most = self.captions_per_image
        return f" of {self.images:,} images, {fewest} to {most} each ({mean:.2f} on average)"


def audit_pickle(path: str | Path) -> PickleAudit:
    """Audit of an embedding pickle; nothing in the file is executed.

    Raises:
        InputError: the file is missing, cut off, unsafe, or no embedding pickle.
    """
    return audit(read_embedding_pickle(path), str(path))


def audit(found: EmbeddingPickle, path: str) -> PickleAudit:
    """Audit of embeddings and captions that came from `path`."""
    total, width = found.embeddings.shape
    inside = (found.rows >= 0) & (found.rows < total)
    lengths = _lengths(found.embeddings)
    finite = np.isfinite(lengths) & (lengths > 0)
    owners = _numbered(found.image_ids)
    named = any(found.image_ids)
    counts = np.bincount(owners) if named else None
    facts = PickleAudit(
        path=path,
        rows=total,
        width=width,
        dtype=str(found.embeddings.dtype).removeprefix("torch."),
        normalized=bool(total and np.all(np.abs(lengths[finite] - 1) < UNIT_TOLERANCE)),
        captions=len(found.captions),
        images=0 if counts is None else len(counts),
        captions_per_image=None
        if counts is None
        else (int(counts.min()), float(counts.mean()), int(counts.max())),
        unused_rows=total - len(np.unique(found.rows[inside])),
        rows_out_of_range=int((~inside).sum()),
        rows_of_several_images=_shared_rows(found.rows[inside], owners[inside]) if named else 0,
        images_of_several_rows=_unlike_rows(found, owners, inside) if named else 0,
        broken_rows=int((~finite).sum()),
        empty_captions=sum(not any(map(str.isalnum, text)) for text in found.captions),
        restarts=counter_restarts(found.rows),
    )
    mispairings = tuple(_mispairings(facts))
    return replace(facts, mispairings=mispairings, problems=(*mispairings, *_flaws(facts)))


def counter_restarts(rows: np.ndarray) -> tuple[int, ...]:
    """Places where the rows (M,) int64 start again at 0 after having counted up from 0.

    Empty unless the rows are such counts and nothing else: 0, 1, 2, ..., 0, 1, 2, ...
    """
    starts = np.flatnonzero(rows == 0)
    if len(starts) < 2 or starts[0] != 0:
        return ()
    place = np.arange(len(rows))
    since = place - starts[np.searchsorted(starts, place, side="right") - 1]
    return tuple(starts[1:].tolist()) if np.array_equal(rows, since) else ()


def mended(found: EmbeddingPickle) -> EmbeddingPickle:
    """The last split of a file whose counter started again, its captions on their own rows.

    Captions and embeddings are in the same order, so caption m belongs to row m. Pairs of earlier
    splits are left out, also where they come again: the original downloads them twice.

    Raises:
        InputError: the file does not have this fault, or has others too.
    """
    restarts = counter_restarts(found.rows)
    if not restarts or len(found.rows) != len(found.embeddings):
        raise InputError(
            "the rows are not those of a counter that started again, with one embedding for each "
            "caption; only that fault can be mended, encode the images again"
        )
    kept = np.arange(restarts[-1], len(found.rows))
    kept = kept[~_seen_before(found, kept)]
    return EmbeddingPickle(
        embeddings=found.embeddings[kept],
        rows=np.arange(len(kept), dtype=np.int64),
        captions=[found.captions[place] for place in kept],
        image_ids=[found.image_ids[place] for place in kept],
    )


def _seen_before(found: EmbeddingPickle, places: np.ndarray) -> np.ndarray:
    """Which of the pairs at `places` (n,) are also before them: the same text on the same image."""
    earlier = {text: place for place, text in enumerate(found.captions[: places[0]])}
    twins = np.array([earlier.get(found.captions[place], -1) for place in places])
    seen = twins >= 0
    here, there = found.embeddings[places[seen]], found.embeddings[twins[seen]]
    seen[seen] = torch.cosine_similarity(here.float(), there.float(), dim=1).numpy() > SAME_IMAGE
    return seen


def _lengths(embeddings: Tensor) -> np.ndarray:
    """L2 norm of every embedding, (N,) float32."""
    parts = [part.float().norm(dim=1) for part in embeddings.split(ROWS_AT_ONCE)]
    return torch.cat(parts).numpy()


def _numbered(names: list[str]) -> np.ndarray:
    """Number of each name, (M,) int64; equal names have equal numbers."""
    numbers: dict[str, int] = {}  # an array of text would be as wide as the longest name, M times
    places = (numbers.setdefault(name, len(numbers)) for name in names)
    return np.fromiter(places, np.int64, len(names))


def _shared_rows(rows: np.ndarray, owners: np.ndarray) -> int:
    """Number of rows to which captions of different images point."""
    pairs = np.unique(np.stack([rows, owners]), axis=1)
    return int((np.unique(pairs[0], return_counts=True)[1] > 1).sum())


def _unlike_rows(found: EmbeddingPickle, owners: np.ndarray, inside: np.ndarray) -> int:
    """Number of images of which two captions point to embeddings that are not alike."""
    rows, owners = found.rows[inside], owners[inside]
    order = np.argsort(owners, kind="stable")
    rows, owners = rows[order], owners[order]
    other = np.flatnonzero((owners[1:] == owners[:-1]) & (rows[1:] != rows[:-1])) + 1
    unlike = []
    for part in np.array_split(other, max(1, len(other) // ROWS_AT_ONCE)):
        here, before = found.embeddings[rows[part]], found.embeddings[rows[part - 1]]
        cosine = torch.cosine_similarity(here.float(), before.float(), dim=1).numpy()
        unlike.append(owners[part[cosine < SAME_IMAGE]])
    return len(np.unique(np.concatenate(unlike)))


def _mispairings(facts: PickleAudit) -> list[str]:
    """A line for each way in which captions and embeddings do not belong together.

    Rows that count from 0 again are none where no embedding is left over: the captions of the same
    images come in turns then, first the first of each, then the second.
    """
    found = []
    restarted = facts.restarts and (facts.unused_rows or facts.rows_of_several_images)
    if restarted:
        found.append(_restart_problem(facts))
    elif facts.rows_of_several_images:
        found.append(
            f"captions of different images point to the same {facts.rows_of_several_images:,} "
            "embeddings, so captions and embeddings do not belong together; encode the images again"
        )
    if facts.images_of_several_rows and not restarted:
        found.append(
            f"the captions of {facts.images_of_several_rows:,} images point to embeddings that are "
            "not alike; encode the images again"
        )
    if facts.rows_out_of_range:
        found.append(
            f"{facts.rows_out_of_range:,} captions point outside the {facts.rows:,} embeddings; "
            "the file is from an interrupted run, encode the images again"
        )
    return found


def _flaws(facts: PickleAudit) -> list[str]:
    """A line for each thing that is wrong with single embeddings or captions, or all of them."""
    found = []
    if facts.broken_rows:
        found.append(f"{facts.broken_rows:,} embeddings are NaN, infinite or zero; leave them out")
    if facts.empty_captions:
        found.append(f"{facts.empty_captions:,} captions have no letter in them; leave them out")
    if not facts.captions or not facts.rows:
        found.append(f"{facts.captions} captions and {facts.rows} embeddings: nothing to train on")
    return found


def _restart_problem(facts: PickleAudit) -> str:
    """The line on a counter that started again."""
    wrong = facts.captions - facts.restarts[0]
    places = ", ".join(f"{place:,}" for place in facts.restarts[:3])
    line = (
        f"the row counter starts again at caption {places}: {wrong:,} captions point to embeddings "
        "of other images (the original's Conceptual Captions fault), and the "
        f"{facts.restarts[0]:,} captions before are another split's. "
    )
    if facts.captions == facts.rows:
        return line + "Caption m belongs to row m; prefixcap.pickle_audit.mended sets that right"
    return line + "Encode the images again"
