"""Characters beyond ASCII, as the PTB lexer of Stanford CoreNLP 3.4.1 sees and prints them."""

import unicodedata
from functools import lru_cache

SOFT_HYPHEN = "\u00ad"  # the lexer takes it out of words

_LETTER, _SIGN, _NOTHING = "\u00e9", "\u2013", " "  # any letter, any sign, and a blank
_SAME = dict.fromkeys("\u2019", "'") | dict.fromkeys("\u2018\u201b\u2039\u203a", "`")
_SAME |= dict.fromkeys("\u201c\u201d\u00ab\u00bb", '"') | dict.fromkeys("\u058a\u2010\u2011", "-")
_SAME |= {"\u2044": "/"}
_PRINTED = {
    "\u2019": "'",
    "\u2018": "`",
    "\u201b": "`",
    "\u2039": "`",
    "\u203a": "'",
    "\u201c": "``",
    "\u201d": "''",
    "\u00ab": "``",
    "\u00bb": "''",
    "\u2026": "...",
    "\u00a2": "cents",
    "\u00a3": "#",
    "\u00a4": "$",
    "\u20a0": "$",
    "\u20ac": "$",
    "\u00bc": "1/4",
    "\u00bd": "1/2",
    "\u00be": "3/4",
    "\u2153": "1/3",
    "\u2154": "2/3",
    "\u2010": "-",
    "\u2011": "-",
    "\u058a": "-",
}
_PRINTED |= dict.fromkeys("\u2013\u2014\u2015", "--")
_PRINTED |= {f"\u2019{end}": f"'{end}" for end in ("s", "m", "d", "re", "ve", "ll")}
_PRINTED |= {"n\u2019t": "n't"}
_UNKNOWN = frozenset(["Cf", "Cn", "Co", "Cs", "Cc", "Me", "Nl", "Sc"])  # dropped, with a warning
_UNKNOWN_SIGNS = frozenset("\u2012\u2024\u2025\u2027\u203c\u203d\u2047\u2048\u2049\u215f")
_UNKNOWN_FRACTIONS = frozenset("\u2150\u2151\u2152\u2189")
_CJK_BRACKETS = range(0x3003, 0x3040)
_KEPT_CURRENCY = frozenset("\u00a5\u20a4")


def stand_ins(caption: str) -> str:
    """The caption with characters that the rules know, one for each, so that places stay."""
    return caption if caption.isascii() else "".join(map(_stand_in, caption))


def printed(token: str) -> str:
    """The token as the lexer prints it: quotes, dashes, fractions and currency in ASCII."""
    return _PRINTED.get(token, token)


@lru_cache(maxsize=4096)
def _stand_in(char: str) -> str:
    """A character that the rules treat as the lexer treats `char`."""
    if char.isascii() or char in _SAME:
        return _SAME.get(char, char)
    if char in _PRINTED or char in _KEPT_CURRENCY:
        return _SIGN
    category = unicodedata.category(char)
    if category in _UNKNOWN or char in _UNKNOWN_SIGNS or char in _UNKNOWN_FRACTIONS:
        return _NOTHING
    if category[0] != "L" and (ord(char) > 0xFFFF or ord(char) in _CJK_BRACKETS):
        return _NOTHING
    if category[0] == "M" and char != "\ufe0f":
        return _LETTER
    return _SIGN if category == "No" else char
