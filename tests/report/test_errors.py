"""Each error class on captions that fall into it, and on right ones that do not."""

import pytest

from prefixcap.report.errors import (
    CLASSES,
    NO_WORD,
    error_counts,
    find_errors,
    human_errors,
    said_by,
    together,
)

REFERENCES = [
    "A man in a red shirt throws a ball to his two dogs.",
    "Two dogs play fetch with a man on the grass.",
]


def errors(caption: str, references: list[str] = REFERENCES) -> dict[str, list[str]]:
    """Classes of one caption."""
    return find_errors({"1": caption}, {"1": together(said_by(references))})["1"]


def test_a_right_caption_falls_into_no_class():
    assert errors("A man in red plays with two dogs on grass.") == {}
    assert errors(REFERENCES[0]) == {}


@pytest.mark.parametrize(
    ("caption", "kind", "words"),
    [
        ("A man with a dog and a horse.", "object", ["horse"]),
        ("A woman plays with two dogs.", "person", ["female"]),
        ("A man with three dogs.", "number", ["three"]),
        ("A man in a blue shirt with dogs.", "colour", ["blue"]),
        ("A boat.", "nothing shared", [NO_WORD]),
        ("A man man with dogs.", "repetition", ["man"]),
        ("A dog and a dog.", "repetition", ["dog and dog"]),
        ("A man throws a ball to the", "no end", ["... the"]),
        ("", "no end", [NO_WORD]),
    ],
)
def test_a_mistake_is_found_with_its_word(caption, kind, words):
    assert errors(caption)[kind] == words


def test_what_references_leave_open_is_no_mistake():
    assert errors("A woman walks.", ["A person walks."]) == {}
    assert "number" not in errors("Two dogs run.", ["Several dogs run."])
    assert "number" not in errors("Two people sit.", ["A couple of people sit."])
    assert "colour" not in errors("A white boat.", ["A boat."])


def test_a_person_where_no_reference_has_one():
    assert errors("A person with dogs.", ["Dogs run."])["person"] == ["person"]


def test_people_are_judged_by_the_other_references():
    found = human_errors({"1": said_by(["A cat.", "A dog."]), "2": said_by(["A cat."])})
    assert found == {"1": {"object": ["cat"], "nothing shared": [NO_WORD]}}


def test_shares_are_of_all_captions_and_of_any_class():
    counts = error_counts("m", {"1": {"object": ["cat"], "colour": ["red"]}, "2": {}})
    assert (counts.captions, counts.any_share) == (2, 0.5)
    assert counts.shares["object"] == 0.5
    assert list(counts.shares) == [one.name for one in CLASSES]


def test_every_class_says_what_it_means_and_where_it_misleads():
    assert all(one.meaning and one.limits for one in CLASSES)
