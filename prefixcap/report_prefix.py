"""What prefixes say and where embeddings lie: files in a run's folder, shown where they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefixcap.datasets.annotations import read_object
from prefixcap.errors import InputError
from prefixcap.report_charts import SERIES, Chart, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WORDS_FILE, MAP_FILE = "prefix-words.json", "embedding-map.json"
KINDS = {"image": ("images", "o", SERIES[0]), "caption": ("captions", "^", SERIES[1])}


@dataclass(frozen=True)
class PrefixWords:
    """Nearest vocabulary tokens of each prefix slot.

    Attributes:
        images: `{image_id, caption, slots}` each; a slot is a list of `{text, similarity}`.
        shared: share of slots, 0 to 1, whose first word is the same in most images; None: unknown.
    """

    images: Sequence[dict[str, Any]]
    shared: float | None


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
    return PrefixWords(images, content.get("shared"))


def map_chart(name: str, folder: Path) -> Chart | None:
    """The embedding map in a run's folder as a chart, None where there is none.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / MAP_FILE
    if not path.is_file():
        return None
    content = read_object(path, ("points",), "an embedding map")
    try:
        points = [(str(p["kind"]), float(p["x"]), float(p["y"])) for p in content["points"]]
        kinds = {kind: KINDS[kind] for kind in dict.fromkeys(kind for kind, _, _ in points)}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not as docs/report.md says ({error!r}). Write it again") from (
            error
        )
    method = str(content.get("method") or "map")

    def paint(axes: "Axes") -> None:
        for kind, (label, marker, colour) in kinds.items():
            x, y = zip(*((x, y) for k, x, y in points if k == kind), strict=True)
            axes.plot(
                x, y, marker, color=colour, markersize=3, alpha=0.7, label=label, linestyle="none"
            )
        axes.set_xlabel(f"{method}, first dimension (no unit)")
        axes.set_ylabel(f"{method}, second dimension (no unit)")
        axes.tick_params(labelbottom=False, labelleft=False, length=0)

    caption = (
        f"Embeddings of {len(points):,} images and captions by {method}, run {name}. Near points "
        "are alike; distances between far ones mean nothing."
    )
    return draw(f"map-{name}", caption, paint, 4.2)
