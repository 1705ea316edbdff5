r"""Rules of the PTB lexer, as regular expressions of our own, found by comparing outputs.

The lexer of Stanford CoreNLP 3.4.1 takes, at each place, the rule that matches most characters,
and the first of them where two match as many. What must follow a token (`\s` after a year, a
capital after a quote) counts as matched too. Group 1 of each rule is the token.

Texts have plain quotes, single blanks for each white space, and end in a line break.
"""

import re
from string import ascii_letters, digits


def _words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


# Words whose full stop belongs to them, in any case.
TITLES = _words(
    """
    mr mrs ms dr drs prof profs sen sens rep reps atty attys lt col gen messrs gov govs adm rev maj
    sgt cpl pvt capt st ste ave pres lieut hon brig cmdr comdr pfc spc supt supts det mt mtg mfg ft
    adj adv asst assoc ens insp mlle mme msgr sfc invt elec natl vs alex wm jos cie treas ph cf dept
    """
)
ABBREVIATIONS = _words(
    """
    jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thurs fri
    ala ariz calif colo conn ct dak fla ga ind kan kans ky md mich minn mo mont neb nev okla penn
    tenn va vt wis wisc wyo jr sr bros blvd rd esq inc co cos corp pty ptys ppty pptys ltd plc rt
    bancorp bhd assn univ intl sys tel est ext sq etc al seq bldg
    """
)
# The same, but only with a capital: "Mass." keeps its stop, "mass." does not.
CAPITAL_ABBREVIATIONS = _words("az ark del ill la mass miss ore pa tex wash")
# The same, but only before a number.
NUMBERED = _words("no nos art arts fig figs pp op ca p")
# One word that becomes two.
COMPOUNDS = {"can": "not", "gon": "na", "got": "ta", "lem": "me", "gim": "me", "wan": "na"}
# A letter's stop ("letter K.") ends the sentence, and goes, before these words with a capital.
OPENERS = _words(
    """
    a about according additionally after an as at but earlier he her here however if in it last
    many more mr. ms. now once one other our she since so some such that the their then there
    these they this we what when while yet you
    """
)


def _any_case(words: frozenset[str]) -> str:
    """Alternatives that match the words in any case, the longest first."""
    return f"(?i:{'|'.join(map(re.escape, sorted(words, key=len, reverse=True)))})"


def _capitalized(words: frozenset[str]) -> str:
    """Alternatives that match the words with a capital first letter, the rest in any case."""
    return "|".join(f"{word[0].upper()}(?i:{re.escape(word[1:])})" for word in sorted(words))


LETTER = r"[^\W\d_]"
ALNUM = r"[^\W_]"
NUMBER = r"(?:\d*(?:[.:,]\d+)+|\d+)"
WORD = rf"{LETTER}{ALNUM}*(?:[.!?]{LETTER}{ALNUM}*)*"
PART = rf"(?:[dDoOlL]['`]{ALNUM})?{ALNUM}+"
HYPHENATED = rf"{PART}(?:[-_]{PART})*"
CLITIC = r"'(?:[msdMSD]|(?i:re|ve|ll))"
ACRONYM = r"[A-Za-z](?:\.[A-Za-z])+"
SLASH_PART = r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}"
DASHED = rf"[A-Za-z0-9][A-Za-z0-9.,]*(?:-(?:{ACRONYM}\.|[A-Za-z0-9]+))+"
ABBREVIATION = f"(?:{_any_case(ABBREVIATIONS)}|{_capitalized(CAPITAL_ABBREVIATIONS)})"
EYE = r"[-^x=~<>']"
TAG_NAME = r"[A-Za-z][A-Za-z0-9:.-]*"

TAGS = (
    rf"(</?{TAG_NAME}(?: +{TAG_NAME})* */?>)",
    rf"(</?{TAG_NAME}(?: +{TAG_NAME})+ *= *['\"][^>]*>)",
    r"(<[!?][A-Za-z-][^>\n]*>)",
)
WORDS = (
    *(rf"((?i:{first}))(?i:{second})" for first, second in COMPOUNDS.items()),
    rf"({WORD}){CLITIC}",
    r"([A-Za-z]*[A-MO-Za-mo-z])(?i:n['`]t)",
    rf"({WORD})",
    r"([lLdDjJ]'|(?i:dunkin'|somethin'|ol'|c'mon|c'est|cap'n|d'ye|cont'd\.|nor'easter|e'er))",
    r"((?i:s'mores|ev'ry|li'l|nat'l|o['`]o))",
    rf"([dlnoA-HJ-XZ]['`]{LETTER}{{2,}})",  # O'Brien
    rf"({LETTER}+[aeiouyAEIOUY]['`][aeiouA-Z]{LETTER}*)",  # ma'am, Hawai'i
    rf"([yY]'){LETTER}",
    r"((?i:n['`]t))[^A-Za-z]",
    r"([cC]\+\+|[cCfF]#)",
    rf"((?:{_any_case(TITLES)}|{ABBREVIATION})\.)",
    rf"({ABBREVIATION}\.)[\s\S]{{2}}",
    rf"((?i:ed|ph)\.[dD]\.|{ACRONYM}\.|[A-Za-z]\.)",
    rf"([A-Za-z])\.\s+(?:{_capitalized(OPENERS)})\s",
    rf"({_any_case(NUMBERED)}\.)\s?\d",
    rf"({WORD}\.)[,;:]",
    r"([A-Z]+(?:(?:[+&]|&amp;)[A-Z]+)+)",
    r"([A-Z]*\$)",
)
NUMBERS = (
    r"(\d{1,2}[-/]\d{1,2}[-/]\d{2,4})",
    rf"([-+]?{NUMBER})",
    r"((?:\d{1,4}[- ])?\d{1,4}\\?/\d{1,4})",
    r"((?:\(\d{2,3}\) ?|(?:\+\+?)?(?:\d{2,4}[- ])?\d{2,4}[- ])\d{3,4}[- ]?\d{3,5})",
    r"((?:(?:\+\+?)?\d{2,4}\.)?\d{2,4}\.\d{3,4}\.\d{3,5})",
)
MIXED = (
    rf"({SLASH_PART}(?:\\?/{SLASH_PART}){{1,2}})",
    rf"({DASHED})",
    rf"({HYPHENATED}\.)[,;:]",
    rf"({HYPHENATED})",
)
ADDRESSES = (
    r"((?i:https?|ftp)://[^\s\"<>|()]+)",
    r"((?i:www)\.(?:[^\s\"<>|.!?(){},]+\.)+[A-Za-z]{2,4}(?:/[^\s\"<>|()]+)?)",
    r"((?:[^\s\"`'|!(){},-_$]+\.)+(?i:com|net|org|edu)(?:/[^\s\"<>|()]+)?)",
    r"(<?[A-Za-z0-9][^\s\"<>|()]*@(?:[^\s\"<>|().]+\.)*[^\s\"<>|().]+>?)",
)
QUOTES = (
    r"('[2-9]0s|(?i:'n'|'em|'till?|'cause))",
    r"('[nN])",
    r"('\d\d)\s",
    r"('[tT])(?i:is|was)",
    rf"({CLITIC})[^A-Za-z]",
    r"(')[A-Za-z]\S",
    r"(''|``)",
)
SIGNS = (
    r"((?i:&(?:amp|lt|gt|quot|apos);))",
    r"(@[A-Za-z_]\w*|#[A-Za-z]+)",
    r"([<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]])[^A-Za-z0-9]",
    rf"({EYE}_{EYE}|\({EYE}[_.]?{EYE}\))",
    r"(-+|\.{3,5}|[?!]+|@+|_+|\*+|(?:\\\*){1,3}|#+|<{1,2}|>{1,2}|\$)",
    r"(\S)",
)


def _compiled(*groups: tuple[str, ...]) -> list[re.Pattern[str]]:
    """The rules of some groups, in order."""
    return [re.compile(rule) for group in groups for rule in group]


# Only rules that can match there are tried, by the first character.
LETTER_RULES = _compiled(WORDS, MIXED, ADDRESSES, SIGNS)
DIGIT_RULES = _compiled(NUMBERS, MIXED, ADDRESSES)
SIGN_RULES = _compiled(TAGS, NUMBERS, QUOTES, ADDRESSES, SIGNS)
RULES = dict.fromkeys(ascii_letters, LETTER_RULES) | dict.fromkeys(digits, DIGIT_RULES)


def longest(text: str, place: int) -> str:
    """Token at `place`, which is not white space, by the rule that matches most characters."""
    first = text[place]
    rules = RULES.get(first) or (LETTER_RULES if first.isalpha() else SIGN_RULES)
    matches = [match for rule in rules if (match := rule.match(text, place))]
    return max(matches, key=re.Match.end)[1]
