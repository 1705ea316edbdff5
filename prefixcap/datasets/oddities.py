"""What is odd about the text of a caption: lengths and encodings that no person has written."""

import re
import unicodedata

LONGEST_WORDS = 200  # the longest published captions have 82 words (Flickr30k) and 50 (COCO)
# Words are counted by their blanks, which Chinese has not. COCO's longest caption has 250 letters
# and signs, its longest word 27; 200 words of ten letters fit into 2,200.
LONGEST_CHARACTERS, LONGEST_WORD = 2_200, 200
TOO_LONG = (
    f"more than {LONGEST_WORDS} words, {LONGEST_CHARACTERS:,} characters, or {LONGEST_WORD} "
    "without a blank"
)

_ENTITY = re.compile(r"&(?:[a-z]{2,6}|#\d{1,6}|#x[0-9a-f]{1,5});", re.IGNORECASE)
_FOREIGN_RUN = re.compile(r"[^\x00-\x7f]{2,}")
_JOINERS = "\u200c\u200d"  # between letters of some scripts and parts of emoji they are no fault
_LINE_ENDS = "\u2028\u2029\u0085"


def encoding_oddity(caption: str) -> str | None:
    """Name of the first odd thing in the encoding of a caption; None for sound text."""
    if any(_is_mojibake(run) for run in _FOREIGN_RUN.findall(caption)):
        return "UTF-8 read as Latin-1"
    if any(letter in _LINE_ENDS for letter in caption):
        return "a line end such as U+2028"
    if "\ufffd" in caption:
        return "a replacement character (U+FFFD)"
    if any(_is_control(letter) for letter in caption):
        return "a control or invisible character"
    if _ENTITY.search(caption):
        return "an HTML entity"
    return None


def is_overlong(caption: str) -> bool:
    """True for more words or characters than any published caption has: text of a page.

    So is a word of that many characters: what has no blanks, or a sentence of Chinese. A link is
    none, since captions of the web end in one.
    """
    return (
        caption.count(" ") >= LONGEST_WORDS
        or len(caption) > LONGEST_CHARACTERS
        or (len(caption) > LONGEST_WORD and any(map(_is_overlong_word, caption.split(" "))))
    )


def has_word(caption: str) -> bool:
    """True for a caption with a letter or digit of any script; "." or a smiley says nothing."""
    return any(letter.isalnum() for letter in caption)


def _is_overlong_word(word: str) -> bool:
    """True for more characters without a blank than any word has, except in a link."""
    return len(word) > LONGEST_WORD and "://" not in word


def _is_control(letter: str) -> bool:
    """True for control, format, surrogate and unassigned characters."""
    return letter not in _JOINERS and unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Cn")


def _is_mojibake(run: str) -> bool:
    """True where letters beyond ASCII, taken for bytes of Windows-1252, are valid UTF-8.

    "Ã©" is such a run ("é" in UTF-8); "éè" in sound text is not.
    """
    try:
        b"".join(_byte(letter) for letter in run).decode("utf-8")
    except UnicodeError:
        return False
    return True


def _byte(letter: str) -> bytes:
    """Byte of a letter in Windows-1252, of which five are only in Latin-1.

    Raises:
        UnicodeEncodeError: the letter is in neither.
    """
    try:
        return letter.encode("cp1252")
    except UnicodeEncodeError:
        return letter.encode("latin-1")
