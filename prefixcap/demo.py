"""One HTML page of sample photographs with their captions, alternatives and prefix words."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template

from PIL import Image

import prefixcap
from prefixcap import atomic
from prefixcap.captioner import Caption, Captioner
from prefixcap.errors import InputError, MissingExtraError
from prefixcap.explain.prefix import NearestToken, prefix_as_words
from prefixcap.images import open_rgb
from prefixcap.web_page import packaged, photo_uri, web_page

# The photographs among the images inside scikit-image's wheel; its others are textures, drawings
# and microscope images, or are fetched from the network on first use.
SAMPLES = (
    "astronaut.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "motorcycle_left.png",
    "rocket.jpg",
)
BEAM = 5  # the paper's and the original's beam: the caption and four alternatives
NEAREST = 3  # tokens per prefix vector: the first is shown, all three on hovering
SHOWN_PX = 720  # longest side of a photo in the page


@dataclass(frozen=True)
class Entry:
    """A photo of the page: its captions, best first, and the nearest tokens of each vector."""

    name: str
    image: Image.Image
    captions: Sequence[Caption]
    slots: Sequence[Sequence[NearestToken]]


def sample_photos() -> list[Path]:
    """Paths of the sample photographs inside the installed scikit-image.

    Raises:
        MissingExtraError: scikit-image is not installed.
        InputError: this release of it has none of the photographs.
    """
    found = importlib.util.find_spec("skimage")
    if found is None or found.origin is None:
        raise MissingExtraError("scikit-image", "demo", "The demo")
    folder = Path(found.origin).parent / "data"
    photos = [folder / name for name in SAMPLES if (folder / name).is_file()]
    if not photos:
        raise InputError(
            f"{folder}: none of the sample photographs is there, expected {SAMPLES[0]} and others; "
            "install scikit-image again"
        )
    return photos


def caption_photos(captioner: Captioner, photos: Sequence[Path]) -> list[Entry]:
    """What the page shows of each photo, in order; captions by a beam of five."""
    model = captioner.model
    options = model.config.decoding.model_copy(
        update={"method": "beam", "beam_size": BEAM, "captions_per_image": BEAM}
    )
    images = [open_rgb(photo) for photo in photos]
    captions = captioner.captions(images, options)
    slots = prefix_as_words(model, captioner.embed(images), NEAREST)
    names = [photo.name for photo in photos]
    return [Entry(*parts) for parts in zip(names, images, captions, slots, strict=True)]


def write_page(entries: Sequence[Entry], model_name: str, out: Path) -> Path:
    """Path of the page `index.html` in folder `out`; the photos are inside the page.

    Raises:
        OSError: `out` cannot be made or written.
    """
    out.mkdir(parents=True, exist_ok=True)
    atomic.write_text(out / "index.html", render(entries, model_name))
    return out / "index.html"


def render(entries: Sequence[Entry], model_name: str) -> str:
    """The page as HTML, complete without any other file."""
    count = len(entries)
    model, version = escape(model_name), escape(prefixcap.__version__)
    title = f"{count} photograph{'s' if count != 1 else ''}, captioned by {model}"
    body = Template(packaged("demo.html")).substitute(
        title=title,
        summary=f"The caption is the best of a beam of {BEAM}, the alternatives are the others. "
        "Scores are mean log-probabilities per token: nearer to 0 is surer.",
        slots=len(entries[0].slots) if entries else 0,
        articles="\n".join(_article(entry) for entry in entries),
        origin=f"Written by <code>prefixcap demo --model {model}</code>, prefixcap {version}. "
        "The photographs come with the Python package scikit-image.",
    )
    return web_page(title, body, "demo.css")


def _article(entry: Entry) -> str:
    """One photo with everything that was said about it."""
    best, *others = entry.captions
    return f"""<article>
<figure><img src="{photo_uri(entry.image, SHOWN_PX)}" alt="{escape(best.text)}">
<figcaption>{escape(entry.name)}</figcaption></figure>
<div>
<h2>{escape(best.text)}</h2>
<h3>Alternatives (score of the caption itself {best.score:.2f})</h3>
<ol class="captions">{"".join(_alternative(caption) for caption in others)}</ol>
<h3>Prefix as words</h3>
<ol class="slots">{"".join(_slot(nearest) for nearest in entry.slots)}</ol>
</div>
</article>"""


def _alternative(caption: Caption) -> str:
    """One line of the alternatives: text and score."""
    return f"<li>{escape(caption.text)}<span>{caption.score:.2f}</span></li>"


def _slot(nearest: Sequence[NearestToken]) -> str:
    """The word of one prefix vector with its cosine; all its nearest ones on hovering."""
    listed = ", ".join(f"{token.text} {token.similarity:.2f}" for token in nearest)
    first = nearest[0]
    cosine = f"<i>{first.similarity:.2f}</i>"
    return f'<li title="{escape(listed)}">{escape(first.text)}{cosine}</li>'
