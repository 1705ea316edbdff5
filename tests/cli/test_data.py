"""`prefixcap data`: the verdict is the exit code, the page shows the photos."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from prefixcap.cli import main as cli
from tests.datasets.downloads import put_output, put_tsv
from tests.tiny_run import PHOTOS, write_photos


@pytest.fixture
def captioned(tmp_path: Path) -> Path:
    """Own captions of two photos, as CSV."""
    write_photos(tmp_path / "data")
    names = [path.name for path in sorted((tmp_path / "data" / "images").iterdir())[:2]]
    rows = "".join(f"{name},a photo of {name[5:-4]}\n" for name in names)
    path = tmp_path / "data" / "images" / "captions.csv"
    path.write_text(f"path,caption\n{rows}")
    return path


def test_a_sound_dataset_is_fit_to_train_on(captioned, capsys):
    assert cli.main(["data", "check", "csv", str(captioned)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "csv: 2 photos opened; fit to train on."


def test_a_broken_photo_makes_the_exit_code_1(captioned, capsys):
    broken = sorted(captioned.parent.glob("*.jpg"))[0]
    broken.write_bytes(b"no photo")
    assert cli.main(["data", "check", "csv", str(captioned)]) == 1
    shown = capsys.readouterr().out
    assert broken.name in shown
    assert "do not train" in shown


def test_photos_are_left_closed_where_asked(captioned, capsys):
    sorted(captioned.parent.glob("*.jpg"))[0].write_bytes(b"no photo")
    assert cli.main(["data", "check", "csv", str(captioned), "--no-photos"]) == 0
    assert "no photo opened" in capsys.readouterr().out


def test_show_writes_a_page_with_as_many_photos_as_asked(tmp_path, capsys):
    data, page = write_photos(tmp_path / "data"), tmp_path / "page.html"
    words = ["data", "show", "flickr8k", str(data), "--out", str(page)]
    assert cli.main([*words, "--samples", "5"]) == 0
    assert capsys.readouterr().out == f"Open {page} in a browser: 5 photos.\n"
    assert page.read_text("utf-8").count("<img ") == 5 < PHOTOS


def test_show_counts_photos_that_cannot_be_read(captioned, tmp_path, capsys):
    broken = sorted(captioned.parent.glob("*.jpg"))[0]
    broken.write_bytes(b"no photo")
    page = tmp_path / "page.html"
    assert cli.main(["data", "show", "csv", str(captioned), "--out", str(page)]) == 1
    shown = capsys.readouterr()
    assert shown.out.endswith("in a browser: 2 photos, 1 of them could not be read.\n")
    assert shown.err.startswith(f"skipped {broken.name}: ") and page.is_file()


@pytest.mark.parametrize("command", ["check", "show"])
def test_an_unknown_format_is_one_line_and_exit_code_2(command, tmp_path, capsys):
    assert cli.main(["data", command, "flickr9k", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "flickr9k" in error


def test_all_that_was_found_is_named_where_asked(captioned, capsys):
    captioned.write_text("path,caption\n" + "".join(f"{n}.jpg,one\n" for n in range(9)))
    words = ["data", "check", "csv", str(captioned), "--images", str(captioned.parent)]
    assert cli.main(words) == 1
    assert "8.jpg" not in capsys.readouterr().out
    assert cli.main([*words, "--all"]) == 1
    assert "8.jpg" in capsys.readouterr().out


def test_name_that_no_terminal_can_show_is_escaped(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    try:
        (tmp_path / f"{name}.jpg").write_bytes(b"no photo")
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    (tmp_path / f"{name}.txt").write_text("A coffee")
    words = [sys.executable, "-m", "prefixcap", "data", "check", "folder", str(tmp_path)]
    strict = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(words, env=strict, capture_output=True, text=True, check=False)
    assert (done.returncode, "internal error" in done.stderr) == (1, False)
    assert "caf\\udce9.jpg: is not a picture" in done.stdout


def test_manifest_of_conceptual_captions_is_written(tmp_path, capsys):
    put_output(tmp_path / "photos")
    tsv, file = put_tsv(tmp_path / "Train_GCC-training.tsv"), tmp_path / "manifest.jsonl"
    words = ["data", "check", "conceptual", str(tsv), "--manifest", str(file)]
    assert cli.main(words) == 0
    assert "links of the TSV: 5. DIFFERS from the published 3,318,333" in capsys.readouterr().out
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert [row["path"] is not None for row in rows] == [True, False, True, False, True]


@pytest.mark.parametrize(
    ("name", "path", "out", "said"),
    [
        ("conceptual", "photos", "new.jsonl", "photos: a folder, expected a TSV"),
        ("conceptual", "b.tsv", "new.jsonl", "b.tsv: not there, expected a TSV"),
        ("conceptual", "a.tsv", "a.tsv", "would replace its own TSV"),
        ("csv", "a.tsv", "new.jsonl", 'expected "conceptual", found "csv"'),
    ],
)
def test_manifest_of_anything_else_is_refused(tmp_path, capsys, name, path, out, said):
    put_output(tmp_path / "photos")
    before = put_tsv(tmp_path / "a.tsv").read_bytes()
    words = ["data", "check", name, str(tmp_path / path), "--manifest", str(tmp_path / out)]
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said in error
    assert (tmp_path / "a.tsv").read_bytes() == before and not (tmp_path / "new.jsonl").exists()
