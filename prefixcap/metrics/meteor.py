"""METEOR 1.5 (Denkowski and Lavie 2014) by its own Java program, which pycocoevalcap carries."""

import re
from collections.abc import Sequence

import numpy as np

from prefixcap.metrics.java import conversation, find_in_pycocoevalcap, java_command

JAR = "meteor/meteor-1.5.jar"
PURPOSE = "METEOR"
MEMORY_MB = 2048  # as the COCO code
SEPARATOR = "|||"

# Parameters of METEOR 1.5 for English, task "rank": Denkowski and Lavie 2014, table 1.
ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
MODULE_WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])  # exact, stem, synonym, paraphrase

_BLANKS = re.compile(r"(?:[^\S\xa0]|[\x00-\x1f\x7f])+")  # all but the no-break space in a token


def score(
    candidates: Sequence[str], references: Sequence[Sequence[str]], memory_mb: int = MEMORY_MB
) -> tuple[np.ndarray, np.ndarray]:
    """METEOR of each tokenized candidate, and the counts behind it.

    Returns:
        Values, 0 to 1 (tables show x100), (images,) float64; METEOR's 23 counts of each image,
        (images, 23) float64. The corpus value is `from_counts` of their sum, which is what the
        program itself gives, and not the mean of the values.

    Raises:
        ProgramMissingError: there is no Java, or pycocoevalcap is not installed.
        JavaError: the program ended early.
    """
    jar = find_in_pycocoevalcap(JAR, PURPOSE)
    options = ["-", "-", "-stdio", "-l", "en", "-norm"]
    command = [*java_command(PURPOSE, memory_mb), "-jar", str(jar), *options]
    lines = [_score_line(*pair) for pair in zip(candidates, references, strict=True)]
    with conversation(PURPOSE, command) as meteor:
        meteor.send(lines)
        counts = list(meteor.answers(len(lines)))
        meteor.send([f" {SEPARATOR} ".join(["EVAL", *counts])])
        values = [float(line) for line in meteor.answers(len(lines) + 1)]
    return np.array(values[:-1]), _counts(counts)


def from_counts(counts: np.ndarray) -> np.ndarray:
    """METEOR, 0 to 1, (...,) float64, from the program's counts, (..., 23).

    The counts: words of candidate and reference, function words of both; for each of four modules
    matched content words of both and matched function words of both; chunks; matched words of both.
    Sums of counts over images give the value of those images together.
    """
    precision, recall = (_side(counts, side) for side in (0, 1))
    mean = _ratio(precision * recall, ALPHA * precision + (1 - ALPHA) * recall)
    fragments = _ratio(counts[..., 20], counts[..., 21:23].mean(-1))
    return mean * (1 - GAMMA * fragments**BETA)


def _counts(lines: Sequence[str]) -> np.ndarray:
    """The program's answers as numbers, (images, 23) float64.

    A candidate that matches its reference from end to end has one chunk, and the program takes
    none from it, alone or in a sum.
    """
    counts = np.array([[float(number) for number in line.split()] for line in lines])
    whole = (counts[:, 21:23] == counts[:, :2]).all(1) & (counts[:, 20] == 1)
    counts[whole, 20] = 0
    return counts


def _side(counts: np.ndarray, side: int) -> np.ndarray:
    """Weighted share of matched words: precision for side 0, recall for side 1."""
    content = counts[..., 4 + side : 20 : 4] @ MODULE_WEIGHTS
    function = counts[..., 6 + side : 20 : 4] @ MODULE_WEIGHTS
    words, function_words = counts[..., side], counts[..., 2 + side]
    length = DELTA * (words - function_words) + (1 - DELTA) * function_words
    matched = DELTA * content + (1 - DELTA) * function
    return _ratio(matched, length)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """`part / whole`, and 0 where both are 0."""
    return np.divide(part, whole, out=np.zeros(np.shape(part)), where=np.asarray(whole) > 0)


def _score_line(candidate: str, references: Sequence[str]) -> str:
    """The request for one image's counts: one line, whatever is in the captions."""
    parts = [_clean(text) for text in (*references, candidate)]
    # the blank after the last separator is what keeps an empty candidate the last field
    return f" {SEPARATOR} ".join(["SCORE", *parts])


def _clean(text: str) -> str:
    """A caption without separators or line breaks, words one blank apart."""
    return _BLANKS.sub(" ", text.replace(SEPARATOR, " ")).strip(" ")
