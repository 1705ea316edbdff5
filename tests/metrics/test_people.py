"""Words for women and men: which images count, and what their captions say."""

from prefixcap.metrics.people import PeopleWords, people_words


def test_captions_are_counted_by_what_the_references_agree_on():
    woman, man = ["a woman runs", "the lady runs", "a runner"], ["his dog", "a man", "a dog"]
    references = {
        "1": woman,
        "2": woman,
        "3": woman,
        "4": woman,
        "5": man,
        "unclear": ["a man and a woman", "a woman", "a woman"],
        "told once": ["a girl", "a runner", "a person"],
        "nobody": ["a dog", "a brown dog"],
    }
    captions = dict.fromkeys(references, "a man runs") | {
        "1": "a girl runs",
        "3": "a runner in the humane mangrove",
        "4": "a man and a woman",
    }
    assert people_words(captions, references) == {
        "women": PeopleWords(4, 0.25, 0.25, 0.25, 0.25),
        "men": PeopleWords(1, 1.0, 0.0, 0.0, 0.0),
    }


def test_a_group_without_images_is_left_out():
    assert people_words({"a": "a dog"}, {"a": ["a dog", "a cat"]}) == {}
