"""Images in two heaps of vectors with photos of two colours, for tests of embedding maps."""

from pathlib import Path

import numpy as np

from prefixcap import datasets
from prefixcap.embedding_map.source import StoredImages
from tests.tiny_run import write_photos


def heaps(folder: Path, count: int = 16) -> StoredImages:
    """`count` training images; those of even number lie in one heap, the others in another."""
    records = datasets.read("flickr8k", write_photos(folder), "train")[:count]
    generator = np.random.default_rng(0)
    vectors = generator.normal(0, 0.1, (count, 8))
    vectors[np.arange(count), np.arange(count) % 2] += 5
    ids = [record.image_id for record in records]
    return StoredImages("heaps", vectors.astype(np.float32), ids, list(records))


def write_matrix(folder: Path, images: StoredImages) -> Path:
    """Folder with the vectors as one matrix and their names, as other programs write them."""
    folder.mkdir()
    np.save(folder / "vectors.npy", images.vectors.astype(np.float16))
    (folder / "names.txt").write_text("\n".join(images.ids) + "\n")
    return folder
