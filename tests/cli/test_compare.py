"""`prefixcap compare`: scores files, captions files, and what it refuses."""

import json
from pathlib import Path

import pytest

from prefixcap.caption_results import write_results
from prefixcap.cli import main as cli
from prefixcap.comparison import compare_sheets
from prefixcap.score_sheet import score_sheet, write_sheet
from tests.tiny_split import GOOD, POOR, records


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Folder with captions and scores of two runs, and the dataset as COCO publishes it."""
    for name, captions in (("good", GOOD), ("poor", POOR)):
        write_results(tmp_path / f"{name}.json", captions)
        write_sheet(tmp_path / f"{name}-scores.json", score_sheet(captions, records()))
    content = {
        "images": [{"id": int(one.image_id), "file_name": one.path.name} for one in records()],
        "annotations": [
            {"id": 10 * int(one.image_id) + place, "image_id": int(one.image_id), "caption": text}
            for one in records()
            for place, text in enumerate(one.captions)
        ],
    }
    (tmp_path / "captions_val2014.json").write_text(json.dumps(content))
    (tmp_path / "photos").mkdir()
    for one in records():
        (tmp_path / "photos" / one.path.name).touch()
    return tmp_path


def table(printed: str) -> dict[str, list[str]]:
    """Cells of the printed scores."""
    rows = [line.split() for line in printed.splitlines()]
    return {row[0]: row[1:] for row in rows if row and row[0].startswith(("BLEU", "ROUGE", "CIDE"))}


def test_scores_and_captions_of_the_same_runs_give_the_same_table(files, capsys):
    words = ["compare", str(files / "good-scores.json"), str(files / "poor-scores.json")]
    assert cli.main([*words, "--out", str(files / "result.json")]) == 0
    from_scores = capsys.readouterr().out
    found = compare_sheets(*(score_sheet(one, records()) for one in (GOOD, POOR)))
    one, other = found.scores["CIDEr"]
    difference = f"{100 * found.tests['CIDEr'].difference:+.1f}"
    assert table(from_scores)["CIDEr"][:3] == [f"{100 * one:.1f}", f"{100 * other:.1f}", difference]
    saved = json.loads((files / "result.json").read_text())
    assert saved["tests"]["CIDEr"]["p_value"] == found.tests["CIDEr"].p_value
    top = found.disagreements[0]
    assert f"\n{top.image_id}\n  A" in from_scores
    assert top.captions[0] in from_scores
    source = ["coco", str(files / "captions_val2014.json"), "--images", str(files / "photos")]
    words = ["compare", str(files / "good.json"), str(files / "poor.json"), *source]
    assert cli.main(words) == 0
    assert table(capsys.readouterr().out) == table(from_scores)


@pytest.mark.parametrize(
    ("second", "more", "said"),
    [
        ("poor.json", [], "references are not known"),
        ("missing.json", [], "missing.json"),
        ("poor.json", ["coco"], "or neither"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(files, capsys, second, more, said):
    words = ["compare", str(files / "good-scores.json"), str(files / second), *more]
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error


def test_captions_that_do_not_fit_are_refused_or_compared_where_they_do(files, capsys):
    source = ["coco", str(files / "captions_val2014.json"), "--images", str(files / "photos")]
    some = {key: POOR[key] for key in ("1", "2", "3")}
    write_results(files / "some.json", {**some, "2": "two\n cats", "99": "a dog"})
    write_results(files / "three.json", {key: GOOD[key] for key in some})
    words = ["compare", str(files / "some.json"), str(files / "three.json"), *source]
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert "3 images of the split without a caption: 4, 5, 6" in error
    assert "captions of images outside the split: 99" in error
    assert cli.main([*words, "--allow-missing"]) == 0
    printed = capsys.readouterr().out
    assert "3 images, scores x100" in printed
    assert "  two cats\n" in printed
    assert cli.main(["compare", str(files / "good.json"), str(files / "three.json"), *source]) == 2
    assert "without a caption: 4, 5, 6" in capsys.readouterr().err
