"""Odd encodings are told from sound text of any language."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefixcap.datasets.oddities import LONGEST_WORDS, encoding_oddity, has_word, is_overlong

SOUND = [
    "A dog's bowl & 3 < 4; 50% off!",
    "caf\u00e9, na\u00efve, \u00c4rger, \u00c5ngstr\u00f6m \u2013 \u201cquoted\u201d\u2026",
    "\u72ac\u304c\u8d70\u308b",
    "\u041a\u043e\u0448\u043a\u0430 \u0441\u043f\u0438\u0442",
    "\u0643\u0644\u0628 \u064a\u062c\u0631\u064a",
    "family \U0001f468\u200d\U0001f469\u200d\U0001f467 at the sea",
    "R&B; AT&T",
]


@pytest.mark.parametrize("caption", SOUND)
def test_sound_text_passes(caption: str):
    assert encoding_oddity(caption) is None


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
@pytest.mark.parametrize(
    "caption", ["caf\u00e9", "a dog\u2019s bowl", "\u00c5ngstr\u00f6m", "\u00bd off"]
)
def test_utf8_read_as_another_encoding_is_found(caption: str, encoding: str):
    spoiled = caption.encode("utf-8").decode(encoding)
    assert encoding_oddity(spoiled) == "UTF-8 read as Latin-1"


@pytest.mark.parametrize(
    ("caption", "kind"),
    [
        ("a\u2028b", "line end"),
        ("a\x85b", "line end"),
        ("a \x07 bell", "control"),
        ("a\u200bb", "control"),
        ("\ufeffa", "control"),
        ("caf\ufffd", "replacement"),
        ("cats &amp; dogs", "HTML"),
        ("it&#39;s", "HTML"),
    ],
)
def test_each_kind_is_named(caption: str, kind: str):
    assert kind in str(encoding_oddity(caption))


@given(st.text(st.characters(codec="ascii", categories=["L", "N", "P", "Zs"])))
def test_ascii_without_entities_is_never_odd(caption: str):
    assert encoding_oddity(caption.replace("&", "and")) is None


def test_overlong_begins_after_the_limit():
    assert not is_overlong(" ".join(["a"] * LONGEST_WORDS))
    assert is_overlong(" ".join(["a"] * (LONGEST_WORDS + 1)))


@pytest.mark.parametrize(
    "caption",
    [
        "x" * 3_000,
        "\u72ac" * 1_000,
        "\u72ac" * 201,
        "a dog " + "\u72ac" * 201,
        ("x" * 25 + " ") * 99,
        "a dog https://a.org/" + "x" * 3_000,
        "a dog https://a.org/b " + "x" * 201,
    ],
)
def test_overlong_without_many_blanks(caption: str):
    assert is_overlong(caption)


LINK = "a photo of a dog https://a.org/" + "x" * 201


@pytest.mark.parametrize("caption", ["\u72ac" * 200, "photograph " * 199 + "photograph", "", LINK])
def test_as_long_as_may_be(caption: str):
    assert not is_overlong(caption)


@pytest.mark.parametrize(
    ("caption", "says"),
    [
        ("A dog.", True),
        ("7", True),
        ("\u72ac", True),
        ("\u0643", True),
        (".", False),
        ("- ...", False),
        ("\U0001f600", False),
        ("", False),
    ],
)
def test_caption_without_letter_or_digit_has_no_word(caption: str, says: bool):
    assert has_word(caption) == says
