"""CLIPScore against the formula on transformers' own similarities; stores, unread photos."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, CLIPModel

from prefixcap.clipscore import clip_scores, load_clip
from prefixcap.datasets.records import CaptionRecord
from prefixcap.embeddings import EmbeddingStore, StoreItem
from prefixcap.encoder import load_encoder, resolve_encoder
from prefixcap.errors import InputError
from prefixcap.store_build import build_store
from tests.tiny_captioner import write_photos
from tests.tiny_clip import CONTEXT, save_whole_clip, save_whole_siglip
from tests.tiny_encoders import clip_processor
from tests.tiny_split import records as split_of_six

CAPTIONS = {"1": "a dog", "2": "Two cats on a bed", "3": "", "4": "a car", "5": "x", "6": "a boat"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Folder of a tiny CLIP."""
    return save_whole_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def split(tmp_path_factory) -> list[CaptionRecord]:
    """Six images with two references each."""
    photos = sorted(write_photos(tmp_path_factory.mktemp("photos"), 6).rglob("*.png"))
    return [replace(one, path=path) for one, path in zip(split_of_six(), photos, strict=True)]


@torch.inference_mode()
def similarities(folder: Path, photo: Path, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of a photo with the texts, and of the first text with the others, by transformers."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), CLIPModel.from_pretrained(folder)
    prompted = [f"A photo depicts {text}" for text in texts]
    tokens = tokenizer(
        prompted, padding=True, truncation=True, max_length=CONTEXT, return_tensors="pt"
    )
    pixels = clip_processor()(Image.open(photo).convert("RGB"), return_tensors="pt")
    found = model.eval()(**tokens, **pixels)
    cosines = found.logits_per_image[0] / model.logit_scale.exp()
    return cosines.numpy(), (found.text_embeds[1:] @ found.text_embeds[0]).numpy()


def test_scores_are_the_paper_s_formulas_on_transformers_similarities(folder, split):
    clip = load_clip(str(folder), precision="fp32", device="cpu")
    found = clip_scores(clip, CAPTIONS, split).statistics
    cosines = []
    for place, record in enumerate(split):
        texts = [CAPTIONS[record.image_id], *record.captions]
        with_photo, with_references = similarities(folder, record.path, texts)
        cosines.append(with_photo[0])
        first = 2.5 * max(with_photo[0], 0)
        nearest = max(with_references.max(), 0)
        both = 2 * first * nearest / (first + nearest) if first + nearest else 0
        assert found["CLIPScore"].per_image[place] == pytest.approx(first, abs=1e-5)
        assert found["RefCLIPScore"].per_image[place] == pytest.approx(both, abs=1e-5)
    assert max(cosines) > 0  # some captions score more than 0


def test_a_negative_cosine_counts_as_none(folder, split):
    clip = load_clip(str(folder), precision="fp32", device="cpu")
    before = clip_scores(clip, CAPTIONS, split).statistics["CLIPScore"].per_image
    with torch.no_grad():
        clip.encoder.network.model.visual_projection.weight.neg_()
    after = clip_scores(clip, CAPTIONS, split).statistics
    assert ((before > 0) != (after["CLIPScore"].per_image > 0)).all()
    worst = after["CLIPScore"].per_image == 0
    assert worst.any()
    assert (after["RefCLIPScore"].per_image[worst] == 0).all()


@pytest.mark.parametrize("normalize", [False, True])
def test_a_store_of_the_same_encoder_gives_the_same_without_a_photo(
    folder, split, tmp_path, normalize
):
    config = resolve_encoder(str(folder)).model_copy(update={"normalize": normalize})
    items = [StoreItem(f"dev-0-coco/{one.image_id}", one.path) for one in split[:-1]]
    build_store(tmp_path / "store", load_encoder(config), items)
    store = EmbeddingStore(tmp_path / "store")
    clip = load_clip(str(folder), precision="fp32", device="cpu", store=store)
    gone = [*(replace(one, path=Path("gone.jpg")) for one in split[:-1]), split[-1]]
    stored = clip_scores(clip, CAPTIONS, gone, store)
    fresh = clip_scores(clip, CAPTIONS, split)
    assert (stored.stored, stored.skipped, fresh.stored) == (5, [], 0)
    for name, statistic in fresh.statistics.items():
        np.testing.assert_allclose(
            stored.statistics[name].per_image, statistic.per_image, atol=2e-3
        )


def test_a_store_of_another_encoder_or_of_patches_is_refused(folder, split, tmp_path):
    other = resolve_encoder(str(save_whole_siglip(tmp_path / "siglip")))
    patches = resolve_encoder(str(folder)).model_copy(update={"output": "patches"})
    for name, config, said in (("a", other, "fingerprint"), ("b", patches, "pooled")):
        items = [StoreItem(one.image_id, one.path) for one in split]
        build_store(tmp_path / name, load_encoder(config), items)
        with pytest.raises(InputError, match=said):
            load_clip(str(folder), precision="fp32", store=EmbeddingStore(tmp_path / name))


def test_a_photo_that_cannot_be_read_is_named_and_left_out_of_the_mean(folder, split, tmp_path):
    clip = load_clip(str(folder), precision="fp32", device="cpu")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no photo")
    changed = [split[0], replace(split[1], path=broken), *split[2:]]
    found = clip_scores(clip, CAPTIONS, changed)
    whole = clip_scores(clip, CAPTIONS, split).statistics["CLIPScore"].per_image
    assert [one.key for one in found.skipped] == ["2"]
    assert np.isnan(found.statistics["CLIPScore"].per_image).tolist() == [False, True] + 4 * [False]
    assert found.statistics["CLIPScore"].corpus == pytest.approx(np.delete(whole, 1).mean())
    with pytest.raises(InputError, match="no photo can be read, such as 2"):
        clip_scores(clip, CAPTIONS, changed[1:2])


def test_without_references_there_is_clipscore_alone(folder, split):
    clip = load_clip(str(folder), precision="fp32", device="cpu")
    bare = [replace(one, captions=()) for one in split]
    found = clip_scores(clip, CAPTIONS, bare).statistics
    assert found.keys() == {"CLIPScore"}
    whole = clip_scores(clip, CAPTIONS, split).statistics["CLIPScore"]
    assert found["CLIPScore"].corpus == pytest.approx(whole.corpus)


def test_siglip_scores_too_and_precision_is_part_of_the_facts(split, tmp_path):
    folder = save_whole_siglip(tmp_path / "siglip")
    exact, rough = (
        load_clip(str(folder), precision=precision, device="cpu") for precision in ("fp32", "bf16")
    )
    assert exact.facts | {"precision": "bf16"} == rough.facts
    values = [clip_scores(one, CAPTIONS, split).statistics["CLIPScore"] for one in (exact, rough)]
    assert 0 < abs(values[0].corpus - values[1].corpus) < 0.05
