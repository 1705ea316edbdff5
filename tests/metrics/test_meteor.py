"""METEOR's own program on captions that break other wrappers; known answers are held elsewhere."""

from pathlib import Path

import numpy as np
import pytest

from prefixcap.metrics import meteor
from prefixcap.metrics.java import JavaError, ProgramMissingError, find_in_pycocoevalcap

REFERENCES = ["a person riding a brown horse", "man on horse"]
ODD = {  # candidate -> the same in plain words
    "a man rides a horse": "a man rides a horse",
    "a man ||| rides a horse": "a man rides a horse",
    "a man\rrides\u2028a\u2029horse\n": "a man rides a horse",
    "a  man \t rides a\x85horse": "a man rides a horse",
    "caf\u00e9 \U0001f600 a man rides a horse": "caf\u00e9 \U0001f600 a man rides a horse",
    "": "",
    " ||| ": "",
    "a person riding a brown horse": "a person riding a brown horse",
}
EMPTY_REFERENCES = ["", "|||"]


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Values and counts of the odd candidates, under a German locale; files before and after."""
    try:
        folder = find_in_pycocoevalcap(meteor.JAR, "METEOR").parent
    except ProgramMissingError as error:
        pytest.skip(str(error))
    candidates = [*ODD, *ODD.values(), "a dog", ""]
    references = [REFERENCES] * (2 * len(ODD)) + [EMPTY_REFERENCES] * 2
    before = files_in(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAVA_TOOL_OPTIONS", "-Duser.language=de -Duser.country=DE")
        patch.setenv("LC_ALL", "C")
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))
        try:
            values, counts = meteor.score(candidates, references)
        except ProgramMissingError as error:
            pytest.skip(str(error))
    return values, counts, before == files_in(folder)


def files_in(folder: Path) -> dict[Path, int]:
    """Files of a folder and when they were written."""
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def test_line_breaks_and_separators_score_as_spaces_whatever_the_locale(scored):
    values, _, _ = scored
    assert values[: len(ODD)].tolist() == values[len(ODD) : 2 * len(ODD)].tolist()
    assert values[0] == pytest.approx(0.31764025, abs=1e-8)  # by the COCO code, English locale


def test_empty_captions_score_zero_and_keep_the_others_in_place(scored):
    values, _, _ = scored
    named = dict(zip(ODD, values, strict=False))
    assert named[""] == named[" ||| "] == 0
    assert named["a person riding a brown horse"] == 1
    assert values[-2:].tolist() == [0, 0]


def test_values_follow_from_the_counts(scored):
    values, counts, _ = scored
    assert meteor.from_counts(counts) == pytest.approx(values, rel=0, abs=1e-12)


def test_nothing_is_written_beside_the_jar(scored):
    assert scored[2]


def test_counts_of_nothing_give_zero():
    assert meteor.from_counts(np.zeros((2, 23))).tolist() == [0, 0]


def test_a_killed_program_is_one_clear_error(tmp_path, monkeypatch):
    program = tmp_path / "bin" / "java"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nkill -9 $$\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    pytest.importorskip("pycocoevalcap")
    with pytest.raises(JavaError, match=r"METEOR: .*killed by signal 9"):
        meteor.score(["a dog"], [["a dog"]])
