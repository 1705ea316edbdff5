"""What prefixes say and where embeddings lie: files in a run's folder, shown where they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefixcap.datasets.annotations import read_object
from prefixcap.embedding_map.figure import point_charts
from prefixcap.errors import InputError
from prefixcap.report.charts import Chart
from prefixcap.report.tables import Cell, Table

WORDS_FILE, MAP_FILE = "prefix-words.json", "embedding-map.json"
NUMBERS = {  # column -> its value in the file, shares as percentages or plain
    "own caption": ("readability", "own_caption", 100),
    "references": ("readability", "references", 100),
    "other references": ("readability", "other_references", 100),
    "same word": ("readability", "same_word", 100),
    "nearest cosine": ("readability", "cosine", 1),
    "random cosine": ("readability", "random_cosine", 1),
    "image cosine": ("sharing", "cosine", 1),
    "differs": ("sharing", "between", 100),
}


@dataclass(frozen=True)
class PrefixWords:
    """Nearest vocabulary tokens of each prefix slot.

    Attributes:
        images: `{image_id, caption, slots}` each; a slot is a list of `{text, similarity}`.
        shared: share of slots, 0 to 1, whose first word is the same in most images; None: unknown.
        numbers: what `prefixcap explain` measured over a split, {} where it did not.
    """

    images: Sequence[dict[str, Any]]
    shared: float | None
    numbers: Mapping[str, Any] = field(default_factory=dict)


def read_words(folder: Path) -> PrefixWords | None:
    """The prefix words in a run's folder, None where there are none.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / WORDS_FILE
    if not path.is_file():
        return None
    content = read_object(path, ("images",), "a file of prefix words")
    try:
        images = [
            {
                "image_id": str(one["image_id"]),
                "caption": str(one["caption"]),
                "slots": [
                    [(str(token["text"]), float(token["similarity"])) for token in slot]
                    for slot in one["slots"]
                ],
            }
            for one in content["images"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not as docs/report.md says ({error!r}). Write it again") from (
            error
        )
    return PrefixWords(images, content.get("shared"), content.get("numbers") or {})


def words_table(words: Sequence[tuple[str, PrefixWords]]) -> Table | None:
    """A row for each run whose prefixes were measured, None where none was."""
    measured = [(name, one.numbers) for name, one in words if one.numbers]
    if not measured:
        return None
    caption = (
        "How readable and how shared prefixes are. Own caption, references, other references: "
        "slots, in %, whose nearest token is a content word of the model's caption, of the image's "
        "references, of another image's references (chance). Same word: slots, in %, with one "
        "nearest token in most images. Nearest and random cosine: of vectors, or of random ones, "
        "with the nearest token. Image cosine: between different images' vectors of a slot. "
        "Differs: squared length, in %, that is not the same for all images."
    )
    rows = [
        [
            Cell(name),
            Cell(str(numbers.get("images", ""))),
            *(_number(numbers, *where) for where in NUMBERS.values()),
        ]
        for name, numbers in measured
    ]
    return Table("prefix-words", caption, ["run", "images", *NUMBERS], rows)


def _number(numbers: Mapping[str, Any], part: str, name: str, factor: int) -> Cell:
    """One measured number, empty where it was not measured."""
    value = (numbers.get(part) or {}).get(name)
    if value is None:
        return Cell()
    return Cell(f"{factor * value:.1f}" if factor > 1 else f"{value:.2f}")


def map_charts(name: str, folder: Path) -> list[Chart]:
    """The embedding map in a run's folder as charts, none where there is none.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / MAP_FILE
    if not path.is_file():
        return []
    content = read_object(path, ("points",), "an embedding map")
    try:
        return point_charts(name, content)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not as docs/report.md says ({error!r}). Write it again") from (
            error
        )
