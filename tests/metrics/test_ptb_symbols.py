"""Characters beyond ASCII keep their places while the rules see others."""

from hypothesis import given
from hypothesis import strategies as st

from prefixcap.metrics.ptb_symbols import printed, stand_ins


@given(st.text(max_size=40))
def test_each_character_has_one_stand_in(text):
    assert len(stand_ins(text)) == len(text)


@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_stands_for_itself(text):
    assert stand_ins(text) == text


def test_quotes_marks_and_pictures_have_the_stand_ins_that_the_rules_know():
    assert stand_ins("\u2018a\u2019 \u201cb\u201d") == '`a\' "b"'
    assert stand_ins("e\u0301").isalpha()
    assert stand_ins("a\U0001f600b") == "a b"


def test_a_clitic_with_a_curly_apostrophe_is_printed_with_a_straight_one():
    assert printed("\u2019s") == "'s"
    assert printed("o\u2019clock") == "o\u2019clock"
