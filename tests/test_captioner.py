"""The captioner gives what its parts give, for every kind of photo and every batch size."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from prefixcap.captioner import Caption, Captioner, usable_device
from prefixcap.config import DecodeOptions, EncoderConfig
from prefixcap.decoding import decode
from prefixcap.errors import InputError
from prefixcap.images import UnreadableImage, open_rgb
from prefixcap.model import ClipCap
from tests.tiny_captioner import save_tiny_model, tiny_model, write_photos

GREEDY = DecodeOptions(max_tokens=8)
BEAM = DecodeOptions(max_tokens=8, beam_size=4, captions_per_image=3)


SAMPLE = DecodeOptions(max_tokens=8, method="sample", seed=3)


@pytest.fixture(scope="module")
def captioner(tmp_path_factory) -> Captioner:
    folder = save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")
    return Captioner.from_pretrained(folder, device="cpu", dtype=torch.float32)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> list[Path]:
    return sorted(write_photos(tmp_path_factory.mktemp("photos"), 10).rglob("*.png"))


def close(a: Caption, b: Caption) -> bool:
    """Equal captions whose probabilities differ by rounding at most."""
    same = (a.text, a.token_ids) == (b.text, b.token_ids)
    return same and np.allclose(a.token_log_probs, b.token_log_probs, atol=1e-4)


def test_a_caption_is_encoder_mapper_and_decoder_in_a_row(captioner, photos):
    model = captioner.model
    stops = frozenset({model.tokenizer.end_id, model.tokenizer.word_id(".")})
    for photo in photos[:3]:
        embedding = model.encoder.encode([open_rgb(photo)])
        (best,) = decode(model, embedding, GREEDY, stop_ids=stops)[0]
        caption = captioner.caption(photo, GREEDY)
        assert caption.token_ids == best.ids
        assert caption.text == model.tokenizer.decode(best.ids)
        assert caption.token_log_probs == best.log_probs
        assert math.isclose(caption.score, sum(best.log_probs) / len(best.ids))
        assert caption.path == str(photo)


@pytest.mark.parametrize("options", [GREEDY, BEAM], ids=["greedy", "beam"])
def test_captions_do_not_depend_on_the_batch_size(captioner, photos, options):
    alone = captioner.captions(photos, options, batch_size=1)
    assert len({found[0].text for found in alone}) > 3, "the photos should differ"
    for size in (3, 10, 64):
        together = captioner.captions(photos, options, batch_size=size)
        for one, other in zip(alone, together, strict=True):
            assert all(close(a, b) for a, b in zip(one, other, strict=True))


def test_samples_depend_on_photo_and_seed_but_not_on_the_batch(captioner, photos):
    together = captioner.caption(photos, SAMPLE)
    alone = [captioner.caption(photo, SAMPLE) for photo in photos]
    assert [c.token_ids for c in together] == [c.token_ids for c in alone]
    other = captioner.caption(photos, SAMPLE.model_copy(update={"seed": 4}))
    assert [c.token_ids for c in together] != [c.token_ids for c in other]


def test_every_source_of_one_photo_gives_one_caption(captioner, photos):
    path = photos[0]
    image = Image.open(path).convert("RGB")
    sources = [path, str(path), path.read_bytes(), image, np.asarray(image)]
    captions = captioner.caption(sources, GREEDY, batch_size=2)
    assert all(close(caption, captions[0]) for caption in captions)
    assert [caption.path for caption in captions] == [str(path), str(path), None, None, None]


def test_one_photo_gives_a_caption_and_several_give_a_list(captioner, photos):
    alone = captioner.caption(photos[0])
    assert isinstance(alone, Caption)
    assert close(captioner.caption(photos[:1])[0], alone)
    array = np.stack([np.asarray(open_rgb(photo)) for photo in photos[:2]])
    assert isinstance(captioner.caption(array[0]), Caption)
    assert len(captioner.caption(array)) == 2
    assert captioner.caption([]) == []


def test_several_captions_come_best_first(captioner, photos):
    for found in captioner.captions(photos, BEAM):
        assert len(found) == 3
        assert len({tuple(caption.token_ids) for caption in found}) == 3
        scores = [caption.score for caption in found]
        assert scores == sorted(scores, reverse=True)


def test_options_default_to_those_of_the_model(captioner, photos):
    assert captioner.model.config.decoding.max_tokens == 8
    assert captioner.caption(photos) == captioner.caption(photos, GREEDY)
    assert all(len(caption.token_ids) <= 8 for caption in captioner.caption(photos))


def test_a_caption_begins_with_the_forced_words(captioner, photos):
    options = DecodeOptions(max_tokens=8, forced_words="  red  car ")
    for caption in captioner.caption(photos[:3], options):
        assert caption.text.startswith("red car")


def test_a_stop_word_ends_the_caption(captioner, photos):
    free = captioner.caption(photos, GREEDY)
    word = captioner.model.tokenizer.word_id("water")
    stopped = captioner.caption(photos, GREEDY.model_copy(update={"stop_word": "water"}))
    for before, after in zip(free, stopped, strict=True):
        ids = before.token_ids
        assert after.token_ids == (ids[: ids.index(word) + 1] if word in ids else ids)
    assert any(len(after.token_ids) < 8 for after in stopped)


def test_embeddings_are_the_encoders(captioner, photos):
    found = captioner.embed(photos, batch_size=3)
    expected = captioner.encoder.encode([open_rgb(photo) for photo in photos])
    torch.testing.assert_close(found, expected)
    assert captioner.embed([]).shape == (0, found.shape[1])


def test_an_encoder_that_is_not_stored_is_loaded_by_its_name(tmp_path, photos):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 2, "image_size": 32, "patch_size": 16}
    vision = CLIPVisionModelWithProjection(CLIPVisionConfig(**sizes, projection_dim=16)).eval()
    vision.save_pretrained(tmp_path / "clip")
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    processor.save_pretrained(tmp_path / "clip")
    small = tiny_model()
    encoder = EncoderConfig(kind="clip", name=str(tmp_path / "clip"), normalize=True)
    config = small.config.model_copy(update={"encoder": encoder})
    ClipCap(config, small.mapper, small.lm, small.tokenizer).save_pretrained(tmp_path / "model")
    captioner = Captioner.from_pretrained(tmp_path / "model", device="cpu", dtype=torch.float32)
    image = open_rgb(photos[0])
    with torch.inference_mode():
        expected = vision(**processor(image, return_tensors="pt")).image_embeds
    found = captioner.embed([image])
    torch.testing.assert_close(found, torch.nn.functional.normalize(expected, dim=-1))
    assert captioner.caption(photos[0]).text


def test_fingerprints_tell_weights_apart_and_not_decoding(captioner, tmp_path):
    same = Captioner.from_pretrained(captioner.name, device="cpu", dtype=torch.float32)
    assert same.fingerprint() == captioner.fingerprint()
    model = same.model
    decoding = model.config.decoding.model_copy(update={"beam_size": 5})
    model.config = model.config.model_copy(update={"decoding": decoding})
    assert same.fingerprint() == captioner.fingerprint()
    for weights in (next(model.mapper.parameters()), next(model.lm.parameters())):
        with torch.no_grad():
            weights.view(-1)[0] += 1  # (n,)
        assert same.fingerprint() != captioner.fingerprint()


def test_an_unreadable_photo_is_named(captioner, photos, tmp_path):
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(UnreadableImage, match=r"cut\.jpg"):
        captioner.caption([photos[0], tmp_path / "cut.jpg"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stop": "end"}, "without an end token"),
        ({"stop_word": "runs swiftly"}, "not a single token"),
        ({"stop": "word", "stop_word": "elephant"}, "not a single token"),
    ],
)
def test_options_that_the_model_cannot_serve_are_refused(photos, changes, message):
    untrained = Captioner(tiny_model(end_token=False))
    with pytest.raises(InputError, match=message):
        untrained.caption(photos[:1], GREEDY.model_copy(update=changes))


@pytest.mark.parametrize("seed", [0, 1])
def test_in_bf16_it_captions_too(photos, tmp_path, seed):
    folder = save_tiny_model(tmp_path, seed)
    rounded = Captioner.from_pretrained(folder, device="cpu", dtype=torch.bfloat16)
    exact = Captioner.from_pretrained(folder, device="cpu", dtype=torch.float32)
    assert next(rounded.model.parameters()).dtype == torch.bfloat16
    assert all(caption.text for caption in rounded.caption(photos, BEAM))
    cosines = torch.nn.functional.cosine_similarity(rounded.embed(photos), exact.embed(photos))
    assert cosines.min() > 0.99


def test_without_an_end_token_only_the_stop_word_stops(photos):
    captioner = Captioner(tiny_model(end_token=False))
    assert captioner.stop_ids(GREEDY) == {captioner.model.tokenizer.word_id(".")}


def test_impossible_requests_are_refused_in_one_line(captioner, photos, tmp_path):
    with pytest.raises(InputError, match="batch size 0"):
        captioner.caption(photos, batch_size=0)
    with pytest.raises(InputError, match="device nowhere"):
        usable_device("nowhere")
    with pytest.raises(InputError, match="no image encoder"):
        model = tiny_model()
        model.encoder = None
        Captioner(model)
    with pytest.raises(InputError, match="no prefixcap model"):
        Captioner.from_pretrained(tmp_path)


def test_the_package_offers_the_captioner_by_name():
    import prefixcap

    assert prefixcap.Captioner is Captioner and prefixcap.Caption is Caption
