"""The page of an explanation: whole in one file, true to its numbers, safe against any text."""

import json
from dataclasses import replace

import pytest

from prefixcap.captioner import Captioner
from prefixcap.explain.page import page, signed, write_explanation
from prefixcap.explain.photos import explain_photos
from tests.test_demo import Page
from tests.test_lstm import captioner_model
from tests.tiny_explained import patch_captioner, photo_files


@pytest.fixture(scope="module")
def explanation(tmp_path_factory):
    return explain_photos(patch_captioner(), photo_files(tmp_path_factory.mktemp("photos"), 2))


def test_the_page_holds_its_pictures_and_fetches_nothing(explanation, tmp_path):
    written = write_explanation(explanation, tmp_path / "out")
    found = Page(written.read_text(encoding="utf-8"))
    sources = found.attributes("img", "src")
    assert len(sources) == 2 + 2 * 3  # the photos, a map for each slot
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert not [tag for tag, _, _ in found.elements if tag in ("script", "link")]
    assert "tiny <1>" in found.texts("h1")[0]


def test_a_run_is_named_without_the_way_to_it(explanation, tmp_path):
    for folder, name in (("runs/mine/best", "mine"), ("models/small", "small")):
        (tmp_path / folder).mkdir(parents=True)
        of_folder = replace(explanation, model=str(tmp_path / folder))
        assert Page(page(of_folder)).texts("h1")[0] == f"The prefix of {name} on 2 photos"
    assert "of org/name on" in page(replace(explanation, model="org/name"))


def test_every_slot_shows_its_word_and_what_it_carries(explanation):
    found = Page(page(explanation))
    cards = found.texts("li")
    looks = [(photo, look) for photo in explanation.photos for look in photo.looks]
    for card, (photo, look) in zip(cards, looks, strict=True):
        assert look.nearest[0].text in card
        assert signed(look.effect.log_prob) in card
        expected = look.effect.caption if look.effect.caption != photo.caption.text else "same"
        assert expected in card
    assert len(found.texts("tr")) == 1 + 3  # heading, slots


def test_json_has_the_same_numbers(explanation, tmp_path):
    write_explanation(explanation, tmp_path)
    facts = json.loads((tmp_path / "explain.json").read_text(encoding="utf-8"))
    assert facts["sharing"]["cosine"] == explanation.sharing.cosine
    slot, look = facts["photos"][1]["slots"][2], explanation.photos[1].looks[2]
    assert slot["nearest"][0]["text"] == look.nearest[0].text
    assert slot["without"]["log_prob_change"] == look.effect.log_prob
    assert slot["attention"] == look.weights


def test_words_of_an_lstm_have_a_card_each(tmp_path):
    explanation = explain_photos(Captioner(captioner_model()), photo_files(tmp_path, 1))
    cards = Page(page(explanation)).texts("li")
    assert len(cards) == len(explanation.photos[0].caption.token_ids)
    assert explanation.photos[0].looks[0].nearest[0].text in cards[0]


def test_a_change_of_nothing_has_no_sign():
    assert [signed(value) for value in (-0.001, 0.004, -0.3, 1.0)] == [
        "0.00",
        "0.00",
        "-0.30",
        "+1.00",
    ]
