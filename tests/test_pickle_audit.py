"""The audit tells a sound embedding pickle from one whose captions belong to other images."""

import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from prefixcap.embedding_pickle import EmbeddingPickle
from prefixcap.errors import InputError
from prefixcap.pickle_audit import audit, audit_pickle, counter_restarts, mended

WIDTH = 32


def vectors(count: int, seed: int = 0) -> Tensor:
    """Embeddings (count, WIDTH) float32 of different images."""
    return torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))


def coco_like(images: int = 5, each: int = 3) -> EmbeddingPickle:
    """One row per caption; an image's rows are alike, as when it is encoded several times."""
    owners = np.repeat(np.arange(images), each)
    embeddings = vectors(images)[owners] + 1e-4 * vectors(images * each, seed=1)
    captions = [f"caption {place}" for place in range(len(owners))]
    ids = [str(owner) for owner in owners]
    return EmbeddingPickle(embeddings, np.arange(len(owners)), captions, ids)


def conceptual(val: int, train: int, again: int = 0) -> EmbeddingPickle:
    """What the original's Conceptual script writes as its training file.

    Lists of embeddings and captions go on from val to train, the row counter does not; `again` of
    the val images have been downloaded into the training folder too.
    """
    pictures = vectors(val + train)
    sources = [*range(val), *range(again), *range(val, val + train)]
    rows = [*range(val), *range(again + train)]
    captions = [f"caption of picture {source}" for source in sources]
    ids = [f"{place:08d}" for place in rows]  # numbered anew in each split
    return EmbeddingPickle(pictures[sources], np.array(rows), captions, ids)


def test_a_sound_file_has_no_problems_and_its_facts_are_right():
    found = audit(coco_like(), "coco.pkl")
    assert found.problems == ()
    assert (found.rows, found.width, found.captions, found.images) == (15, WIDTH, 15, 5)
    assert found.captions_per_image == (3, 3.0, 3)
    assert (found.unused_rows, found.restarts) == (0, ())
    assert not found.normalized


def test_facts_of_a_file_on_disk_are_those_of_its_content(tmp_path: Path):
    embeddings = torch.nn.functional.normalize(vectors(3), dim=1).half()
    entries = [{"image_id": "1", "id": "1", "caption": "a dog.", "clip_embedding": 1}]
    path = tmp_path / "small.pkl"
    path.write_bytes(pickle.dumps({"clip_embedding": embeddings, "captions": entries}))
    found = audit_pickle(path)
    assert found.normalized
    assert found.unused_rows == 2
    assert found.lines() == [
        f"{path}: 3 embeddings of {WIDTH}, float16, normalised",
        "1 captions of 1 images, 1 to 1 each (1.00 on average)",
        "2 embeddings that no caption points to",
    ]


def test_mispaired_conceptual_captions_are_found():
    found = audit(conceptual(val=4, train=9), "train.pkl")
    assert found.restarts == (4,)
    assert found.unused_rows == 4
    assert len(found.problems) == 1
    assert found.mispairings == found.problems
    assert "9 captions point to embeddings of other images" in found.problems[0]


def test_the_validation_file_of_the_same_script_is_sound():
    assert audit(conceptual(val=4, train=0), "val.pkl").problems == ()


@pytest.mark.parametrize("again", [0, 2])
def test_mended_captions_are_on_their_own_pictures_without_the_other_split(again):
    right = mended(conceptual(val=4, train=9, again=again))
    pictures = vectors(13)
    assert right.captions == [f"caption of picture {place}" for place in range(4, 13)]
    assert torch.equal(right.embeddings[right.rows], pictures[4:])
    assert audit(right, "mended.pkl").problems == ()


def test_a_sound_file_is_not_mended():
    with pytest.raises(InputError, match="only that fault can be mended"):
        mended(coco_like())


@pytest.mark.parametrize(
    ("rows", "restarts"),
    [
        ([0, 1, 2, 3], ()),
        ([0, 1, 0, 1, 2], (2,)),
        ([0, 0, 1, 0], (1, 3)),
        ([0, 1, 0, 2], ()),
        ([1, 2, 0, 1], ()),
        ([0, 0, 1, 1], ()),
        ([], ()),
    ],
)
def test_only_counts_from_zero_are_restarts(rows, restarts):
    assert counter_restarts(np.array(rows, dtype=np.int64)) == restarts


def test_captions_that_take_turns_on_the_same_images_are_no_restart():
    """All first captions, then all second ones: rows count from 0 twice, and are right."""
    names = [f"{row}.jpg" for row in range(5)]
    turns = EmbeddingPickle(vectors(5), np.tile(np.arange(5), 2), ["a dog"] * 10, names * 2)
    found = audit(turns, "turns.pkl")
    assert found.restarts == (5,)
    assert found.problems == found.mispairings == ()


def changed(**fields: object) -> EmbeddingPickle:
    """The sound file with some fields replaced."""
    return EmbeddingPickle(**{**vars(coco_like()), **fields})


def test_rows_of_several_images_are_found():
    found = audit(changed(rows=np.arange(15) // 2), "shifted.pkl")
    assert found.rows_of_several_images > 0
    assert any("captions of different images" in problem for problem in found.problems)


def test_images_with_unlike_embeddings_are_found():
    found = audit(changed(rows=np.roll(np.arange(15), 1)), "rolled.pkl")
    assert found.images_of_several_rows == 5
    assert any("not alike" in problem for problem in found.problems)


def test_rows_out_of_range_are_counted():
    found = audit(changed(rows=np.arange(15) + 2), "late.pkl")
    assert found.rows_out_of_range == 2
    assert any("2 captions point outside the 15 embeddings" in line for line in found.problems)


def test_broken_embeddings_and_empty_captions_are_counted():
    embeddings = coco_like().embeddings
    embeddings[0], embeddings[1, 3] = 0, float("nan")
    found = audit(changed(embeddings=embeddings, captions=["", " .", *"abcdefghijklm"]), "x.pkl")
    assert (found.broken_rows, found.empty_captions) == (2, 2)
    assert any("2 embeddings are NaN" in problem for problem in found.problems)
    assert found.mispairings == ()
    assert any("2 captions have no letter" in problem for problem in found.problems)


def test_a_file_without_image_ids_is_still_audited():
    found = audit(changed(image_ids=[""] * 15), "anonymous.pkl")
    assert (found.images, found.captions_per_image) == (0, None)
    assert found.problems == ()


def test_an_empty_file_is_a_problem():
    empty = EmbeddingPickle(torch.zeros(0, WIDTH), np.zeros(0, dtype=np.int64), [], [])
    assert any("nothing to train on" in problem for problem in audit(empty, "e.pkl").problems)


def test_one_long_image_name_does_not_make_all_of_them_long():
    found = coco_like(images=2_000, each=1)
    found.image_ids[0] = "a" * 10_000
    tracemalloc.start()
    facts = audit(found, "long.pkl")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert facts.images == 2_000
    assert peak < 10e6  # bytes; an array of text took 80e6
