"""Embedding maps: images and captions laid out in two dimensions, as a page and files."""

import importlib.util
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageOps

import prefixcap
from prefixcap import atomic
from prefixcap.datasets.records import CaptionRecord
from prefixcap.datasets.stored_photos import photo_source
from prefixcap.embedding_map.figure import (
    READING,
    photo_chart,
    photo_places,
    point_charts,
    points_of,
)
from prefixcap.embedding_map.source import StoredImages
from prefixcap.errors import InputError, MissingExtraError
from prefixcap.explain.numbers import content_words
from prefixcap.images import open_rgb
from prefixcap.report.charts import Chart
from prefixcap.report.prefix import MAP_FILE
from prefixcap.report.words import COLOURS, NUMBERS
from prefixcap.web_page import web_page

Method = Literal["tsne", "umap"]
TITLES = {"tsne": "t-SNE", "umap": "UMAP"}
TOPICS = 6  # as many as the charts have colours beside grey
NEIGHBOURS = 10
PCA_DIMENSIONS = 50  # before t-SNE, as its authors do (van der Maaten & Hinton 2008)
THUMBNAIL_PX = 72


@dataclass(frozen=True)
class Texts:
    """Vectors (K, D) float32 of texts beside the images.

    Attributes:
        kind: "caption" where row i is image i's caption, "text" for texts of their own.
        texts: what was embedded.
        vectors: (K, D) float32.
        joint: whether they are in the images' space.
        made_by: in words, how the vectors were made.
    """

    kind: Literal["caption", "text"]
    texts: Sequence[str]
    vectors: np.ndarray
    joint: bool
    made_by: str


def build_map(
    images: StoredImages, texts: Texts | None, method: Method = "tsne", seed: int = 0
) -> dict[str, Any]:
    """The JSON of a map; see docs/report.md.

    Vectors are normalised. Texts of the images' own space share their map: of both kinds the mean
    is taken away first, since CLIP keeps images and texts apart by a constant (Liang et al. 2022).
    Others have a map of their own.

    Raises:
        InputError: vectors without length.
        MissingExtraError: scikit-learn, or for UMAP umap-learn, is not installed.
    """
    names, topics = topics_of(images.records)
    kinds = [("image", unit(images.vectors), topics, [""] * len(images.ids), images.ids)]
    if texts is not None:
        numbers = (
            images.ids if texts.kind == "caption" else [str(i) for i in range(len(texts.texts))]
        )
        about = topics if texts.kind == "caption" else [""] * len(texts.texts)
        kinds.append((texts.kind, unit(texts.vectors), about, list(texts.texts), numbers))
    joint = texts is None or texts.joint
    vectors = [kind[1] for kind in kinds]
    if joint and len(kinds) > 1:
        vectors = [np.concatenate([unit(one - one.mean(0)) for one in vectors])]
    places = [layout(one, method, seed) for one in vectors]
    near = perplexity(len(vectors[0]))
    if len(places) < len(kinds):
        places = np.split(places[0], [len(images.ids)])
    points = [
        {"kind": kind, "id": one, "x": round(float(x), 3), "y": round(float(y), 3)}
        | ({"topic": topic} if topic else {})
        | ({"text": text} if text else {})
        for (kind, _, about, words, ids), where in zip(kinds, places, strict=True)
        for one, topic, text, (x, y) in zip(ids, about, words, where, strict=True)
    ]
    content = {
        "method": TITLES[method],
        "seed": seed,
        "perplexity" if method == "tsne" else "neighbours": near,
        "source": images.name,
        "joint": joint,
        "topics": names,
        "points": points,
    }
    if texts is not None and texts.kind == "caption":
        content["shared_neighbours"] = shared_neighbours(kinds[0][1], kinds[1][1])
    return {**content, "captions": _captions(content, texts)}


def unit(vectors: np.ndarray) -> np.ndarray:
    """The vectors (M, D) at length 1.

    Raises:
        InputError: one has no length.
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not lengths.all():
        row = int(np.flatnonzero(lengths[:, 0] == 0)[0])
        raise InputError(f"row {row} of {len(vectors)} vectors is all zeros; leave it out")
    return vectors / lengths


def perplexity(count: int) -> int:
    """Neighbours that a layout of so many points looks at: the square root of it, from 5 to 50.

    Never more than a third of the points, which t-SNE needs.
    """
    return max(1, min(max(5, min(50, round(math.sqrt(count)))), (count - 1) // 3))


def layout(vectors: np.ndarray, method: Method, seed: int) -> np.ndarray:
    """Places (M, 2) float32 of unit vectors (M, D); the same seed gives the same places.

    Raises:
        MissingExtraError: the package is not installed.
    """
    if method == "umap":
        if importlib.util.find_spec("umap") is None:
            raise MissingExtraError("umap-learn", "umap", "--method umap")
        from umap import UMAP

        near = max(2, perplexity(len(vectors)))
        umap = UMAP(n_neighbors=near, metric="cosine", random_state=seed, n_jobs=1)
        return umap.fit_transform(vectors)
    if importlib.util.find_spec("sklearn") is None:
        raise MissingExtraError("scikit-learn", "map", "An embedding map")
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    if min(vectors.shape) > PCA_DIMENSIONS:
        vectors = PCA(PCA_DIMENSIONS, random_state=seed).fit_transform(vectors)
    near = perplexity(len(vectors))
    return TSNE(perplexity=near, init="pca", random_state=seed).fit_transform(vectors)


def topics_of(records: Sequence[CaptionRecord | None]) -> tuple[list[str], list[str]]:
    """The words most photos are about, and for each photo the one that is its own, "" for none.

    A photo is about a content word that half of its captions or more hold; of several, the rarest
    over all photos is its own. Colours and
    numbers are left out.
    """
    about = [_about(record) for record in records]
    counts = Counter(word for words in about for word in words)
    names = [word for word, _ in sorted(counts.items(), key=lambda one: (-one[1], one[0]))][:TOPICS]
    return names, [max(words & set(names), key=names.index, default="") for words in about]


def _about(record: CaptionRecord | None) -> frozenset[str]:
    """Content words in half of a record's captions or more."""
    if record is None or not record.captions:
        return frozenset()
    counts = Counter(word for text in record.captions for word in content_words([text]))
    return frozenset(
        word
        for word, count in counts.items()
        if 2 * count >= len(record.captions) and word not in COLOURS and word not in NUMBERS
    )


def shared_neighbours(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """Share of an item's nearest neighbours in one space that are so in the other, and chance's.

    Args:
        first: unit vectors (M, D) of items.
        second: unit vectors (M, E) of the same items.
    """
    count = min(NEIGHBOURS, len(first) - 1)
    near = []
    for vectors in (first, second):
        cosines = vectors @ vectors.T  # (M, M)
        np.fill_diagonal(cosines, -np.inf)
        near.append(np.argpartition(-cosines, count - 1, axis=1)[:, :count])
    same = [len(set(a) & set(b)) for a, b in zip(near[0].tolist(), near[1].tolist(), strict=True)]
    return {"of": count, "share": sum(same) / len(same) / count, "chance": count / (len(first) - 1)}


def _captions(content: dict[str, Any], texts: Texts | None) -> dict[str, str]:
    """What each chart shows, by the kind that it begins with."""
    points = content["points"]
    images = sum(point["kind"] == "image" for point in points)
    near = content.get("perplexity", content.get("neighbours"))
    how = f"{content['method']} of {content['source']}, {near} neighbours, seed {content['seed']}"
    topics = " Colours: the word in most of a photo's captions." if content["topics"] else ""
    if texts is None:
        return {"image": f"Embeddings of {images:,} images by {how}.{topics} {READING}"}
    others = "captions" if texts.kind == "caption" else "texts"
    shared = content.get("shared_neighbours")
    agree = (
        f" Of the {shared['of']} nearest images of an image, {100 * shared['share']:.0f} % are "
        f"also nearest by caption; chance: {100 * shared['chance']:.1f} %."
        if shared
        else ""
    )
    if content["joint"]:
        both = f"{images:,} images and {len(points) - images:,} {others}"
        centred = " The mean of each kind is taken away."
        return {
            "image": f"{both} in one space ({texts.made_by}), by {how}.{centred}{topics}{agree} "
            f"{READING}"
        }
    return {
        "image": f"Embeddings of {images:,} images by {how}.{topics}{agree} {READING}",
        texts.kind: f"Their {others}, {texts.made_by}, by {content['method']} on their own, in the "
        f"same colours. {READING}",
    }


@dataclass(frozen=True)
class WrittenMap:
    """The page of a map and the files beside it."""

    page: Path
    files: Sequence[Path]


def write_map(content: dict[str, Any], images: StoredImages, out: Path) -> WrittenMap:
    """Write the JSON, the figures as SVG and PNG, and a page with their captions into `out`.

    Raises:
        InputError: a photo that the map would show cannot be opened.
        MissingExtraError: matplotlib is not installed.
        OSError: `out` cannot be made or written.
    """
    charts = point_charts(images.name, content)
    pictures = _photo_chart(content, images)
    charts += [pictures] if pictures else []
    out.mkdir(parents=True, exist_ok=True)
    atomic.write_json(out / MAP_FILE, content)
    files = [out / MAP_FILE]
    for chart in charts:
        atomic.write_text(out / f"{chart.name}.svg", chart.svg)
        atomic.write_bytes(out / f"{chart.name}.png", chart.png)
        files += [out / f"{chart.name}.svg", out / f"{chart.name}.png"]
    atomic.write_text(out / "index.html", _page(images.name, charts))
    return WrittenMap(out / "index.html", files)


def _photo_chart(content: dict[str, Any], images: StoredImages) -> Chart | None:
    """A chart with photos at their places, None where no photo is known."""
    points = [point for point in points_of(content) if point.kind == "image"]
    known = [place for place, record in enumerate(images.records) if record is not None]
    if not known:
        return None
    places = photo_places([points[place] for place in known])
    photos = {cell: _thumbnail(images.records[known[place]]) for place, cell in places.items()}
    return photo_chart(f"map-{images.name}-photos", content["method"], photos, len(points))


def _thumbnail(record: CaptionRecord) -> np.ndarray:
    """The middle of a photo, (S, S, 3) uint8."""
    photo = open_rgb(photo_source(record.path))
    size = (THUMBNAIL_PX, THUMBNAIL_PX)
    return np.asarray(ImageOps.fit(photo, size, Image.Resampling.LANCZOS))


def _page(name: str, charts: Sequence[Chart]) -> str:
    """The figures with their captions as HTML, complete without any other file."""
    title = f"Embedding map of {escape(name)}"
    figures = "\n".join(
        f'<figure class="chart">{chart.inline}<figcaption>{escape(chart.caption)}</figcaption>'
        "</figure>"
        for chart in charts
    )
    body = f"""<header><h1>{title}</h1></header>
<main><div class="charts">
{figures}
</div></main>
<footer><p>Written by prefixcap {escape(prefixcap.__version__)}, prefixcap map.</p></footer>"""
    return web_page(title, body, "report/page.css")
