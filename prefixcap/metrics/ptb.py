"""Captions as Stanford's PTB tokenizer leaves them in the COCO caption evaluation code.

The COCO code runs the tokenizer of Stanford CoreNLP 3.4.1 with `-preserveLines -lowerCase` and drops
the tokens that are punctuation. That program is a lexer: at each place the rule that matches most
characters wins, and the first of them where two match the same. Here the rules are regular
expressions of our own, found by comparing outputs (`benchmarks/tokenizer.py`).
"""

import re
from collections.abc import Sequence

PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])

# Brackets are renamed and, being lower-cased before the COCO code looks for "-LRB-", they stay.
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}

# Words whose full stop belongs to them. In capitals: only so where they are also common words.
_ABBREVIATIONS = """
    jan feb mar apr jun jul aug sept? oct nov dec mon tues? wed thu thurs fri
    ala ariz calif colo conn ct dak fla ga ind kans? ky md mich minn mo mont neb nev okla penn tenn
    va vt wisc? wyo jr sr bros blvd rd esq inc cos? corp pp?tys? ltd plc rt bancorp bhd assn univ
    intl sys tel est ext sq etc al seq bldg (?:ed|ph)\\.d mrs? ms drs? profs? sens? reps? attys? lt
    col gen messrs govs? adm rev maj sgt cpl pvt capt ste? ave pres lieut hon brig co?mdr pfc spc
    supts? det m[ft]g? ft adj adv asst assoc ens insp mlle mme msgr sfc invt elec natl vs alex wm
    jos cie a\\.k\\.a treas ph cf dept
""".split()
_CAPITAL_ABBREVIATIONS = [
    f"{name[0]}(?i:{name[1:]})" for name in "Az Ark Del Ill La Mass Miss Ore Pa Tex Wash".split()
]
_NUMBERED = "nos? arts? figs? pp op ca p".split()  # keep their stop before a number only

# A single letter's stop ends the sentence before one of these words, written with a capital.
_OPENERS = """
    a about according additionally after an as at but earlier he her here however if in it last
    many more mr\\. ms\\. now once one other our she since so some such that the their then there
    these they this we what when while yet you
""".split()
_OPENER = "|".join(f"{name[0].upper()}(?i:{name[1:]})" for name in _OPENERS)

_L = r"[^\W\d_]"  # a letter
_LD = r"[^\W_]"  # a letter or digit
_NUM = r"(?:\d*(?:[.:,]\d+)+|\d+)"
_WORD = rf"{_L}{_LD}*(?:[.!?]{_L}{_LD}*)*"
_THING_PART = rf"(?:[dDoOlL]'{_LD})?{_LD}+"
_THING = rf"{_THING_PART}(?:[-_]{_THING_PART})*"
_CLITIC = r"'(?:[msdMSD]|(?i:re|ve|ll))"
_ACRONYM = r"[A-Za-z](?:\.[A-Za-z])+"
_SLASHED = r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}"
_PHONE = (
    r"(?:\(\d{2,3}\) ?|(?:\+\+?)?(?:\d{2,4}[- ])?\d{2,4}[- ])\d{3,4}[- ]?\d{3,5}"
    r"|(?:(?:\+\+?)?\d{2,4}\.)?\d{2,4}\.\d{3,4}\.\d{3,5}"
)
_EYES = r"[-^x=~<>']"

# (token) and what must follow it; what follows counts as matched when the longest is chosen.
_RULES = [
    re.compile(rule)
    for rule in (
        r"(</?[A-Za-z][A-Za-z0-9:.-]*(?: +[A-Za-z][A-Za-z0-9:.-]*(?: *= *['\"][^>]*)?)* */?>)",
        r"(<[!?][A-Za-z-][^>]*>)",
        r"((?i:can))(?i:not)",
        r"((?i:gon|got|lem|gim|wan))(?i:na|ta|me)",
        r"((?i:&amp;|&lt;|&gt;|&quot;|&apos;))",
        rf"({_WORD}){_CLITIC}",
        r"([A-Za-z]*[A-MO-Za-mo-z])(?i:n't)",
        rf"({_WORD})",
        r"('n'?|[lLdDjJ]'|(?i:dunkin'|somethin'|ol'|'em|'till?|c'mon|c'est|cap'n|d'ye|'cause))",
        r"('[2-9]0s)",
        r"('\d\d)\s",
        r"([cC]\+\+)",
        rf"({_L}*[aeiouyAEIOUY]'[aeiouA-Z]{_L}*)",
        rf"([yY]'){_L}",
        r"('[tT])(?i:is|was)",
        r"((?i:https?|ftp)://[^\s]+)",
        r"((?i:(?:www\.)(?:[^\s.,]+\.)+[a-z]{2,4}))",
        r"([A-Za-z0-9][^\s\"<>|()@]*@[A-Za-z0-9](?:[^\s\"<>|().]|\.[A-Za-z])*)",
        r"(@[A-Za-z_]\w*|#[A-Za-z]+)",
        rf"({_CLITIC})[^A-Za-z]",
        r"((?i:n't))[^A-Za-z]",
        r"(\d{1,2}[-/]\d{1,2}[-/]\d{2,4})",
        rf"([-+]?{_NUM})",
        r"((?:\d{1,4}[- ])?\d{1,4}\\?/\d{1,4})",
        rf"({_SLASHED}(?:\\?/{_SLASHED}){{1,2}})",
        r"([A-Z]*\$|#)",
        rf"((?i:{'|'.join(_ABBREVIATIONS)})\.)",
        rf"((?:{'|'.join(_CAPITAL_ABBREVIATIONS)})\.)",
        rf"({_ACRONYM}\.|[A-Za-z]\.)",
        rf"([A-Za-z])\.\s+(?:{_OPENER})\s",
        rf"((?i:{'|'.join(_NUMBERED)})\.) ?\d",
        rf"({_WORD}\.)[,;:]",
        rf"({_PHONE})",
        r"([<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]])[^A-Za-z]",
        rf"({_EYES}_{_EYES}|\({_EYES}[_.]?{_EYES}\))",
        rf"([A-Za-z0-9][A-Za-z0-9.,]*(?:-(?:[A-Za-z0-9]+|{_ACRONYM}\.))+)[^A-Za-z0-9.+]",
        rf"({_THING}\.)[,;:]",
        rf"({_THING})",
        r"([A-Z]+(?:(?:[+&]|&amp;)[A-Z]+)+)",
        r"(')[A-Za-z]\S",
        r"(-+|\.{3,5}|[?!]+|@+|_+|\*+|#+|''|``|<+|>+)",
        r"(\S)",
    )
]
_PLAIN = re.compile(r"[A-Za-z]+(?: +[A-Za-z]+)* *\.?\s*")
_UNPLAIN = re.compile(
    rf"\b(?:cannot|gonna|gotta|lemme|gimme|wanna|(?:{'|'.join(_ABBREVIATIONS)}|[a-z])\.)"
    rf"|\b(?-i:{'|'.join(_CAPITAL_ABBREVIATIONS)})\.",
    re.IGNORECASE,
)
_BLANK = re.compile(r"\s")
_EASY = re.compile(r"(?!(?i:cannot|gonna|gotta|lemme|gimme|wanna)[ ,\n])[A-Za-z]+(?=[ ,\n])|,(?= )")


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
    if _PLAIN.fullmatch(caption) and not _UNPLAIN.search(caption):
        return " ".join(caption.lower().rstrip(" .\n").split())
    text = _BLANK.sub(" ", caption)
    tokens = map(_rewritten, split(f"{text}\n{following}\n", len(text.rstrip())))
    return " ".join(token for token in tokens if token not in PUNCTUATION)


def split(text: str, end: int) -> list[str]:
    """Tokens of the first `end` characters as they stand, punctuation too; a line break follows."""
    place, tokens = 0, []
    while place < end:
        if text[place] == " ":
            place += 1
            continue
        word = _EASY.match(text, place)
        token = word[0] if word else _longest(text, place)
        tokens.append(token)
        place += len(token)
    return tokens


def _longest(text: str, place: int) -> str:
    """Token of the rule that matches most characters at `place`."""
    found = [match for rule in _RULES if (match := rule.match(text, place))]
    return max(found, key=re.Match.end)[1]


_SPELLED = _BRACKETS | {'"': "''", "---": "--", "----": "--", "&amp;": "&", "&quot;": "''"}


def _rewritten(token: str) -> str:
    """The token as the COCO code prints it."""
    if token.startswith("..."):
        return "..."
    if token in _SPELLED:
        return _SPELLED[token]
    return token.lower().replace(" ", "\u00a0").replace("(", "-lrb-").replace(")", "-rrb-")
