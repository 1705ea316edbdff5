"""Our tokenizer against outputs of Stanford's, on published captions and on made-up odd ones."""

import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefixcap.metrics.ptb import PUNCTUATION, tokenize, tokenize_lines
from tests.metrics.truth import cases, read_lines, truth_folder

# What Stanford CoreNLP 3.4.1 with -preserveLines -lowerCase printed, less the punctuation.
STANFORD = {
    "A dog's bone isn't the cat's.": "a dog 's bone is n't the cat 's",
    "I cannot see; we're gonna go": "i can not see we 're gon na go",
    "He said \"it's 5 o'clock\"": "he said it 's 5 o'clock",
    "rock 'n' roll, y'all": "rock 'n' roll y' all",
    "the '90s, 1990's and '90s": "the '90s 1990 's and '90s",
    "O'Brien's ma'am 'em 'tis": "o'brien 's ma'am 'em 't is",
    "'dog' ``cat'' it''s": "dog cat it s",
    "corner of Hyde St. and 5th Ave.": "corner of hyde st. and 5th ave.",
    "in the u.s. army, U.S.A.": "in the u.s. army u.s.a.",
    "Mass. ave, mass. of sheep in a penn.": "mass. ave mass of sheep in a penn.",
    "a letter K. The dog": "a letter k the dog",
    "a letter K. dog": "a letter k. dog",
    "bus no. 5 says no.": "bus no. 5 says no",
    "the Dr.s office, mr.s": "the dr.s office mr.s",
    "it., that.; a dog.": "it. that. a dog",
    "road.many cars road.5 dogs": "road.many cars road .5 dogs",
    "road!many dogs!! really?!": "road!many dogs !! really ?!",
    "11:20am at 11:20 a.m., 5:30-6:30": "11:20 am at 11:20 a.m. 5:30 -6:30",
    "1 1/2 cups 1/2 cup 12/25/2010": "1\xa01/2 cups 1/2 cup 12/25/2010",
    "1,000 dogs $5.00 50% off #1 #dog": "1,000 dogs $ 5.00 50 % off # 1 #dog",
    "call 555 123 4567 or 555-1234": "call 555\xa0123\xa04567 or 555-1234",
    "black/white and/or a/b/c/d w/ cat": "black/white and/or a/b/c / d w / cat",
    "tri-colored - dog -- cat--dog ---": "tri-colored dog cat dog",
    "a 2,000-pound u.s.-led dog_cat": "a 2,000-pound u.s.-led dog_cat",
    "AT&T B&W black & white b&w R&amp;B": "at&t b&w black & white b & w r&b",
    "a dog (left) [right] {up}": "a dog -lrb- left -rrb- -lsb- right -rsb- -lcb- up -rcb-",
    "happy :) sad :( :-D <3": "happy :-rrb- sad :-lrb- :-d < 3",
    "cat@dog.com www.cat.com @cat a@b": "cat@dog.com www.cat.com @cat a@b",
    "C++ and C# *star* a_b _x_ ^_^": "c++ and c# * star * a_b _ x _ ^_^",
    "wait... what.... a": "wait what a",
    "a <b>bold</b> <cat dog>": "a <b> bold </b> <cat\xa0dog>",
    '<a href="x">cat</a> <3 <a b=5>': '<a\xa0href="x"> cat </a> < 3 < a b = 5 >',
    "don\u2019t \u201cquote\u201d o\u2019clock": "do n't quote o\u2019clock",
    "the dog\u2019s \u2018bone\u2019": "the dog 's bone",
    "caf\u00e9 \u2013 5\u00bd \u2014 \u00a35 \u20ac5 5\u00a2": "caf\u00e9 5 1/2 # 5 $ 5 5 cents",
    "5\u00d75 m\u00b2 5\u00b0": "5 \u00d7 5 m \u00b2 5 \u00b0",
    "\u2665 \U0001f600 \u65e5\u672c": "\u2665 \u65e5\u672c",
    "so\u00adft hy\u2010phen\u2026": "soft hy\u2010phen",
    "": "",
    " . ": "",
}


@pytest.mark.parametrize("caption", STANFORD)
def test_tokens_are_those_of_stanfords_program(caption):
    assert tokenize(caption) == STANFORD[caption]


@pytest.mark.parametrize("mark", ["\r", "\n", "\r\n", "\u2028", "\u2029", "\x0b", "\x85", "\t"])
def test_a_line_break_of_any_kind_is_a_space(mark):
    assert tokenize(f"a dog{mark}runs.{mark}") == "a dog runs"


def test_a_letters_stop_depends_on_how_the_next_caption_begins():
    assert tokenize_lines(["a letter K.", "", "The dog"])[0] == "a letter k"
    assert tokenize_lines(["a letter K.", "dogs"])[0] == "a letter k."
    assert tokenize_lines(["a letter K."]) == ["a letter k."]
    assert tokenize_lines(["sign no.", "5 dogs"])[0] == "sign no."


def test_the_fast_path_for_plain_captions_changes_nothing():
    plain = "A well-worn dog, a cat, and st birds run"
    assert tokenize(f"{plain}.") == tokenize(f"{plain} .") == tokenize(f'"{plain}"')


@pytest.mark.parametrize("piece", ['<a b="c ', "a,", "a.", "a-", "'", "1.", "@a.", "a/", "<"])
def test_long_odd_text_takes_time_that_does_not_explode(piece):
    start = time.process_time()
    tokenize(piece * 400)
    assert time.process_time() - start < 5


@given(st.text(max_size=60))
def test_any_text_gives_lower_case_words_without_punctuation(text):
    tokens = tokenize(text).split(" ")
    assert not PUNCTUATION.intersection(tokens)
    assert not re.search(r"[^\S\xa0]", "".join(tokens))
    assert all(token == token.lower() for token in tokens)


@given(st.lists(st.text(max_size=30), max_size=8))
def test_each_caption_gives_one_line(captions):
    assert len(tokenize_lines(captions)) == len(captions)


def tokens_differing(folder: Path, name: str) -> list[tuple[str, str]]:
    """Captions of a case whose tokens are not the published ones: ours and theirs."""
    raw = read_lines(folder / f"{name}.jsonl")
    candidates = tokenize_lines([row["candidate"] for row in raw])
    references = iter(tokenize_lines([text for row in raw for text in row["references"]]))
    grouped = [[next(references) for _ in row["references"]] for row in raw]
    differing = []
    for row, expected in enumerate(read_lines(folder / f"{name}.tokens.jsonl")):
        ours = [candidates[row], *grouped[row]]
        theirs = [expected["candidate"], *expected["references"]]
        differing += [pair for pair in zip(ours, theirs, strict=True) if pair[0] != pair[1]]
    return differing


@pytest.mark.parametrize("name", cases())
def test_every_published_line_of_tokens_is_equal(name):
    if not (truth_folder() / f"{name}.tokens.jsonl").is_file():
        pytest.skip(f"no tokens are published for {name}")
    assert tokens_differing(truth_folder(), name) == []
