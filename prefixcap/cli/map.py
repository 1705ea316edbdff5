"""`prefixcap map`: embeddings of images and captions laid out in two dimensions."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from prefixcap.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from prefixcap.datasets.records import CaptionRecord
    from prefixcap.embedding_map.page import Texts
    from prefixcap.embedding_map.source import StoredImages

Sources = Annotated[
    list[Path],
    typer.Argument(
        metavar="SOURCES...",
        help="Recipes, runs, stores, or folders of a matrix .npy with names .txt.",
    ),
]
Out = Annotated[Path, typer.Option(help="Folder of index.html and the files.")]
Model = Annotated[
    str | None, typer.Option("--model", "-m", help="ClipCap whose word vectors embed captions.")
]
ClipName = Annotated[
    str | None, typer.Option("--clip", help="CLIP or SigLIP that made the store: embeds captions.")
]
TextFile = Annotated[
    Path | None, typer.Option("--texts", help="Matrix .npy of texts in the images' space.")
]
TextNames = Annotated[
    Path | None, typer.Option("--text-names", help="Its texts: one a line, or JSON.")
]
Data = Annotated[
    str | None,
    typer.Option(help="FORMAT=PATH of photos and captions, where SOURCES have no recipe."),
]
Part = Annotated[
    Literal["data", "dev", "test"] | None, typer.Option(help="Only these photos of a recipe.")
]
Most = Annotated[int, typer.Option("--most", min=4, help="Images at most, evenly spaced.")]
Method = Annotated[Literal["tsne", "umap"], typer.Option(help="umap needs umap-learn.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the layout.")]


def draw_map(
    sources: Sources,
    out: Out = Path("map"),
    model: Model = None,
    clip: ClipName = None,
    texts: TextFile = None,
    text_names: TextNames = None,
    data: Data = None,
    part: Part = None,
    most: Most = 2000,
    method: Method = "tsne",
    seed: Seed = 0,
) -> None:
    """Lay out stored image embeddings, and captions or texts, in two dimensions (t-SNE or UMAP).

    Writes index.html, SVG, PNG, and embedding-map.json, which prefixcap report shows where OUT is
    a run's folder. Several sources are written into folders of their names.
    """
    from prefixcap.embedding_map.page import build_map, write_map
    from prefixcap.embedding_map.source import stored_images

    if sum(one is not None for one in (model, clip, texts)) > 1:
        raise InputError("--model, --clip and --texts: each of them brings the texts; give one")
    if (texts is None) != (text_names is None):
        raise InputError("--texts and --text-names: belong together; give both")
    known = _records(data)
    for source in sources:
        images = stored_images(source, known, most, part)
        beside = _texts(images, model, clip, texts and (texts, text_names))
        content = build_map(images, beside, method, seed)
        written = write_map(content, images, out if len(sources) == 1 else out / images.name)
        for caption in content["captions"].values():
            typer.echo(caption)
        typer.echo(f"{len(written.files)} files. Open {written.page} in a browser.")


def _records(data: str | None) -> list["CaptionRecord"]:
    """Records of FORMAT=PATH, [] without one.

    Raises:
        InputError: it is not of that form, or cannot be read.
    """
    if data is None:
        return []
    from prefixcap import datasets

    name, equals, path = data.partition("=")
    if not (name and equals and path):
        raise InputError(f'--data: "{data}" is not FORMAT=PATH, such as flickr8k=data/flickr8k')
    return datasets.read(name, Path(path))


def _texts(
    images: "StoredImages",
    model: str | None,
    clip: str | None,
    files: tuple[Path, Path] | None,
) -> "Texts | None":
    """What stands beside the images.

    Raises:
        InputError: captions are wanted of images that have none, or a text tower of another width.
    """
    from prefixcap.embedding_map.page import Texts
    from prefixcap.embedding_map.source import named_texts

    if files is not None:
        names, vectors = named_texts(*files, images.vectors.shape[1])
        return Texts("text", names, vectors, True, files[0].name)
    if model is None and clip is None:
        return None
    captions = [record.captions[0] for record in images.records if record and record.captions]
    if len(captions) < len(images.ids):
        raise InputError(
            f"{images.name}: {len(images.ids) - len(captions)} of {len(images.ids)} images have no "
            "caption that is known; name their data, --data FORMAT=PATH, or leave the captions out"
        )
    if model is not None:
        return Texts("caption", captions, _word_means(model, captions), False, _by_words(model))
    return Texts("caption", captions, _tower(clip or "", captions, images), True, clip or "")


def _by_words(model: str) -> str:
    """How captions become vectors by a model's word vectors."""
    return f"the mean of their tokens' vectors in {model}"


def _word_means(model: str, captions: list[str]) -> "np.ndarray":
    """Mean token vectors (B, D) float32 of captions."""
    from prefixcap.captioner import load_model
    from prefixcap.embedding_map.source import caption_vectors
    from prefixcap.evaluate import weights_of
    from prefixcap.model import ClipCap

    found = load_model(weights_of(model))
    if not isinstance(found, ClipCap):
        raise InputError(f"{model}: an LSTM captioner; give a ClipCap, whose words are vectors")
    return caption_vectors(found, captions)


def _tower(clip: str, captions: list[str], images: "StoredImages") -> "np.ndarray":
    """Vectors (B, D) float32 of captions by the text half of a CLIP or SigLIP."""
    from prefixcap.encoder_names import resolve_encoder
    from prefixcap.text_tower import load_text_tower

    vectors = load_text_tower(resolve_encoder(clip)).encode(captions).numpy()
    if vectors.shape[1] != images.vectors.shape[1]:
        raise InputError(
            f"{clip}: its texts are {vectors.shape[1]} wide, the images {images.vectors.shape[1]}; "
            "give the CLIP that made the store"
        )
    return vectors
