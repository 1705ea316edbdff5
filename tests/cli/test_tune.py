"""`prefixcap tune`: the table, what is stored, and what is refused."""

import json
from pathlib import Path

import pytest

from prefixcap.cli import main as cli
from prefixcap.config import DecodeOptions
from prefixcap.model import ClipCap
from tests.tiny_captioner import save_tiny_model
from tests.tiny_run import write_photos

SEARCH = ["--beams", "1,2", "--length-penalties", "0.5,1", "--min-tokens", "0,4"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Flickr8k in small."""
    return write_photos(tmp_path_factory.mktemp("data") / "flickr8k")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Folder of a tiny model."""
    return save_tiny_model(tmp_path / "model")


def stored(folder: Path) -> DecodeOptions:
    """Decoding that the model in `folder` now has."""
    return ClipCap.from_pretrained(folder).config.decoding


def test_the_best_row_is_what_the_model_then_has(model, data, capsys):
    words = ["tune", str(model), "flickr8k", str(data), "--split", "dev", *SEARCH]
    assert cli.main(words) == 0
    printed = capsys.readouterr().out.splitlines()
    rows = [line for line in printed if line.startswith(("greedy", "2"))]
    assert len(rows) == 6
    record = json.loads((model / "tuning.json").read_text())
    assert (record["dataset"], record["split"], record["images"]) == ("flickr8k", "dev", 8)
    ciders = [trial["CIDEr"] for trial in record["trials"]]
    assert ciders[record["best"]] == max(ciders)
    assert rows[record["best"]].endswith("best")
    assert f"{100 * max(ciders):.1f}" in rows[record["best"]]
    assert stored(model).model_dump(mode="json") == record["trials"][record["best"]]["decoding"]


def test_no_store_leaves_every_file_as_it_was(model, data):
    before = {file.name: file.read_bytes() for file in model.iterdir()}
    words = ["tune", str(model), "flickr8k", str(data), "--split", "dev", *SEARCH, "--no-store"]
    assert cli.main(words) == 0
    assert {file.name: file.read_bytes() for file in model.iterdir()} == before


def test_a_test_split_needs_insistence(model, data, tmp_path, capsys):
    folder = write_photos(tmp_path / "flickr8k")
    (folder / "Flickr_8k.devImages.txt").rename(folder / "Flickr_8k.testImages.txt")
    words = ["tune", str(model), "flickr8k", str(folder), "--split", "test", *SEARCH]
    before = stored(model)
    assert cli.main(words) == 2
    assert "--even-on-test" in capsys.readouterr().err
    assert stored(model) == before
    assert cli.main([*words, "--even-on-test"]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mini", "flickr8k", "{}"], "--no-store"),
        (["{}", "flickr8k", "{}", "--beams", "1,two"], "--beams 1,two"),
        (["{}", "flickr8k", "{}", "--min-tokens", "1.5"], "whole numbers"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(data, capsys, words, said):
    assert cli.main(["tune", *(word.format(data) for word in words)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error
