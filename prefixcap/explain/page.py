"""An explanation as one HTML page with photos and maps inside, and as JSON."""

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import prefixcap
from prefixcap import atomic
from prefixcap.explain.heat_maps import heat_map
from prefixcap.explain.photos import PHOTO_PX, ExplainedPhoto, Explanation, Look
from prefixcap.web_page import packaged, photo_uri, web_page

PAGE, FACTS = "index.html", "explain.json"
MAP_PX = 240  # longest side of a map in the page
WORD = re.compile(r"[\w'-]+")
SLOTS_TEXT = (
    "Each photo becomes a prefix of vectors, one a slot, which the language model continues into "
    "the caption. A slot is named by the vocabulary tokens nearest to its vector, with their "
    "cosine similarity."
)
EFFECTS_TEXT = (
    "Below it: how many nats the caption's log-probability changes when the slot is replaced by "
    "its mean over the other photos, and the caption that is written then, new words marked."
)
WORDS_TEXT = "The caption word by word, and where the model looked when it wrote each of them."
MAPS_TEXT = (
    "Maps show {maps}. The more orange, the nearer to the map's own highest weight; “peak” is that "
    "weight, “even” what each of the {positions} places would have if all were equal."
)


def write_explanation(explanation: Explanation, out: Path) -> Path:
    """Path of the page in folder `out`; `explain.json` beside it holds the same as numbers.

    Raises:
        OSError: `out` cannot be made or written.
    """
    out.mkdir(parents=True, exist_ok=True)
    atomic.write_json(out / FACTS, facts(explanation))
    atomic.write_text(out / PAGE, page(explanation))
    return out / PAGE


def facts(explanation: Explanation) -> dict[str, Any]:
    """All of an explanation but the pictures, for JSON."""
    shared = explanation.sharing
    return {
        "model": explanation.model,
        "of": explanation.of,
        "maps": explanation.maps or None,
        "sharing": vars(shared) if shared else None,
        "same_word": explanation.same_word,
        "skipped": [{"photo": one.key, "reason": one.reason} for one in explanation.skipped],
        "photos": [
            {
                "photo": photo.name,
                "caption": photo.caption.text,
                "score": photo.caption.score,
                "pooled": photo.pooled,
                explanation.of: [_look_facts(look, explanation.of) for look in photo.looks],
            }
            for photo in explanation.photos
        ],
    }


def _look_facts(look: Look, of: str) -> dict[str, Any]:
    """One slot or word for JSON."""
    if of == "words":
        return {"text": look.nearest[0].text, "attention": look.weights}
    effect = look.effect
    return {
        "nearest": [{"text": one.text, "similarity": one.similarity} for one in look.nearest],
        "without": effect and {"log_prob_change": effect.log_prob, "caption": effect.caption},
        "attention": look.weights,
    }


def page(explanation: Explanation) -> str:
    """The page as HTML, complete without any other file."""
    count = len(explanation.photos)
    model, what = escape(explanation.model), "prefix" if explanation.of == "slots" else "attention"
    name = escape(_short_name(explanation.model))
    title = f"The {what} of {name} on {count} photo{'s' if count != 1 else ''}"
    body = Template(packaged("explain/page.html")).substitute(
        title=title,
        summary="\n".join(f"<p>{escape(text)}</p>" for text in _summary(explanation)),
        numbers=_numbers(explanation),
        articles="\n".join(_article(photo, explanation) for photo in explanation.photos),
        skipped=_skipped(explanation),
        origin=f"Written by <code>prefixcap explain --model {model}</code>, "
        f"prefixcap {escape(prefixcap.__version__)}.",
    )
    return web_page(title, body, "explain/page.css")


def _short_name(model: str) -> str:
    """The name of a run or of a model's folder, without the way there; other names as they are."""
    folder = Path(model)
    if not folder.is_dir():
        return model
    folder = folder.resolve()
    return folder.parent.name if folder.name in ("best", "model") else folder.name


def _summary(explanation: Explanation) -> list[str]:
    """How the page is read, in paragraphs."""
    if explanation.of == "words":
        texts = [WORDS_TEXT]
    else:
        texts = [SLOTS_TEXT]
        if explanation.sharing:
            texts.append(EFFECTS_TEXT)
        else:
            texts.append("With two photos or more, the page also shows what each slot carries.")
    positions = _positions(explanation)
    if explanation.maps and positions:
        texts.append(MAPS_TEXT.format(maps=explanation.maps, positions=positions))
    return texts


def _positions(explanation: Explanation) -> int:
    """Places of the maps' grid, 0 without maps."""
    for photo in explanation.photos:
        weights = photo.pooled or next((look.weights for look in photo.looks), None)
        if weights:
            return len(weights)
    return 0


def _numbers(explanation: Explanation) -> str:
    """A table with a row for each slot: what it shares between photos, what it carries."""
    shared = explanation.sharing
    if shared is None:
        return ""
    heads = ("slot", "nearest tokens", "cosine", "differs", "directions", "nats", "changed")
    rows = []
    for slot in range(len(shared.cosine)):
        looks = [photo.looks[slot] for photo in explanation.photos]
        words = list(dict.fromkeys(look.nearest[0].text for look in looks))
        changed = sum(
            look.effect.caption != photo.caption.text
            for look, photo in zip(looks, explanation.photos, strict=True)
        )
        cells = [
            str(slot + 1),
            ", ".join(words[:4]) + (" …" if len(words) > 4 else ""),
            f"{shared.cosine[slot]:.2f}",
            f"{100 * shared.between[slot]:.0f} %",
            f"{shared.directions[slot]:.1f}" if shared.between[slot] >= 0.005 else "",
            signed(sum(look.effect.log_prob for look in looks) / len(looks)),
            f"{changed} of {len(looks)}",
        ]
        rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    return f"""<section>
<h2>Slot by slot</h2>
<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>
<p class="under">Cosine: between different photos' vectors of the slot, 1 is the same for all.
Differs: share of the vectors' squared length that is not the same for all photos. Directions: in
how many the photos differ, at most {len(explanation.photos) - 1}. Nats: mean change of the
caption's log-probability without the slot. Changed: captions that read otherwise without it.</p>
</section>"""


def _article(photo: ExplainedPhoto, explanation: Explanation) -> str:
    """One photo, its caption and everything that looked at it."""
    cards = "".join(
        _card(photo, number, look, explanation.of) for number, look in enumerate(photo.looks, 1)
    )
    pooled = ""
    if photo.pooled:
        pooled = (
            f'<h3>Where all slots look</h3><div class="pooled">{_map(photo, photo.pooled)}</div>'
        )
    return f"""<article>
<figure><img src="{photo_uri(photo.image, PHOTO_PX)}" alt="{escape(photo.caption.text)}">
<figcaption>{escape(photo.name)}</figcaption></figure>
<div>
<h2>{escape(photo.caption.text) or "(no caption)"}</h2>
{pooled}
<ol class="looks {explanation.of}">{cards}</ol>
</div>
</article>"""


def _card(photo: ExplainedPhoto, number: int, look: Look, of: str) -> str:
    """One slot or word: its map, its name, what it does."""
    drawn = _map(photo, look.weights) if look.weights else ""
    if of == "words":
        return f"<li>{drawn}<b>{escape(look.nearest[0].text)}</b></li>"
    first, *others = look.nearest
    more = ", ".join(f"{one.text} {one.similarity:.2f}" for one in others)
    effect = ""
    if look.effect:
        fresh = _marked(look.effect.caption or "", photo.caption.text)
        without = "same caption" if look.effect.caption == photo.caption.text else fresh
        effect = f'<p class="without"><b>{signed(look.effect.log_prob)} nats</b> {without}</p>'
    return (
        f"<li>{drawn}<p><small>{number}</small> <b>{escape(first.text)}</b> "
        f"<i>{first.similarity:.2f}</i></p><p class='more'>{escape(more)}</p>{effect}</li>"
    )


def signed(value: float) -> str:
    """A change with its sign, two decimals; nothing is 0.00."""
    return f"{value:+.2f}" if abs(value) >= 0.005 else "0.00"


def _marked(text: str, before: str) -> str:
    """The text as HTML, its words that `before` does not have marked."""
    known = set(WORD.findall(before.lower()))
    parts, end = [], 0
    for word in WORD.finditer(text):
        parts.append(escape(text[end : word.start()]))
        shown = escape(word.group())
        parts.append(shown if word.group().lower() in known else f"<mark>{shown}</mark>")
        end = word.end()
    return "".join(parts) + escape(text[end:])


def _map(photo: ExplainedPhoto, weights: Sequence[float]) -> str:
    """Weights drawn over the photo, and how far from even they are."""
    peak, even = 100 * max(weights), 100 / len(weights)
    drawn = heat_map(photo.image, weights, photo.seen)
    return (
        f'<img src="{photo_uri(drawn, MAP_PX)}" alt="" loading="lazy">'
        f'<small class="peak">peak {peak:.0f} %, even {even:.1f} %</small>'
    )


def _skipped(explanation: Explanation) -> str:
    """A list of the photos that cannot be read."""
    if not explanation.skipped:
        return ""
    lines = "".join(
        f"<li>{escape(one.key)}: {escape(one.reason)}</li>" for one in explanation.skipped
    )
    return f"<section><h2>Skipped</h2><ul>{lines}</ul></section>"
