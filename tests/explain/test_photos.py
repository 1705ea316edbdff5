"""What is said of photos is the captioner's own, for prefixes and for attention."""

import pytest
import torch

from prefixcap.captioner import Captioner
from prefixcap.config import MapperConfig
from prefixcap.errors import InputError
from prefixcap.explain.attention import slot_attention
from prefixcap.explain.numbers import sharing
from prefixcap.explain.photos import OWN_PLACE, POOLING, ROLLOUT, explain_photos
from prefixcap.explain.prefix import prefix_as_words
from prefixcap.images import Photo, open_rgb
from tests.test_lstm import captioner_model
from tests.tiny_explained import patch_captioner, photo_files
from tests.tiny_lstm import tiny_lstm, tiny_model


def test_slots_have_their_words_effects_and_maps(tmp_path):
    captioner, photos = patch_captioner(), photo_files(tmp_path, 3)
    told = []
    found = explain_photos(captioner, photos, 2, told.append)
    images = [open_rgb(photo.path) for photo in photos]
    embeddings = captioner.embed(images)
    assert (found.of, found.maps, told) == ("slots", ROLLOUT, [1, 2, 3])
    assert [one.caption.text for one in found.photos] == [
        one.text for one in captioner.caption(images)
    ]
    words, maps = (
        prefix_as_words(captioner.model, embeddings, 2),
        slot_attention(captioner.model, embeddings),
    )
    for number, photo in enumerate(found.photos):
        assert [look.nearest for look in photo.looks] == words[number]
        torch.testing.assert_close(
            torch.tensor([look.weights for look in photo.looks]), maps[number]
        )
        assert all(look.effect.caption is not None for look in photo.looks)
        assert (photo.image.size, photo.seen) == ((40, 36), (2, 0, 38, 36))
    with torch.inference_mode():
        assert found.sharing.cosine == pytest.approx(
            sharing(captioner.model.prefix(embeddings)).cosine, abs=1e-5
        )


def test_one_photo_has_words_and_maps_but_nothing_to_compare_with(tmp_path):
    found = explain_photos(patch_captioner(), photo_files(tmp_path, 1))
    assert (found.sharing, found.same_word) == (None, None)
    assert all(look.effect is None and look.weights for look in found.photos[0].looks)


def test_a_pooling_mapper_has_one_map_for_each_photo(tmp_path):
    captioner = patch_captioner(MapperConfig(kind="linear", prefix_length=2))
    found = explain_photos(captioner, photo_files(tmp_path, 2))
    assert found.maps == POOLING
    assert sum(found.photos[0].pooled) == pytest.approx(1)
    assert {look.weights for look in found.photos[0].looks} == {None}


def test_a_slot_of_patches_says_that_it_is_its_own_place(tmp_path):
    count = patch_captioner().model.config.embedding_tokens
    captioner = patch_captioner(MapperConfig(kind="patches", prefix_length=count))
    found = explain_photos(captioner, photo_files(tmp_path, 2))
    assert found.maps == OWN_PLACE
    assert [look.weights.index(1) for look in found.photos[0].looks] == list(range(count))


def test_photos_that_cannot_be_read_are_named_and_the_others_explained(tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    photos = [Photo(broken, "broken.jpg"), *photo_files(tmp_path, 1)]
    found = explain_photos(patch_captioner(), photos)
    assert [one.key for one in found.skipped] == ["broken.jpg"]
    assert [one.name for one in found.photos] == ["0.png"]
    with pytest.raises(InputError, match=r"no photo can be read, such as broken\.jpg"):
        explain_photos(patch_captioner(), photos[:1])


def test_an_attention_lstm_has_a_map_for_each_word(tmp_path):
    captioner = Captioner(captioner_model())
    found = explain_photos(captioner, photo_files(tmp_path, 2))
    for photo in found.photos:
        ids = photo.caption.token_ids
        assert [look.nearest[0].token_id for look in photo.looks] == ids
        embedding = captioner.embed([open_rgb(tmp_path / photo.name)])[0]
        torch.testing.assert_close(
            torch.tensor([look.weights for look in photo.looks]),
            captioner.model.attention(embedding, ids),
        )
    assert (found.of, found.sharing) == ("words", None)


def test_an_lstm_without_attention_is_refused(tmp_path):
    model = tiny_model(tiny_lstm())
    model.encoder = captioner_model().encoder
    with pytest.raises(InputError, match="without attention"):
        explain_photos(Captioner(model), photo_files(tmp_path, 1))
