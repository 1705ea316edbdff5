"""SPICE's command line, input and output; the program itself is a script here (see the module)."""

import json
from pathlib import Path

import numpy as np
import pytest

from prefixcap.metrics import spice
from prefixcap.metrics.java import JavaError, ProgramMissingError

# The layout that SPICE 1.0 writes with -subset: counts and F per image and kind, null where the
# references have no proposition of that kind.
KIND = {"tp": 1, "fp": 1, "fn": 3, "pr": 0.5, "re": 0.25, "f": 1 / 3, "numImages": 1}
NONE = {"tp": 0, "fp": 0, "fn": 0, "pr": None, "re": None, "f": None, "numImages": 1}
KINDS = {"Object": KIND, "Relation": KIND | {"f": 0}, "Attribute": NONE}
KINDS |= dict.fromkeys(["Cardinality", "Color", "Size"], NONE)
ANSWER = [
    {"image_id": 1, "scores": {"All": KIND | {"f": 0.4}, **KINDS}},
    {"image_id": 0, "scores": {"All": KIND | {"f": 0}, **KINDS, "Color": KIND | {"f": 1}}},
]
JAVA = """#!/bin/sh
if [ "$1" = -version ]; then echo 'openjdk version "{version}"' >&2; exit 0; fi
printf '%s\\n' "$@" > {folder}/arguments
while [ "$1" != edu.anu.spice.SpiceScorer ]; do shift; done
cp "$2" {folder}/asked.json
while [ "$1" != -out ]; do shift; done
cp {folder}/answer.json "$2"
"""


@pytest.fixture
def corenlp(tmp_path, monkeypatch) -> Path:
    """A folder with files named as the CoreNLP jars, and a `java` that answers as SPICE does."""
    pytest.importorskip("pycocoevalcap")
    for name in spice.CORENLP_JARS:
        (tmp_path / name).touch()
    (tmp_path / "answer.json").write_text(json.dumps(ANSWER), encoding="utf-8")
    program = tmp_path / "bin" / "java"
    program.parent.mkdir()
    program.write_text(JAVA.format(version="11.0.2", folder=tmp_path), encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    return tmp_path


def test_images_keep_their_places_and_kinds_are_averaged_where_they_occur(corenlp):
    values, kinds = spice.score(["a dog", "a cat"], [["dog"], ["cat", "\u00e9"]], corenlp)
    assert values.tolist() == [0, 0.4]
    assert kinds == {"Object": pytest.approx(1 / 3), "Relation": 0, "Color": 1}
    asked = json.loads((corenlp / "asked.json").read_text(encoding="ascii"))
    assert asked[1] == {"image_id": 1, "test": "a cat", "refs": ["cat", "\u00e9"]}


def test_the_command_line_has_memory_class_path_and_options(corenlp):
    cache = corenlp / "cache" / "deep"
    spice.score(["a", "b"], [["a"], ["b"]], corenlp, cache, memory_mb=1234)
    arguments = (corenlp / "arguments").read_text(encoding="utf-8").splitlines()
    assert "-Xmx1234m" in arguments
    assert {"-Duser.language=en", "-subset", "-silent"} <= set(arguments)
    assert arguments[arguments.index("-cache") + 1] == str(cache)
    assert cache.is_dir()
    jars = arguments[arguments.index("-cp") + 1].split(":")
    assert [Path(jar).name for jar in jars] == ["spice-1.0.jar", "*", "*"]
    assert not any(argument.startswith("--add-opens") for argument in arguments)


def test_new_java_is_opened_and_needs_a_javascript_engine(corenlp):
    program = corenlp / "bin" / "java"
    program.write_text(JAVA.format(version="21.0.2", folder=corenlp), encoding="utf-8")
    with pytest.raises(ProgramMissingError, match=r"JavaScript engine.*nashorn-core:15.4"):
        spice.score(["a", "b"], [["a"], ["b"]], corenlp)
    (corenlp / "nashorn-core-15.4.jar").touch()
    spice.score(["a", "b"], [["a"], ["b"]], corenlp)
    arguments = (corenlp / "arguments").read_text(encoding="utf-8").splitlines()
    assert "--add-opens=java.base/java.lang=ALL-UNNAMED" in arguments
    assert "-cache" not in arguments


def test_missing_jars_are_named_with_where_to_get_them(corenlp, monkeypatch):
    (corenlp / spice.CORENLP_JARS[1]).unlink()
    monkeypatch.setenv("PREFIXCAP_CORENLP", str(corenlp))
    with pytest.raises(ProgramMissingError, match=r"does not hold stanford-corenlp-3.6.0-models"):
        spice.score(["a"], [["a"]])
    monkeypatch.delenv("PREFIXCAP_CORENLP")
    with pytest.raises(ProgramMissingError, match=r"edu.stanford.nlp:stanford-corenlp:3.6.0"):
        spice.score(["a"], [["a"]])


def test_a_failing_program_is_an_error_with_what_it_said(corenlp):
    failing = "#!/bin/sh\necho 'Error: Could not score' >&2; exit 1\n"
    (corenlp / "bin" / "java").write_text(failing, encoding="utf-8")
    with pytest.raises(JavaError, match="ended with code 1: Error: Could not score"):
        spice.score(["a"], [["a"]], corenlp)


@pytest.mark.parametrize("text", ["", "{}", "[]", '[{"image_id": 0}]', json.dumps(ANSWER[:1])])
def test_output_that_is_not_of_these_images_is_an_error(text):
    with pytest.raises(JavaError, match="not as published"):
        spice.read_answer(text, 2)


def test_kinds_that_no_reference_has_are_left_out():
    values, kinds = spice.read_answer(json.dumps(ANSWER), 2)
    assert isinstance(values, np.ndarray)
    assert "Size" not in kinds
