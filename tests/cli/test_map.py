"""`prefixcap map`: what it writes where, and wrong input in one line."""

import json

import pytest

from prefixcap.cli import main as cli
from tests.tiny_captioner import save_tiny_model
from tests.tiny_map import heaps, write_matrix

pytest.importorskip("sklearn")


@pytest.fixture
def folder(tmp_path):
    write_matrix(tmp_path / "matrix", heaps(tmp_path / "photos"))
    return tmp_path


def run(folder, *words):
    """Exit code of a map of the matrix."""
    return cli.main(["map", str(folder / "matrix"), "--out", str(folder / "out"), *words])


def test_images_and_captions_by_a_models_words(folder, capsys):
    model = str(save_tiny_model(folder / "model"))
    assert run(folder, "--data", f"flickr8k={folder / 'photos'}", "--model", model) == 0
    said = capsys.readouterr().out
    assert "16 images" in said and "their tokens' vectors" in said
    content = json.loads((folder / "out" / "embedding-map.json").read_text(encoding="utf-8"))
    assert len(content["points"]) == 32 and content["shared_neighbours"]["of"] == 10


def test_several_sources_have_folders_of_their_names(folder):
    other = write_matrix(folder / "other", heaps(folder / "more"))
    assert cli.main(["map", str(folder / "matrix"), str(other), "--out", str(folder / "out")]) == 0
    assert {path.name for path in (folder / "out").iterdir()} == {"matrix", "other"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "mini", "--clip", "ViT-B/32"], "give one"),
        (["--texts", "texts.npy"], "belong together"),
        (["--data", "flickr8k"], "FORMAT=PATH"),
        (["--model", "mini"], "no caption that is known"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(folder, capsys, words, said):
    assert run(folder, *words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error
