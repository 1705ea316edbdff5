"""The README's commands, links and programs are real; CI runs its test command word for word."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer
from PIL import Image

from prefixcap.cli.main import app
from tests.source_tree import REPOSITORY
from tests.tiny_encoders import save_clip

README = REPOSITORY / "README.md"
PAGES = [README, *sorted((REPOSITORY / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARKED = re.compile(r"^<!-- (caption|test) -->\n```sh\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


def fences(page: Path, language: str) -> list[str]:
    """Contents of the fenced blocks in `language`."""
    found = FENCE.findall(page.read_text("utf-8"))
    return [body for kind, body in found if kind == language]


def marked() -> dict[str, str]:
    """The README's two commands by their mark."""
    found = MARKED.findall(README.read_text("utf-8"))
    assert [name for name, _ in found] == ["caption", "test"]
    return dict(found)


def shell_commands() -> list[tuple[str, list[str]]]:
    """Every prefixcap command line in the documents, as (page, words)."""
    found = []
    for page in PAGES:
        for line in "".join(fences(page, "sh")).replace("\\\n", " ").splitlines():
            parts = " ".join(shlex.split(line, comments=True)).split(" && ")
            words = [part.split() for part in parts if part.startswith("prefixcap ")]
            found += [(page.name, command) for command in words]
    return found


def options_of(command) -> set[str]:
    """Every spelling of every option of a command."""
    spellings = {"--help", "-h"}
    for parameter in command.params:
        spellings.update(parameter.opts, parameter.secondary_opts)
    return spellings


def test_the_two_commands_are_one_line_each():
    assert all("\n" not in command for command in marked().values())
    assert marked()["caption"].startswith("pip install ")
    assert "pytest" in marked()["test"]


def test_extras_that_the_documents_name_exist():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    named = set()
    for page in PAGES:
        for group in re.findall(r"(?:\.|prefixcap)\[([\w,]+)\]", page.read_text("utf-8")):
            named.update(group.split(","))
    assert "test" in named
    assert named - set(project["optional-dependencies"]) == set()


@pytest.mark.parametrize(("page", "words"), shell_commands(), ids=lambda item: str(item)[:60])
def test_documented_command_lines_exist(page: str, words: list[str]):
    command = typer.main.get_command(app)
    names = words[1:]
    while hasattr(command, "commands") and names and not names[0].startswith("-"):
        assert names[0] in command.commands, f"{page}: no command {names[0]!r}"
        command, names = command.commands[names[0]], names[1:]
    used = {word.partition("=")[0] for word in names if word.startswith("-") and word != "-"}
    assert used - options_of(command) == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path):
    links = LINK.findall(page.read_text("utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.fixture(scope="module")
def hub_cache(tmp_path_factory) -> Path:
    """Cache of the hub with a tiny CLIP under the name that the documents use."""
    cache, commit = tmp_path_factory.mktemp("hub"), "0" * 40
    repository = cache / "models--openai--clip-vit-base-patch32"
    save_clip(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    return cache


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_programs_of_the_documents_run(page: Path, tmp_path: Path, hub_cache: Path):
    """As they stand, without a network, in a folder with one photo of the name they use."""
    Image.effect_noise((96, 64), 60).convert("RGB").save(tmp_path / "dog.jpg")
    offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(hub_cache)}
    for program in fences(page, "python"):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **offline},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


class TestContinuousIntegration:
    """`.ci/run` with stand-ins of python and pip, which write down how they were called."""

    @pytest.fixture
    def programs(self, tmp_path: Path) -> Path:
        """Folder of the stand-ins; they append their words to `calls`."""
        folder = tmp_path / "bin"
        folder.mkdir()
        for name in ("python3", "python", "pip"):
            program = folder / name
            program.write_text(
                f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/calls\n'
                f'[ "$2" = venv ] && mkdir -p "$3/bin" && echo "$3" > {tmp_path}/environment\n'
                f'[ "{name}" != "$FAILING" ]\n'
            )
            program.chmod(0o755)
        return folder

    def run(self, programs: Path, failing: str = "") -> tuple[int, list[str]]:
        """Exit code of `.ci/run` and the calls it made after making the environment."""
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", str(REPOSITORY / ".ci" / "run")],
            env={**os.environ, "PATH": path, "FAILING": failing},
            capture_output=True,
            text=True,
            check=False,
        )
        calls = (programs.parent / "calls").read_text().splitlines()
        assert calls[0].startswith("python3 -m venv ")
        return done.returncode, calls[1:]

    def test_runs_the_readmes_test_command_word_for_word(self, programs: Path):
        code, calls = self.run(programs)
        assert code == 0
        assert calls == marked()["test"].replace('"', "").split(" && ")

    def test_fails_when_the_tests_fail(self, programs: Path):
        assert self.run(programs, failing="python")[0] != 0

    def test_fails_when_the_installation_fails(self, programs: Path):
        code, calls = self.run(programs, failing="pip")
        assert code != 0
        assert len(calls) == 1

    def test_removes_its_virtual_environment(self, programs: Path):
        self.run(programs)
        assert not Path((programs.parent / "environment").read_text().strip()).exists()
