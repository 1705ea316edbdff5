"""Objects and people by the words of captions."""

import pytest

from prefixcap.report.words import named_objects, persons, singular


@pytest.mark.parametrize(
    ("word", "one"),
    [("dogs", "dog"), ("benches", "bench"), ("puppies", "puppy"), ("grass", "grass"),
     ("buses", "bus"), ("women", "woman"), ("boxes", "box"), ("bus", "bus"), ("tennis", "tennis")],
)  # fmt: skip
def test_plurals_lose_their_ending(word, one):
    assert singular(word) == one


def test_objects_are_classes_and_not_words():
    assert named_objects(["two", "puppies", "near", "a", "motorbike"]) == {"dog", "motorcycle"}
    assert named_objects(["hot", "dogs", "and", "a", "teddy", "bear"]) == {"hot dog", "teddy bear"}
    assert named_objects(["a", "man", "on", "the", "grass"]) == set()


def test_people_by_sex():
    assert persons(["a", "policeman", "and", "two", "girls"]) == {"male", "female"}
    assert persons(["skiers"]) == {"person"}
    assert persons(["a", "dog"]) == set()
