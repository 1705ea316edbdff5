"""The rule that matches most characters wins, and the first of equals."""

import pytest

from prefixcap.metrics.ptb_rules import longest


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("st.paul ", "st.paul"),  # a word beats the abbreviation in it
        ("st. paul ", "st."),
        ("thu.s ", "thu."),  # an abbreviation with two characters after it beats the word
        ("cannot ", "can"),  # as long as the word, and earlier
        ("cannots ", "cannots"),
        ("dog's ", "dog"),
        ("don't ", "do"),
        ("'tis ", "'t"),
        ("'stop ", "'"),
        ("K. The ", "K"),
        ("K. Then\n", "K"),
        ("K. Them\n", "K."),
        ("5-inch ", "5-inch"),
        ("12/25/2010 ", "12/25/2010"),
        ("\u65e5\u672c ", "\u65e5\u672c"),
        ("\u2665 ", "\u2665"),
    ],
)
def test_the_longest_match_is_the_token(text, token):
    assert longest(text, 0) == token
