"""Mistakes in captions that words alone give away, found by comparing with the references."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from prefixcap.metrics.ptb import tokenize_lines
from prefixcap.report.words import (
    ALSO_TWO,
    COLOURS,
    FUNCTION_WORDS,
    NUMBERS,
    OPEN_ENDS,
    VAGUE_NUMBERS,
    named_objects,
    persons,
    singular,
)


@dataclass(frozen=True)
class Said:
    """What a caption says, or several of them together.

    Attributes:
        words: in order, of a single caption.
        content: words that are no function words, without plurals.
        objects: COCO classes named.
        persons: of "male", "female", "person".
        numbers: from "two" on.
        vague: whether a word stands for an uncertain number.
        colours: named.
    """

    words: Sequence[str] = ()
    content: frozenset[str] = frozenset()
    objects: frozenset[str] = frozenset()
    persons: frozenset[str] = frozenset()
    numbers: frozenset[str] = frozenset()
    vague: bool = False
    colours: frozenset[str] = frozenset()


NO_WORD = ""  # stands for the class itself, where no word of the caption gave it away
PEOPLE = "people (one reference against the others)"
Errors = dict[str, list[str]]  # class name -> the words that gave it away


@dataclass(frozen=True)
class ErrorCounts:
    """Share of captions in each class, 0 to 1, and in any, of one model or of people."""

    name: str
    captions: int
    shares: Mapping[str, float]
    any_share: float


@dataclass(frozen=True)
class ErrorClass:
    """One kind of mistake: a short name, what is counted, and where that misleads."""

    name: str
    meaning: str
    limits: str
    find: Callable[[Said, Said], list[str]]


def said_by(captions: Iterable[str]) -> list[Said]:
    """What each caption says; tokenized as for the metrics."""
    return [_said(line.split()) for line in tokenize_lines(list(captions))]


def together(texts: Iterable[Said]) -> Said:
    """What captions say together; their order is no matter, so there are no words in it."""
    texts = list(texts)
    return Said(
        content=frozenset().union(*(text.content for text in texts)),
        objects=frozenset().union(*(text.objects for text in texts)),
        persons=frozenset().union(*(text.persons for text in texts)),
        numbers=frozenset().union(
            *(text.numbers | _two(text) for text in texts),
        ),
        vague=any(text.vague for text in texts),
        colours=frozenset().union(*(text.colours for text in texts)),
    )


def find_errors(captions: Mapping[str, str], references: Mapping[str, Said]) -> dict[str, Errors]:
    """Image id -> mistakes in its caption, of the images that have references."""
    texts = {image_id: text for image_id, text in captions.items() if image_id in references}
    return {
        image_id: _errors(said, references[image_id])
        for image_id, said in zip(texts, said_by(texts.values()), strict=True)
    }


def human_errors(references: Mapping[str, Sequence[Said]]) -> dict[str, Errors]:
    """The same of each image's first reference against its others: what good captions show.

    Images with a single reference are left out.
    """
    return {
        image_id: _errors(texts[0], together(texts[1:]))
        for image_id, texts in references.items()
        if len(texts) > 1
    }


def error_counts(name: str, found: Mapping[str, Errors]) -> ErrorCounts:
    """Shares of the classes among the captions in `found`."""
    counted = Counter(kind for errors in found.values() for kind in errors)
    shares = {one.name: counted[one.name] / len(found) for one in CLASSES}
    return ErrorCounts(name, len(found), shares, sum(map(bool, found.values())) / len(found))


def _errors(caption: Said, references: Said) -> Errors:
    """The classes that a caption falls into."""
    found = {one.name: one.find(caption, references) for one in CLASSES}
    return {name: words for name, words in found.items() if words}


def _said(words: Sequence[str]) -> Said:
    """What a tokenized caption says."""
    return Said(
        words,
        frozenset(singular(word) for word in words if word not in FUNCTION_WORDS),
        frozenset(named_objects(words)),
        frozenset(persons(words)),
        frozenset(NUMBERS[word] for word in words if word in NUMBERS),
        any(word in VAGUE_NUMBERS for word in words),
        frozenset(COLOURS[word] for word in words if word in COLOURS),
    )


def _two(said: Said) -> frozenset[str]:
    """ "two" where a reference says so in another word."""
    return frozenset({"two"} if ALSO_TWO.intersection(said.words) else ())


def _objects(caption: Said, references: Said) -> list[str]:
    return sorted(caption.objects - references.objects)


def _people(caption: Said, references: Said) -> list[str]:
    if not references.persons:
        return sorted(caption.persons)
    kinds = references.persons - {"person"}
    return sorted(caption.persons - {"person"} - kinds) if kinds else []


def _numbers(caption: Said, references: Said) -> list[str]:
    return [] if references.vague else sorted(caption.numbers - references.numbers)


def _colours(caption: Said, references: Said) -> list[str]:
    return sorted(caption.colours - references.colours) if references.colours else []


def _nothing_shared(caption: Said, references: Said) -> list[str]:
    alone = caption.content and not caption.content & references.content
    return [NO_WORD] if alone else []


def _repetition(caption: Said, _: Said) -> list[str]:
    words = caption.words
    twice = {first for first, second in pairwise(words) if first == second}
    threes = [" ".join(words[place : place + 3]) for place in range(len(words) - 2)]
    twice |= {three for three in threes if threes.count(three) > 1}
    content = [(place, word) for place, word in enumerate(words) if word not in FUNCTION_WORDS]
    for (place, word), (other, following) in pairwise(content):
        if word == following and "and" in words[place:other]:
            twice.add(f"{word} and {word}")
    return sorted(twice)


def _no_end(caption: Said, _: Said) -> list[str]:
    if not caption.words:
        return [NO_WORD]
    return [f"... {caption.words[-1]}"] if caption.words[-1] in OPEN_ENDS else []


CLASSES = (
    ErrorClass(
        "object",
        "Names an object of COCO's 80 classes (or a synonym) that no reference names; the idea of "
        "CHAIR (Rohrbach et al. 2018).",
        "Things outside the 80 classes are not seen; a thing that is there, but that nobody "
        "mentioned, counts.",
        _objects,
    ),
    ErrorClass(
        "person",
        "Names a person where no reference does, or only the other sex than the references.",
        "Age is not looked at; references guess the sex too.",
        _people,
    ),
    ErrorClass(
        "number",
        "Says a number from two on that no reference says, and no reference is vague about it "
        '("several", "a group").',
        'References that only use a plural ("dogs play") are no defence.',
        _numbers,
    ),
    ErrorClass(
        "colour",
        "Names a colour that no reference names, where some reference names one.",
        "Several things have colours, and the references may speak of another one.",
        _colours,
    ),
    ErrorClass(
        "nothing shared",
        "Shares no content word with any reference.",
        "Synonyms are not known: a right caption in other words counts.",
        _nothing_shared,
    ),
    ErrorClass(
        "repetition",
        'Says a word twice in a row, three words twice, or "X and X".',
        '"A man and another man" may be right.',
        _repetition,
    ),
    ErrorClass(
        "no end",
        "Is empty, or breaks off at a word that no sentence ends with, such as an article.",
        "A sentence that is cut after a noun is not noticed.",
        _no_end,
    ),
)
