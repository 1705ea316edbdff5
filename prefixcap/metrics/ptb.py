"""Captions as Stanford's PTB tokenizer leaves them in the COCO caption evaluation code."""

import re

_PLAIN = re.compile(r"[A-Za-z]+(?: +[A-Za-z]+)* *\.?\s*")


def tokenize(caption: str) -> str:
    """Tokens of one caption joined by single spaces: lower case, punctuation removed."""
    if _PLAIN.fullmatch(caption):
        return " ".join(caption.rstrip(" .\n").lower().split())
    return " ".join(re.findall(r"[\w'-]+", caption.lower()))
