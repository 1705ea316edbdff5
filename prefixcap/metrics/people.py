"""What captions say of women and men, against what their references say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WOMEN = frozenset(
    {"woman", "women", "girl", "girls", "lady", "ladies", "female", "females", "she", "her"}
    | {"hers", "mother", "mom", "daughter", "sister", "wife", "bride", "girlfriend", "grandmother"}
)
MEN = frozenset(
    {"man", "men", "boy", "boys", "guy", "guys", "gentleman", "gentlemen", "male", "males", "he"}
    | {"his", "him", "father", "dad", "son", "brother", "husband", "groom", "boyfriend"}
    | {"grandfather"}
)
AGREEING = 2  # references that must say it


@dataclass(frozen=True)
class PeopleWords:
    """Captions of the images whose references speak of one sex only.

    Attributes:
        images: how many there are.
        same: share of captions with a word of that sex and none of the other, 0 to 1.
        other: share with a word of the other sex and none of that one.
        both: share with words of both.
        neither: share without any.
    """

    images: int
    same: float
    other: float
    both: float
    neither: float


def people_words(
    captions: Mapping[str, str], references: Mapping[str, Sequence[str]]
) -> dict[str, PeopleWords]:
    """Of "women" and "men": the captions of images that at least two references say it of.

    Captions and references are tokenized, by image id. A model without bias has equal `other` in
    both groups (as in Hendricks et al. 2018, arXiv 1803.09797, section 4). A group without images
    is left out.
    """
    groups: dict[str, list[tuple[bool, bool]]] = {"women": [], "men": []}
    for image_id, caption in captions.items():
        told = [_says(reference) for reference in references[image_id]]
        women, men = (sum(says) for says in zip(*told, strict=True))
        says_women, says_men = _says(caption)
        if women >= AGREEING and not men:
            groups["women"].append((says_women, says_men))
        elif men >= AGREEING and not women:
            groups["men"].append((says_men, says_women))
    return {name: _shares(said) for name, said in groups.items() if said}


def _says(caption: str) -> tuple[bool, bool]:
    """Whether a tokenized caption speaks of women, and of men."""
    words = set(caption.split())
    return bool(words & WOMEN), bool(words & MEN)


def _shares(said: Sequence[tuple[bool, bool]]) -> PeopleWords:
    """Shares over one group; each pair says whether its own and the other sex is named."""
    pairs = ((True, False), (False, True), (True, True), (False, False))
    return PeopleWords(len(said), *(said.count(pair) / len(said) for pair in pairs))
