"""`prefixcap export`: half the bytes, the same captions, the card's words."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from prefixcap.batches import read_sources
from prefixcap.caption_stage import caption_recipe as train
from prefixcap.captioner import Captioner
from prefixcap.cli.main import main
from prefixcap.metrics import DocumentFrequencies
from prefixcap.metrics.ptb import tokenize_lines
from prefixcap.recipe import load_recipe
from prefixcap.run_folder import RunFolder
from prefixcap.stages import Watch
from prefixcap.tokenizer import train_bpe
from tests.tiny_run import caption_recipe, save_tiny_teacher, write_photos


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder with data/ and the run of a tiny model."""
    folder = tmp_path_factory.mktemp("export")
    data = write_photos(folder / "data")
    (folder / "r.toml").write_text(caption_recipe(data))
    recipe = load_recipe(folder / "r.toml", ["train.epochs=2"])
    train(recipe, RunFolder(folder / "run", recipe), Watch())
    return folder


def test_half_precision_is_half_as_large_and_says_the_same(trained, capsys):
    about = trained / "about.md"
    about.write_text("Trained on coloured squares.")
    out = trained / "out"
    options = ["--half", "--name", "squares", "--about", str(about), "--licence", "mit"]
    command = ["export", str(trained / "run/best"), "--out", str(out), *options]
    assert main([*command, "--set", "beam_size=2", "--set", "length_penalty=0.5"]) == 0
    assert "Use it: prefixcap caption --model squares" in capsys.readouterr().out
    sizes = [(f / "model.safetensors").stat().st_size for f in (out, trained / "run/best")]
    assert sizes[0] < 0.65 * sizes[1]
    card = (out / "README.md").read_text()
    assert "Trained on coloured squares." in card
    assert "license: mit" in card
    ours = Captioner.from_pretrained(out, dtype=torch.float32)
    assert ours.model.config.decoding.beam_size == 2
    theirs = Captioner.from_pretrained(trained / "run/best", dtype=torch.float32)
    photos = sorted((trained / "data/images").iterdir())[:4]
    options = ours.model.config.decoding
    assert [c.text for c in ours.caption(photos)] == [
        c.text for c in theirs.caption(photos, options)
    ]


def test_with_votes_the_training_captions_counts_go_along(trained, capsys):
    out = trained / "voting"
    command = ["export", str(trained / "run/best"), "--out", str(out), "--votes"]
    assert main([*command, "--set", "beam_size=3", "--set", "votes=4"]) == 0
    captioner = Captioner.from_pretrained(out, dtype=torch.float32)
    records = read_sources(load_recipe(trained / "r.toml").data)
    wanted = DocumentFrequencies.of(tokenize_lines(list(r.captions)) for r in records).at_least(3)
    assert captioner.model.frequencies.digest() == wanted.digest()
    assert len(wanted.keys[0]) and all((counts >= 3).all() for counts in wanted.counts)
    assert captioner.caption(sorted((trained / "data/images").iterdir())[0]).text
    again = ["export", str(out), "--out", str(trained / "again"), "--votes"]
    assert main(again) == 2
    assert "is no run" in capsys.readouterr().err


def test_missing_card_text_and_wrong_settings_are_refused(trained, capsys):
    run = str(trained / "run/best")
    assert main(["export", run, "--out", str(trained / "x"), "--about", "absent.md"]) == 2
    assert "no such file" in capsys.readouterr().err
    assert main(["export", run, "--out", str(trained / "x"), "--set", "beam_size=0"]) == 2
    assert "beam_size" in capsys.readouterr().err
    assert not (trained / "x").exists()


def test_a_model_with_parts_in_local_folders_captions_from_anywhere(tmp_path, monkeypatch, capsys):
    """Paths of the encoder and of a frozen language model are those of the run's own folder."""
    home = tmp_path / "home"
    photos = write_photos(home / "data")
    save_tiny_teacher(home / "clip")
    monkeypatch.chdir(home)
    (home / "r.toml").write_text(RELATIVE)
    (home / "lm").mkdir()
    tokenizer = train_bpe(["a red photo", "the picture is blue"], 280)
    tokenizer.save(home / "lm")
    config = GPT2Config(vocab_size=300, n_embd=8, n_layer=1, n_head=2, n_positions=32)
    GPT2LMHeadModel(config).save_pretrained(home / "lm")
    recipe = load_recipe(home / "r.toml")
    train(recipe, RunFolder(home / "run", recipe), Watch())
    assert main(["export", "run/model", "--out", "out"]) == 0
    said = f"out does not hold its encoder, {home / 'clip'}:"
    assert capsys.readouterr().err.splitlines()[-1].startswith(said)
    (home / "lm").rename(home / "elsewhere")
    monkeypatch.chdir(tmp_path)
    captioner = Captioner.from_pretrained(home / "out", dtype=torch.float32)
    assert len(captioner.caption(sorted((photos / "images").iterdir())[:2])) == 2


RELATIVE = """
name = "relative"
stage = "caption"
[[data]]
format = "flickr8k"
path = "data"
split = "train"
[encoder]
kind = "clip"
name = "clip"
[mapper]
kind = "mlp"
prefix_length = 2
[language_model]
name = "lm"
[train]
epochs = 0.5
precision = "fp32"
device = "cpu"
[decoding]
max_tokens = 8
"""
