"""Small captioners with patch tokens and photos for them, for tests of explanations."""

from pathlib import Path

import numpy as np
import torch

from prefixcap.captioner import Captioner
from prefixcap.config import DecodeOptions, MapperConfig
from prefixcap.encoder import build_encoder
from prefixcap.images import Photo
from prefixcap.model import ClipCap
from tests import tiny_clipcap
from tests.tiny_captioner import random_photo

MAPPER = MapperConfig(prefix_length=3, layers=2, heads=4)


def patch_model(mapper: MapperConfig = MAPPER) -> ClipCap:
    """ClipCap over the patch tokens of its own small encoder, with random weights."""
    torch.manual_seed(0)
    encoder = build_encoder(tiny_clipcap.RESNET).eval()
    shape = encoder(torch.zeros(1, 3, 32, 32)).shape
    model = tiny_clipcap.tiny_model(
        encoder=encoder.config,
        embedding_dim=shape[2],
        embedding_tokens=shape[1],
        mapper=mapper,
        decoding=DecodeOptions(max_tokens=5, stop="end"),
    )
    model.encoder = encoder
    seen = encoder.encode([random_photo(np.random.default_rng(n)) for n in range(8)])
    with torch.no_grad():  # so that prefixes differ between photos
        first = model.mapper.hidden if mapper.kind == "patches" else model.mapper.linear
        first.weight.normal_().div_(seen.std())
    return model.eval()


def patch_captioner(mapper: MapperConfig = MAPPER) -> Captioner:
    """Captioner of `patch_model`."""
    return Captioner(patch_model(mapper), "tiny <1>")


def photo_files(folder: Path, count: int) -> list[Photo]:
    """Different small photos in files."""
    photos = []
    for number in range(count):
        path = folder / f"{number}.png"
        random_photo(np.random.default_rng(number)).save(path)
        photos.append(Photo(path, path.name))
    return photos
