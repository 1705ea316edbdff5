"""Which of a beam's captions is taken where samples vote."""

from pathlib import Path

import pytest
import torch

from prefixcap.captioner import Captioner
from prefixcap.config import DecodeOptions
from prefixcap.consensus import Consensus
from prefixcap.errors import InputError
from prefixcap.hypotheses import Hypothesis
from prefixcap.metrics import CiderReferences, DocumentFrequencies
from prefixcap.metrics.ptb import tokenize_lines
from tests.tiny_captioner import save_tiny_model, tiny_model, write_photos

CAPTIONS = ["a dog runs", "two men sit by water", "red car in snow", "a dog plays with a cat"]
FREQUENCIES = DocumentFrequencies.of([[text] for text in CAPTIONS])
BEAM = DecodeOptions(max_tokens=8, beam_size=4, captions_per_image=4, votes=6)


class Words:
    """A tokenizer in which token n is caption n."""

    def decode(self, ids):
        """The caption."""
        return CAPTIONS[ids[0]]


def said(*captions: int) -> list[Hypothesis]:
    """Hypotheses of one token each."""
    return [Hypothesis([number], [0.0], 0.0) for number in captions]


def numbers(ranked: list[list[Hypothesis]]) -> list[list[int]]:
    """The captions of each image."""
    return [[one.ids[0] for one in hypotheses] for hypotheses in ranked]


def test_the_caption_that_most_votes_share_words_with_comes_first():
    choice = Consensus(Words(), FREQUENCIES)
    found = [said(0, 1, 2), said(2, 0)]
    assert numbers(choice.ranked(found, [said(1, 1, 0), said(3, 3, 2)])) == [[1, 0, 2], [2, 0]]
    assert numbers(choice.ranked(found, [said(3, 3), said(0, 2, 0)])) == [[0, 1, 2], [0, 2]]


def test_captions_that_no_vote_knows_stay_in_the_beams_order():
    assert numbers(Consensus(Words(), FREQUENCIES).ranked([said(2, 1, 0)], [said(3)])) == [
        [0, 2, 1]
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A tiny model with frequencies, and photos beside it."""
    folder = tmp_path_factory.mktemp("votes")
    model = tiny_model()
    model.frequencies = FREQUENCIES
    model.save_pretrained(folder / "model")
    write_photos(folder / "photos", 6)
    return folder


def test_votes_rank_all_hypotheses_of_the_beam_by_their_agreement(folder):
    captioner = Captioner.from_pretrained(folder / "model", dtype=torch.float32)
    photos = sorted((folder / "photos").rglob("*.png"))
    plain = captioner.captions(photos, BEAM.model_copy(update={"votes": 0}))
    votes = captioner.captions(photos, BEAM.voting)
    ranked = captioner.captions(photos, BEAM)
    assert any(a[0].text != b[0].text for a, b in zip(plain, ranked, strict=True))
    for before, samples, after in zip(plain, votes, ranked, strict=True):
        assert len(samples) == 6
        assert {one.text for one in before} == {one.text for one in after}
        voters = tokenize_lines([one.text for one in samples])
        texts = tokenize_lines([one.text for one in after])
        agreement = CiderReferences({0: voters}, FREQUENCIES).score([0] * len(texts), texts)
        assert (agreement[:-1] >= agreement[1:]).all() and agreement[0] > 0


def test_votes_depend_on_the_photo_and_the_seed_alone(folder):
    captioner = Captioner.from_pretrained(folder / "model", dtype=torch.float32)
    photos = sorted((folder / "photos").rglob("*.png"))
    best = BEAM.model_copy(update={"captions_per_image": 1})
    together = captioner.caption(photos, best)
    assert [captioner.caption(photo, best).text for photo in photos] == [
        one.text for one in together
    ]


def test_a_model_without_frequencies_cannot_be_voted_on(folder, tmp_path):
    captioner = Captioner.from_pretrained(save_tiny_model(tmp_path / "model"))
    with pytest.raises(InputError, match=r"no document frequencies.*export RUN --votes"):
        captioner.check(BEAM)
    with pytest.raises(InputError, match="no document frequencies"):
        captioner.caption(sorted((folder / "photos").rglob("*.png"))[0], BEAM)


def test_frequencies_go_with_the_model_and_leave_with_it(folder):
    model = Captioner.from_pretrained(folder / "model").model
    assert model.frequencies.digest() == FREQUENCIES.digest()
    voting = Captioner(model).fingerprint()  # by which a run knows that it goes on with the same
    model.frequencies = None
    assert Captioner(model).fingerprint() != voting
    model.save_pretrained(folder / "model-2")
    assert not (folder / "model-2" / "frequencies.safetensors").exists()
    model.frequencies = FREQUENCIES
    model.save_pretrained(folder / "model-2")
    model.frequencies = None
    model.save_pretrained(folder / "model-2")  # over one that has some
    assert Captioner.from_pretrained(folder / "model-2").model.frequencies is None


def test_votes_need_a_beam():
    with pytest.raises(ValueError, match="votes choose among the captions of a beam"):
        DecodeOptions(votes=4)
