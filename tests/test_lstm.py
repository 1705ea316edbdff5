"""LSTM captioners: their loss, their files, and all that works with them as with ClipCap."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from typer.testing import CliRunner

from prefixcap.captioner import Captioner, load_model
from prefixcap.cli.main import app
from prefixcap.config import DecodeOptions, LanguageModelConfig, LstmConfig, MapperConfig, parse
from prefixcap.config import ModelConfig as Config
from prefixcap.encoder import build_encoder
from prefixcap.errors import InputError
from prefixcap.lstm import LstmCaptioner
from prefixcap.lstm_networks import OrderedCaptions
from prefixcap.model import ClipCap
from prefixcap.word_vocabulary import count_words
from tests import tiny_captioner, tiny_clipcap
from tests.tiny_lstm import CAPTIONS, CLIP, tiny_batch, tiny_lstm, tiny_model


def captioner_model(**changes: object) -> LstmCaptioner:
    """Attention LSTM with its own small encoder, whose weights are stored with it."""
    torch.manual_seed(0)
    encoder = build_encoder(tiny_clipcap.RESNET).eval()
    shape = encoder(torch.zeros(1, 3, 32, 32)).shape
    config = Config(
        encoder=encoder.config,
        embedding_dim=shape[2],
        embedding_tokens=shape[1],
        lstm=tiny_lstm(attention=True, **changes),
        decoding=DecodeOptions(max_tokens=5, stop="end"),
    )
    model = LstmCaptioner(config, count_words(CAPTIONS, 1), encoder).eval()
    photos = [tiny_captioner.random_photo(np.random.default_rng(n)) for n in range(9)]
    seen = encoder.encode(photos).mean(1)  # (9, D)
    with torch.no_grad():
        for weights in model.network.parameters():
            weights.normal_(std=0.6)
        for layer in (model.network.first_hidden, model.network.first_cell):
            layer.weight /= seen.std(0).max()  # so that captions differ between photos
            layer.bias.copy_(-layer.weight @ seen.mean(0))
    return model


@pytest.fixture(params=[False, True], ids=["show-tell", "attend"])
def model(request: pytest.FixtureRequest) -> LstmCaptioner:
    return tiny_model(tiny_lstm(attention=request.param), patches=request.param)


def test_an_images_captions_add_up(model):
    batch = tiny_batch(model)
    parts = [
        model.loss(replace(batch, ids=ids[None], image_rows=row[None]))[0]
        for ids, row in zip(batch.ids, batch.image_rows, strict=True)
    ]
    torch.testing.assert_close(model.loss(batch)[0], sum(parts), rtol=1e-5, atol=1e-4)


def test_weights_multiply_each_captions_likelihood_but_not_the_attention_penalty():
    weights = torch.tensor([2.0, -1.0, 0.5, 0.0, 3.0])
    found = {}
    for penalty in (0.0, 1.0):
        model = tiny_model(tiny_lstm(attention=True, doubly_stochastic=penalty), patches=True)
        batch = tiny_batch(model)
        found[penalty] = [model.loss(one)[0] for one in (batch, replace(batch, weights=weights))]
        if not penalty:
            rows = zip(batch.ids, batch.image_rows, weights, strict=True)
            alone = [
                w * model.loss(replace(batch, ids=ids[None], image_rows=row[None]))[0]
                for ids, row, w in rows
            ]
            torch.testing.assert_close(found[0.0][1], sum(alone), rtol=1e-5, atol=1e-4)
    added = [with_it - without for with_it, without in zip(found[1.0], found[0.0], strict=True)]
    torch.testing.assert_close(added[0], added[1])
    with pytest.raises(InputError, match=r"expected \(5,\)"):
        model.loss(replace(batch, weights=torch.ones(4)))


def test_label_smoothing_is_pytorchs():
    model = tiny_model(tiny_lstm())
    batch = tiny_batch(model)
    captions = OrderedCaptions.of(batch.ids, batch.image_rows, model.start_id)
    logits = model.network.output(model.network.read(batch.embeddings, captions)[0])
    expected = F.cross_entropy(logits, captions.targets, reduction="sum", label_smoothing=0.3)
    torch.testing.assert_close(model.loss(batch, label_smoothing=0.3)[0], expected)


def test_loss_in_bfloat16_autocast_is_near_float32(model):
    batch = tiny_batch(model)
    exact = model.loss(batch)[0]
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model.loss(batch)[0]
    rounded.backward()
    torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0)


def test_saved_and_loaded_it_is_the_same(model, tmp_path):
    model.save_pretrained(tmp_path)
    again = load_model(tmp_path)
    assert isinstance(again, LstmCaptioner) and not again.training
    batch = tiny_batch(model)
    assert torch.equal(again.loss(batch)[0], model.loss(batch)[0])
    card = (tmp_path / "README.md").read_text()
    assert ("Attend" in card) == model.config.lstm.attention and "ClipCap" not in card


def test_clipcap_is_still_loaded_as_such(tmp_path):
    tiny_clipcap.tiny_model().save_pretrained(tmp_path)
    assert isinstance(load_model(tmp_path), ClipCap)
    with pytest.raises(InputError, match=r"settings of a ClipCap"):
        LstmCaptioner.from_pretrained(tmp_path)


def test_captioner_folder_and_export_take_it(tmp_path):
    captioner_model().save_pretrained(tmp_path / "model")
    photos = tiny_captioner.write_photos(tmp_path / "photos", 6)
    captioner = Captioner.from_pretrained(tmp_path / "model", device="cpu", dtype=torch.float32)
    paths = sorted(photos.rglob("*.png"))
    greedy = captioner.caption(paths)
    assert len({caption.text for caption in greedy}) > 1
    beams = captioner.captions(paths, DecodeOptions(beam_size=3, captions_per_image=3))
    assert all(len(image) == 3 for image in beams)
    exported = CliRunner().invoke(
        app, ["export", str(tmp_path / "model"), "--out", str(tmp_path / "half"), "--half"]
    )
    assert exported.exit_code == 0, exported.output
    half = Captioner.from_pretrained(tmp_path / "half", device="cpu", dtype=torch.float32)
    assert [c.text for c in half.caption(paths)] == [c.text for c in greedy]


def test_fingerprint_follows_the_weights():
    captioner = Captioner(captioner_model())
    before = captioner.fingerprint()
    with torch.no_grad():
        captioner.model.network.output.bias[0] += 1
    assert captioner.fingerprint() != before


def test_attention_of_a_written_caption_has_a_row_per_token():
    captioner = Captioner(captioner_model())
    photo = tiny_captioner.random_photo(np.random.default_rng(0))
    caption = captioner.caption(photo)
    looks = captioner.model.attention(captioner.embed([photo])[0], caption.token_ids)
    positions = captioner.model.config.embedding_tokens
    assert looks.shape == (len(caption.token_ids), positions) and positions > 1
    torch.testing.assert_close(looks.sum(1), torch.ones(len(looks)))
    with pytest.raises(InputError, match=r"no attention"):
        tiny_model(tiny_lstm()).attention(torch.zeros(24), [3])


def test_wrong_embeddings_and_forced_words_are_refused(model):
    with pytest.raises(InputError, match=r"the LSTM expects"):
        model.start(torch.zeros(2, 7), 1, 5)
    captioner = Captioner(captioner_model())
    photo = tiny_captioner.random_photo(np.random.default_rng(0))
    assert captioner.caption(photo, DecodeOptions(forced_words="the dog")).text.startswith(
        "the dog"
    )
    with pytest.raises(InputError, match=r"'the zebra'.*vocabulary"):
        captioner.caption(photo, DecodeOptions(forced_words="the zebra"))


def test_settings_say_one_way_to_write():
    both = {"encoder": CLIP, "embedding_dim": 8, "mapper": MapperConfig(), "lstm": LstmConfig()}
    with pytest.raises(InputError, match=r"an lstm and neither"):
        parse(Config, both, "x")
    with pytest.raises(InputError, match=r"a mapper and a language_model"):
        parse(Config, {"encoder": CLIP, "embedding_dim": 8}, "x")
    lm = {"mapper": MapperConfig(), "language_model": LanguageModelConfig()}
    assert parse(Config, {"encoder": CLIP, "embedding_dim": 8, **lm}, "x").lstm is None
    grid = {"encoder": tiny_clipcap.RESNET, "embedding_dim": 8, "embedding_tokens": 4}
    with pytest.raises(InputError, match=r"reads one vector"):
        parse(Config, {**grid, "lstm": LstmConfig()}, "x")
