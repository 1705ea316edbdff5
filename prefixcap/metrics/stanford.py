"""Tokens from Stanford's own PTB tokenizer, which pycocoevalcap carries and Java runs."""

from collections.abc import Sequence

from prefixcap.metrics.java import find_in_pycocoevalcap, java_command, run_lines
from prefixcap.metrics.ptb import PUNCTUATION

JAR = "tokenizer/stanford-corenlp-3.4.1.jar"
PURPOSE = "Stanford's tokenizer"
MEMORY_MB = 1024


def tokenize_lines(captions: Sequence[str]) -> list[str]:
    """Tokens of each caption joined by single spaces: lower case, punctuation removed.

    Raises:
        ProgramMissingError: there is no Java or no jar.
        JavaError: the program failed.
    """
    jar = find_in_pycocoevalcap(JAR, PURPOSE)
    program = ["-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer"]
    command = [*java_command(PURPOSE, MEMORY_MB), *program, "-preserveLines", "-lowerCase"]
    lines = run_lines(PURPOSE, command, [" ".join(text.splitlines()) for text in captions])
    return [" ".join(_kept(line)) for line in lines]


def _kept(line: str) -> list[str]:
    """Tokens of one line of the program, without those that the COCO code removes."""
    return [token for token in line.rstrip().split(" ") if token not in PUNCTUATION]
