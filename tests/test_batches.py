"""Batches: the same at every call, image-major, every image once an epoch."""

import numpy as np
import pytest
import torch

from prefixcap.batches import (
    BlankSource,
    CaptionBatches,
    padded,
    prefetched,
    read_dev_sources,
    read_sources,
)
from prefixcap.datasets.records import CaptionRecord
from prefixcap.errors import InputError
from prefixcap.recipe import SourceConfig, TrainConfig
from prefixcap.tokenizer import IGNORED
from tests.tiny_run import write_photos

TOKENS = [[[row, 1], [row, 2, 3]] for row in range(10)]


def batches(**settings) -> CaptionBatches:
    """Ten images of two captions without pixels."""
    config = TrainConfig(images_per_step=3, **settings)
    return CaptionBatches(TOKENS, np.arange(10), BlankSource((4,)), config)


def test_batch_follows_from_the_step_alone():
    first, second = batches(), batches()
    for step in (0, 2, 7):
        ours, theirs = first.batch(step).captions, second.batch(step).captions
        assert torch.equal(ours.ids, theirs.ids)
    assert not torch.equal(first.batch(0).captions.ids, first.batch(3).captions.ids)


def test_an_epoch_has_each_image_at_most_once():
    source = batches()
    assert source.steps_per_epoch == 3
    seen = [row for step in range(3) for row in source.batch(step).captions.ids[:, 0].tolist()]
    assert len(set(seen)) == 9
    assert all(seen.count(row) == 2 for row in seen)


def test_captions_stand_with_their_image():
    captions = batches().batch(0).captions
    assert captions.image_rows.tolist() == [0, 0, 1, 1, 2, 2]
    assert captions.embeddings.shape == (3, 4)
    for image in range(3):
        rows = captions.ids[captions.image_rows == image]
        assert len(set(rows[:, 0].tolist())) == 1


def test_one_caption_per_image_varies_over_epochs():
    source = batches(captions_per_image=1)
    chosen = {source.batch(step).captions.ids[0, 1].item() for step in range(60)}
    assert chosen == {1, 2}


def test_dropped_captions_leave_at_least_one_and_the_share_asked_for():
    source = batches(caption_dropout=0.5)
    kept = [len(source.batch(step).captions.ids) for step in range(300)]
    assert min(kept) >= 3
    assert max(kept) == 6
    assert sum(kept) / 300 == pytest.approx(4.5, abs=0.2)  # (1/4 + 1/2) * 2 * 3: one of two stays
    rows = [source.batch(step).captions.image_rows.unique().tolist() for step in range(9)]
    assert rows == [[0, 1, 2]] * 9


def test_shuffled_steps_hold_single_captions_of_all_images():
    source = batches(shuffle_captions=True)
    assert source.steps_per_epoch == batches().steps_per_epoch
    seen, images = [], 0
    for step in range(source.steps_per_epoch):
        captions = source.batch(step).captions
        assert captions.embeddings.shape[0] == len(captions.image_rows.unique())
        assert captions.image_rows.tolist() == sorted(captions.image_rows.tolist())
        rows = captions.ids[:, 0][captions.image_rows.diff(prepend=torch.tensor([-1])) > 0]
        assert len(set(rows.tolist())) == len(rows)  # each image once, its captions together
        seen += [tuple(ids) for ids in captions.ids.tolist()]
        images += len(rows)
    assert len(set(seen)) == len(seen) == 18  # 20 captions over 3 steps, 6 to a step
    assert images > 9  # more than whole images would be


def test_shuffled_captions_and_a_choice_among_an_image_s_contradict_each_other():
    with pytest.raises(ValueError, match="single captions"):
        TrainConfig(shuffle_captions=True, captions_per_image=2)


def test_padding_is_ignored():
    ids, rows = padded([[[5, 6, 7]], [[8], [9, 9]]])
    assert ids.tolist() == [[5, 6, 7], [8, IGNORED, IGNORED], [9, 9, IGNORED]]
    assert rows.tolist() == [0, 1, 1]


def test_too_few_images_is_an_error():
    with pytest.raises(InputError, match="2 images to train on"):
        CaptionBatches(TOKENS, np.arange(2), BlankSource((4,)), TrainConfig(images_per_step=3))


def test_prefetched_batches_come_in_order_and_from_any_step():
    class Numbers:
        steps_per_epoch = 10

        def batch(self, step):
            return step

    assert list(prefetched(Numbers().batch, 3, 9)) == [3, 4, 5, 6, 7, 8]
    assert list(prefetched(Numbers().batch, 9, 9)) == []


def test_sources_are_read_in_order_with_ids_of_their_own(tmp_path):
    data = str(write_photos(tmp_path / "data"))
    sources = [
        SourceConfig(format="flickr8k", path=data, split="train"),
        SourceConfig(format="photos", path=data + "/images"),
    ]
    records = read_sources(sources)
    assert len(records) == 16 + 24
    assert len({record.image_id for record in records}) == 40
    assert len(records[0].captions) == 2
    assert records[-1].captions == ()


def test_dev_ids_differ_from_training_ids_and_first_cuts_a_source(tmp_path):
    data = str(write_photos(tmp_path / "data"))
    source = SourceConfig(format="flickr8k", path=data, split="train", first=5)
    records, [dev] = read_sources([source]), read_dev_sources([source])
    assert [r.path for r in records] == [r.path for r in dev]
    assert len(records) == 5
    assert not {r.image_id for r in records} & {r.image_id for r in dev}


def test_two_photos_of_one_id_are_refused(tmp_path, monkeypatch):
    """Readers give each image one record; where one did not, captions would change their photo."""
    records = [CaptionRecord("7", tmp_path / f"{n}.jpg", (f"a dog {n}",), "train") for n in "ab"]
    monkeypatch.setattr("prefixcap.batches.read", lambda *asked: records)
    with pytest.raises(InputError, match=r'the id "7" is of two photos, .*a\.jpg and .*b\.jpg'):
        read_sources([SourceConfig(format="coco", path=str(tmp_path))])
