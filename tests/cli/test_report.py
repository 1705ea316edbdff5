"""`prefixcap report`: what it prints, its exit codes, wrong input in one line."""

import pytest

from prefixcap.cli import main as cli
from tests.tiny_report import captions_of, photos, write_run

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")


def test_a_report_names_its_page_and_what_is_unfinished(tmp_path, capsys):
    run = write_run(tmp_path / "stopped", photos(tmp_path), None, finished=False)
    assert cli.main(["report", str(run), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert f"Open {tmp_path / 'out' / 'index.html'} in a browser." in said.out
    assert "stopped: unfinished" in said.err
    assert "no scores yet" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


def test_a_damaged_file_makes_the_exit_code_1(tmp_path, capsys):
    run = write_run(tmp_path / "run", photos(tmp_path), None)
    (run / "scores-dev.json").write_text("{")
    (run / "log.jsonl").unlink()
    assert cli.main(["report", str(run), "--out", str(tmp_path / "out")]) == 1
    assert "scores-dev.json: not whole JSON" in capsys.readouterr().err


def test_options_reach_the_page(tmp_path):
    data = photos(tmp_path)
    run = write_run(tmp_path / "run", data, captions_of(data))
    (run / "log.jsonl").unlink()
    moved = data.rename(tmp_path / "moved")
    words = ["report", str(run), "--out", str(tmp_path / "out"), "--title", "Mine <1>"]
    more = ["--photos", "2", "--extremes", "0", "--data", f"flickr8k={moved}"]
    assert cli.main([*words, *more]) == 0
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "<h1>Mine &lt;1&gt;</h1>" in page
    assert page.count('<img src="data:image/jpeg') == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{}/nowhere"], "nowhere: no such folder"),
        (["{}"], "neither recipe.json"),
        (["{}/run", "--data", "flickr8k"], "FORMAT=PATH"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(tmp_path, capsys, words, said):
    (tmp_path / "run").mkdir()
    assert cli.main(["report", *(word.format(tmp_path) for word in words)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error
