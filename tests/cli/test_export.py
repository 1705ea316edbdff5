"""`prefixcap export`: half the bytes, the same captions, the card's words."""

import pytest
import torch

from prefixcap.batches import read_sources
from prefixcap.caption_stage import caption_recipe as train
from prefixcap.captioner import Captioner
from prefixcap.cli.main import main
from prefixcap.metrics import DocumentFrequencies
from prefixcap.metrics.ptb import tokenize_lines
from prefixcap.recipe import load_recipe
from prefixcap.run_folder import RunFolder
from prefixcap.stages import Watch
from tests.tiny_run import caption_recipe, write_photos


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
