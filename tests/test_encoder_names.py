"""Names mean what their publishers mean, and weights are found where those put them."""

import pytest
import torch

from prefixcap.clip_resnet import ClipResNet, ClipResNetSizes
from prefixcap.encoder import load_encoder
from prefixcap.encoder_names import resolve_encoder
from prefixcap.errors import InputError
from tests.tiny_encoders import (
    clip_resnet,
    visual,
)


@pytest.mark.parametrize(
    ("name", "kind", "found"),
    [
        ("ViT-B/32", "clip", "openai/clip-vit-base-patch32"),
        ("ViT-B/16", "clip", "openai/clip-vit-base-patch16"),
        ("ViT-L/14", "clip", "openai/clip-vit-large-patch14"),
        ("ViT-L/14@336px", "clip", "openai/clip-vit-large-patch14-336"),
        ("RN50x64", "clip_resnet", "RN50x64"),
        ("google/siglip-so400m-patch14-384", "siglip", "google/siglip-so400m-patch14-384"),
        ("google/siglip2-base-patch16-224", "siglip", "google/siglip2-base-patch16-224"),
        ("facebook/dinov2-small", "dinov2", "facebook/dinov2-small"),
        ("weights/RN50.pt", "clip_resnet", "weights/RN50.pt"),
    ],
)
def test_names_mean_what_their_publishers_mean(name, kind, found):
    config = resolve_encoder(name)
    assert (config.kind, config.name) == (kind, found)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(
        InputError, match=r"vitb32: is no encoder known here\. Give one of ViT-B/32"
    ):
        resolve_encoder("vitb32")


def test_openais_resnets_are_found_where_its_package_keeps_them(monkeypatch, tmp_path):
    monkeypatch.setattr("prefixcap.encoder_names.OPENAI_CACHE", tmp_path)
    sizes = ClipResNetSizes((1, 1, 1, 1), 8, 4, 32, 6)
    network = ClipResNet(sizes).eval()
    torch.save({f"visual.{n}": t for n, t in network.state_dict().items()}, tmp_path / "RN50x4.pt")
    encoder = load_encoder(resolve_encoder("RN50x4"))
    assert encoder.network.sizes == sizes and encoder.embedding_dim == 6


@pytest.mark.parametrize("content", ["{", "[]", '{"heads": "many"}', '{"heads": 0}'])
def test_damaged_sizes_beside_a_file_are_refused(content, tmp_path):
    torch.save(visual(clip_resnet()), tmp_path / "rn.pt")
    (tmp_path / "rn.json").write_text(content)
    with pytest.raises(InputError, match=r"rn\.json: .*(sizes|heads)"):
        load_encoder(resolve_encoder(str(tmp_path / "rn.pt")))
