"""`prefixcap explain`: a page of photos, numbers of a split, wrong input in one line."""

import json

import pytest

from prefixcap.cli import main as cli
from tests.tiny_captioner import save_tiny_model
from tests.tiny_explained import photo_files
from tests.tiny_run import write_photos


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_tiny_model(tmp_path_factory.mktemp("model") / "tiny"))


def test_photos_become_a_page_and_a_summary(model, tmp_path, capsys):
    photo_files(tmp_path, 3)
    words = ["explain", str(tmp_path), "--model", model, "--out", str(tmp_path / "out")]
    assert cli.main([*words, "--first", "2"]) == 0
    said = capsys.readouterr().out
    assert f"Open {tmp_path / 'out' / 'index.html'} in a browser." in said
    facts = json.loads((tmp_path / "out" / "explain.json").read_text(encoding="utf-8"))
    assert [one["photo"] for one in facts["photos"]] == ["0.png", "1.png"]
    assert f"0.png: {facts['photos'][0]['caption']}" in said
    assert said.count("\n1  ") == said.count("\n2  ") == 1  # a row for each slot


def test_an_unreadable_photo_makes_the_exit_code_1(model, tmp_path, capsys):
    photo_files(tmp_path, 1)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    assert cli.main(["explain", str(tmp_path), "-m", model, "--out", str(tmp_path / "out")]) == 1
    assert "skipped broken.jpg" in capsys.readouterr().err


def test_a_split_is_numbers_as_json_and_a_file_for_reports(model, tmp_path, capsys):
    data = write_photos(tmp_path / "photos")
    words = ["explain", "--data", "flickr8k", str(data), "--split", "dev", "--first", "4"]
    assert cli.main([*words, "-m", model, "--json", "--out", str(tmp_path / "out")]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["images"], facts["prefix_length"]) == (4, 2)
    written = json.loads((tmp_path / "out" / "prefix-words.json").read_text(encoding="utf-8"))
    assert written["numbers"]["readability"] == facts["readability"]


def test_a_runs_own_split_is_the_default_and_its_folder_gets_the_file(tmp_path, capsys):
    data, run = write_photos(tmp_path / "photos"), tmp_path / "run"
    save_tiny_model(run / "model")
    source = {"format": "flickr8k", "path": str(data)}
    recipe = {
        "name": "tiny",
        "stage": "caption",
        "data": [{**source, "split": "train"}],
        "dev": [{**source, "split": "dev"}],
        "encoder": {"kind": "clip", "name": "openai/clip-vit-base-patch32"},
    }
    (run / "recipe.json").write_text(json.dumps(recipe))
    assert cli.main(["explain", "-m", str(run)]) == 0
    said = capsys.readouterr()
    assert "8 images" in said.out and "another image's references" in said.out
    assert (run / "prefix-words.json").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give photos, or a split"),
        (["photo.jpg", "--json"], "name it with --data"),
        (["a", "b", "--data", "flickr8k"], "expected one path"),
        (["nowhere.jpg"], "nowhere.jpg"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(model, capsys, words, said):
    assert cli.main(["explain", *words, "-m", model]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error
