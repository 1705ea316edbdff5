"""What an encoder sees, without a captioner: captions of the nearest training photos.

Of the captions of the `--neighbours` nearest photos of Flickr8k's train list (cosine of
standardised pooled features) each dev photo gets the one closest to the others by CIDEr-D.
The recipe says how photos are preprocessed; its encoder's weights come from `--encoder`, a run or
model folder, or the recipe's distillation teacher is taken.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from prefixcap.batches import read_source
from prefixcap.datasets.records import CaptionRecord
from prefixcap.encoder import ImageEncoder, build_encoder, load_encoder
from prefixcap.evaluate import open_photos
from prefixcap.metrics import CiderReferences, DocumentFrequencies, score
from prefixcap.metrics.ptb import tokenize_lines
from prefixcap.preprocess import pixels
from prefixcap.recipe import Recipe, SourceConfig, expand, load_recipe
from prefixcap.recipe_encoder import start_from

BATCH = 32


def main() -> None:
    """Print CIDEr-D and BLEU-4 of the neighbours' captions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--encoder", default="", help="folder of a distillation or a model")
    parser.add_argument("--teacher", action="store_true", help="the recipe's teacher instead")
    parser.add_argument("--flickr8k", default="$PREFIXCAP_DATA/flickr8k")
    parser.add_argument("--first", type=int, default=500, help="dev photos")
    parser.add_argument("--first-train", type=int, default=None, help="training photos")
    parser.add_argument("--neighbours", type=int, default=50)
    asked = parser.parse_args()
    encoder = chosen_encoder(load_recipe(asked.recipe), asked.encoder, teacher=asked.teacher)
    train = records(asked.flickr8k, "train", asked.first_train)
    dev = records(asked.flickr8k, "dev", asked.first)
    captions = neighbours_captions(features(encoder, train), features(encoder, dev), train, asked)
    written = {record.image_id: text for record, text in zip(dev, captions, strict=True)}
    found = score(written, {r.image_id: r.captions for r in dev}, ("cider", "bleu")).corpus
    print(
        f"{len(dev)} photos: CIDEr-D {100 * found['CIDEr']:.1f}, BLEU-4 {100 * found['BLEU-4']:.1f}"
    )


def chosen_encoder(recipe: Recipe, folder: str, *, teacher: bool) -> ImageEncoder:
    """The recipe's encoder with the weights of `folder`, or its teacher, in bf16."""
    if teacher:
        config = recipe.distill.teacher
        name = str(expand(config.name))
        return load_encoder(config.model_copy(update={"name": name}), dtype=torch.bfloat16)
    encoder = build_encoder(recipe.encoder)
    start_from(encoder, folder)
    return encoder.eval().to(torch.bfloat16)


def records(path: str, split: str, first: int | None) -> list[CaptionRecord]:
    """Flickr8k's photos of one list."""
    return read_source(SourceConfig(format="flickr8k", path=path, split=split, first=first), split)


@torch.inference_mode()
def features(encoder: ImageEncoder, photos: list[CaptionRecord]) -> np.ndarray:
    """Mean patch (M, D) float32 of each photo."""
    parts = []
    for start in range(0, len(photos), BATCH):
        _, images, _ = open_photos(photos[start : start + BATCH])
        batch = np.stack([pixels(image, encoder.config.preprocess) for image in images])
        patches = encoder.network(torch.from_numpy(batch).to(torch.bfloat16))[1]  # (B, N, D)
        parts.append(patches.float().mean(1).numpy())
    return np.concatenate(parts)


def neighbours_captions(
    known: np.ndarray, new: np.ndarray, train: list[CaptionRecord], asked: argparse.Namespace
) -> list[str]:
    """The neighbours' caption that agrees best with the others, for each row of `new` (M, D)."""
    mean, spread = known.mean(0), known.std(0) + 1e-6
    known, new = (known - mean) / spread, (new - mean) / spread
    known /= np.linalg.norm(known, axis=1, keepdims=True)
    nearest = np.argsort(-(new @ known.T), axis=1)[:, : asked.neighbours]
    tokens = [tokenize_lines(list(record.captions)) for record in train]
    frequencies = DocumentFrequencies.of(tokens)
    captions = []
    for rows in nearest:
        said = [text for row in rows for text in tokens[row]]
        agreement = CiderReferences({0: said}, frequencies).score([0] * len(said), said)
        captions.append(said[int(np.argmax(agreement))])
    return captions


if __name__ == "__main__":
    main()
