"""Stanford's tokenizer run by us, and ours beside it on random captions."""

import random

import pytest

from prefixcap.metrics import ptb, stanford
from prefixcap.metrics.java import ProgramMissingError
from tests.metrics.test_ptb import STANFORD

PIECES = ["dog", "The", "a", "I", "K", "st", "no", "u.s", "o'", "'s", "n't", "12", "1/2", "5:30"]
PIECES += [*"'.,;:!?\"/&$#()<>*_-+=%", "--", "...", "&amp;", " ", " ", " ", " "]


def tokens_of(captions: list[str]) -> list[str]:
    """Tokens by the Java program; the test is skipped where that cannot run."""
    try:
        return stanford.tokenize_lines(captions)
    except ProgramMissingError as error:
        pytest.skip(str(error))


def random_captions(count: int) -> list[str]:
    """Captions of random pieces, "x" after each: the program looks into the line that follows."""
    generator = random.Random(0)
    captions = ("".join(generator.choices(PIECES, k=8)) for _ in range(count))
    return [line for caption in captions for line in (caption, "x")]


def test_odd_captions_come_out_alike():
    captions = [*STANFORD, "a\rb\u2028c", "\n", "", "letter K.", "The end", "letter K.", "end", ""]
    captions = [line for caption in captions for line in (caption, "x")]
    assert tokens_of(captions) == ptb.tokenize_lines(captions)


def test_of_random_pieces_99_percent_come_out_alike():
    captions = random_captions(3000)
    theirs, ours = tokens_of(captions), ptb.tokenize_lines(captions)
    differing = sum(left != right for left, right in zip(theirs, ours, strict=True))
    assert differing <= 30


def test_no_captions_give_no_tokens():
    assert tokens_of([]) == []
