"""Captions as Stanford's PTB tokenizer leaves them in the COCO caption evaluation code.

The COCO code runs the tokenizer of CoreNLP 3.4.1 with `-preserveLines -lowerCase` on a file of one
caption per line, and drops the tokens that are punctuation. `benchmarks/tokenizer.py` measures how
many captions come out the same here, and how fast.
"""

import re
from collections.abc import Sequence

from prefixcap.metrics.ptb_rules import (
    ABBREVIATIONS,
    CAPITAL_ABBREVIATIONS,
    COMPOUNDS,
    NUMBERED,
    TITLES,
    longest,
)
from prefixcap.metrics.ptb_symbols import SOFT_HYPHEN, printed, stand_ins

# The COCO code's list, but for its names of brackets: it compares "-LRB-" with tokens that are
# lower case by then, so brackets stay.
PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])

_SPELLINGS = {
    "(": "-lrb-",
    ")": "-rrb-",
    "[": "-lsb-",
    "]": "-rsb-",
    "{": "-lcb-",
    "}": "-rcb-",
    '"': "''",
    "---": "--",
    "----": "--",
    "....": "...",
    ".....": "...",
    "&quot;": "''",
}
_STOPPED = TITLES | ABBREVIATIONS | CAPITAL_ABBREVIATIONS | NUMBERED
_COMPOUNDS = frozenset(first + second for first, second in COMPOUNDS.items())

_PLAIN = re.compile(r"\s*[A-Za-z]+(?:-[A-Za-z]+)*(?:,? +[A-Za-z]+(?:-[A-Za-z]+)*)*\.?\s*")
_EASY = re.compile(r"[A-Za-z]+(?:-[A-Za-z]+)*(?=,? |,?\n)")
_BLANK = re.compile(r"[\s\x00-\x1f\x7f]")


def tokenize_lines(captions: Sequence[str]) -> list[str]:
    """Tokens of each caption, as from one file that holds them line by line.

    Stanford's tokenizer looks into the next line after a caption that ends in a single letter and
    a stop ("a letter K."): the stop goes where "A" or "The" follows, and stays otherwise. To give
    the COCO code's tokens, captions must come in its order.
    """
    following, tokens = "", []
    for caption in reversed(captions):
        tokens.append(tokenize(caption, following))
        following = caption if caption.strip() else following
    return tokens[::-1]


def tokenize(caption: str, following: str = "") -> str:
    """Tokens of one caption joined by single spaces: lower case, punctuation removed.

    Args:
        caption: any text; line breaks count as spaces.
        following: the next caption of the file, see `tokenize_lines`.
    """
    if _PLAIN.fullmatch(caption):
        words = caption.lower().replace(",", "").split()
        if _is_plain(words):
            return " ".join(words).removesuffix(".")
    return " ".join(token for token in split(caption, following) if token not in PUNCTUATION)


def split(caption: str, following: str = "") -> list[str]:
    """All tokens of one caption, punctuation too, lower case."""
    caption = _BLANK.sub(" ", caption).replace(SOFT_HYPHEN, "").rstrip()
    text = f"{stand_ins(caption)}\n{following}\n"
    place, tokens = 0, []
    while place < len(caption):
        if text[place] == " ":
            place += 1
            continue
        word = _EASY.match(text, place)
        found = word[0] if word and word[0].lower() not in _COMPOUNDS else longest(text, place)
        tokens.append(_spelled(caption[place : place + len(found)]))
        place += len(found)
    return tokens


def _is_plain(words: list[str]) -> bool:
    """Whether these words, perhaps with a stop after the last, are tokens as they are."""
    last = words[-1].removesuffix(".")
    stopped = last != words[-1] and (len(last) == 1 or last in _STOPPED)
    return not stopped and _COMPOUNDS.isdisjoint((*words, last))


def _spelled(token: str) -> str:
    """The token as the COCO code prints it; a blank inside becomes a no-break space."""
    if token in _SPELLINGS:
        return _SPELLINGS[token]
    token = printed(token.lower()).replace(" ", "\u00a0")
    token = token.replace("(", "-lrb-").replace(")", "-rrb-")
    if "@" in token:  # an address
        return token
    return token.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">")
