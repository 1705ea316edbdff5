"""Encoders of every kind behave alike: batches, types, normalisation and fingerprints."""

import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from prefixcap.config import EncoderConfig, PreprocessConfig, ResNetConfig
from prefixcap.encoder import ImageEncoder, build_encoder, load_encoder
from prefixcap.encoder_names import resolve_encoder
from prefixcap.errors import InputError
from tests.tiny_encoders import (
    VISION,
    edit_json,
    photos,
)


def test_a_golden_clip_resnet_is_encoded_from_its_file(golden_dir):
    for file in sorted((golden_dir / "clip_resnet").glob("*.safetensors")):
        tensors = load_file(file)
        encoder = load_encoder(resolve_encoder(str(file)))
        with torch.inference_mode():
            found = encoder(tensors["golden.pixel_values"])
        assert (found - tensors["golden.embedding"]).abs().max() < 1e-4
        assert encoder.config.preprocess.crop_px == tensors["golden.pixel_values"].shape[-1]


def test_mobilenet_is_encoded_from_its_file_with_its_own_preprocessing(data_dir):
    config = resolve_encoder(str(data_dir / "mobilenetv2_imagenet" / "weights_int8.npz"))
    encoder = load_encoder(config)
    assert encoder.encode(photos()).shape == (4, 1280)
    assert encoder.config.preprocess.mean == (0.5, 0.5, 0.5)


def test_normalised_embeddings_have_length_one_and_the_same_direction(clip_config):
    plain = load_encoder(clip_config).encode(photos())
    unit = load_encoder(clip_config.model_copy(update={"normalize": True})).encode(photos())
    assert torch.allclose(unit.norm(dim=-1), torch.ones(4), atol=1e-6)
    assert torch.allclose(unit, plain / plain.norm(dim=-1, keepdim=True), atol=1e-6)


def test_a_batch_is_its_images_one_by_one(clip_config):
    encoder = load_encoder(clip_config)
    alone = torch.cat([encoder.encode([photo]) for photo in photos()])
    assert torch.allclose(encoder.encode(photos()), alone, atol=1e-5)


def test_bfloat16_gives_float32_embeddings_close_to_float32s(clip_config):
    exact = load_encoder(clip_config).encode(photos())
    rounded = load_encoder(clip_config, dtype=torch.bfloat16).encode(photos())
    assert rounded.dtype == torch.float32
    assert torch.cosine_similarity(rounded, exact).min() > 0.999


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_cpus_embeddings(clip_config):
    exact = load_encoder(clip_config).encode(photos())
    found = load_encoder(clip_config, device="cuda").encode(photos())
    assert torch.allclose(found.cpu(), exact, atol=1e-3)


def test_loaded_encoders_are_frozen_and_in_evaluation_mode(clip_config):
    encoder = load_encoder(clip_config)
    assert not encoder.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def tiny_resnet(**changes) -> EncoderConfig:
    sizes = ResNetConfig(stem_width=4, widths=(4, 8), depths=(1, 1))
    square = PreprocessConfig(crop_px=32, resize="squash")
    return EncoderConfig(kind="resnet", resnet=sizes, preprocess=square, **changes)


def test_a_stored_encoder_is_rebuilt_and_filled_from_its_tensors():
    encoder = build_encoder(tiny_resnet(stored=True)).eval()
    again = build_encoder(encoder.config).eval()
    assert again.fingerprint() != encoder.fingerprint()
    again.load_state_dict(encoder.state_dict())
    assert again.fingerprint() == encoder.fingerprint()
    assert torch.equal(again.encode(photos()), encoder.encode(photos()))


def test_a_student_gets_gradients():
    encoder = build_encoder(tiny_resnet())
    encoder(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.network.parameters())


def test_the_fingerprint_is_the_same_in_another_process(clip_config):
    code = (
        "import sys; from prefixcap.encoder import *;"
        "print(load_encoder(resolve_encoder(sys.argv[1])).fingerprint())"
    )
    arguments = [sys.executable, "-c", code, clip_config.name]
    found = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.strip()
    assert found == load_encoder(clip_config).fingerprint()


def test_the_fingerprint_does_not_depend_on_type_path_or_moves(clip_folder, clip_config, tmp_path):
    exact = load_encoder(clip_config)
    moved = shutil.copytree(clip_folder, tmp_path / "moved")
    rounded = load_encoder(clip_config.model_copy(update={"name": str(moved)}), dtype=torch.float16)
    assert rounded.fingerprint() == exact.fingerprint()
    assert rounded.to(memory_format=torch.channels_last).fingerprint() == exact.fingerprint()


@pytest.mark.parametrize(
    "change",
    [
        {"output": "patches"},
        {"normalize": True},
        {"preprocess": PreprocessConfig(crop_px=32, resize_px=33)},
        {"preprocess": PreprocessConfig(crop_px=32, resize_px=32, resample="bilinear")},
        {"preprocess": PreprocessConfig(crop_px=32, resize_px=32, mean=(0.5, 0.5, 0.5))},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_fingerprint_changes_with_every_setting(change, clip_config):
    changed = load_encoder(clip_config.model_copy(update=change))
    assert changed.fingerprint() != load_encoder(clip_config).fingerprint()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_fingerprint_changes_with_any_weight(dtype, clip_config):
    encoder = load_encoder(clip_config, dtype=dtype)
    seen = {encoder.fingerprint()}
    tensors = list(encoder.network.state_dict().values())
    for tensor in tensors:
        tensor.view(-1)[-1] += 1
        seen.add(encoder.fingerprint())
    assert len(seen) == len(tensors) + 1


def test_the_fingerprint_changes_with_the_number_of_heads(clip_folder, clip_config):
    before = load_encoder(clip_config).fingerprint()
    edit_json(clip_folder / "config.json", vision_config={**VISION, "num_attention_heads": 2})
    assert load_encoder(clip_config).fingerprint() != before


def test_photos_of_a_size_that_the_network_cannot_take_are_refused(clip_config):
    wrong = clip_config.model_copy(update={"preprocess": PreprocessConfig()})
    with pytest.raises(InputError, match=r"takes 32 px .* gives 224 px.*crop_px=32"):
        load_encoder(wrong)


def test_encoders_without_weights_of_their_own_say_where_theirs_are():
    with pytest.raises(InputError, match="model folder or a run"):
        load_encoder(tiny_resnet())
    with pytest.raises(InputError, match="has no name"):
        load_encoder(EncoderConfig(kind="clip"))


def test_an_encoder_is_random_where_it_is_built_of_a_folders_sizes(clip_config):
    built = build_encoder(clip_config)
    assert isinstance(built, ImageEncoder)
    assert built.fingerprint() != load_encoder(clip_config).fingerprint()
    built.load_state_dict(load_encoder(clip_config).state_dict())
    assert built.fingerprint() == load_encoder(clip_config).fingerprint()


@pytest.mark.parametrize("output", ["pooled", "patches"])
def test_a_mirrored_encoder_gives_a_photo_what_it_gives_its_mirror_image(clip_config, output):
    plain = load_encoder(clip_config.model_copy(update={"output": output}))
    both = load_encoder(clip_config.model_copy(update={"output": output, "mirrored": True}))
    size = plain.config.preprocess.crop_px
    shown = torch.randn(3, 3, size, size)
    with torch.no_grad():
        one, other = plain(shown), plain(shown.flip(3))
        found, flipped = both(shown), both(shown.flip(3))
        while_trained = both.train()(shown)
    torch.testing.assert_close(while_trained, one)
    if output == "patches":
        side = size // VISION["patch_size"]
        places = torch.arange(side**2).view(side, side).flip(1).flatten()
        other, flipped = other[:, places], flipped[:, places]
    assert (one - other).abs().max() > 0.05
    torch.testing.assert_close(found, (one + other) / 2)
    torch.testing.assert_close(found, flipped)
    assert both.eval().fingerprint() != plain.fingerprint()
