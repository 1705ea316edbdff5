"""Encoders give what the official processor and model give, or say in one line why they cannot."""

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    SiglipConfig,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from prefixcap.clip_resnet import ClipResNet, ClipResNetSizes
from prefixcap.config import EncoderConfig, PreprocessConfig, ResNetConfig
from prefixcap.encoder import ImageEncoder, build_encoder, load_encoder, resolve_encoder
from prefixcap.errors import InputError

VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
TEXT = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "vocab_size": 50}
TEXT |= {"num_attention_heads": 2, "eos_token_id": 1, "bos_token_id": 0, "pad_token_id": 1}
SQUARE = {"height": 32, "width": 32}
Reference = Callable[[PreTrainedModel, Tensor], tuple[Tensor, Tensor]]


def clip_processor() -> CLIPImageProcessorPil:
    return CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=SQUARE)


def full_clip() -> CLIPModel:
    # The projection's width differs from the vision part's default, 512, as in ViT-L/14.
    return CLIPModel(CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=24))


def clip_reference(model: CLIPModel, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
    vision = model.vision_model(pixel_values=pixel_values)
    pooled = model.visual_projection(vision.pooler_output)
    return pooled, model.vision_model.post_layernorm(vision.last_hidden_state[:, 1:])


def vision_reference(model: PreTrainedModel, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
    vision = getattr(model, "vision_model", model)
    outputs = vision(pixel_values=pixel_values)
    return outputs.pooler_output, outputs.last_hidden_state


def registers_reference(model: PreTrainedModel, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
    outputs = model(pixel_values=pixel_values)
    return outputs.last_hidden_state[:, 0], outputs.last_hidden_state[:, -16:]


def siglip_processor() -> SiglipImageProcessorPil:
    return SiglipImageProcessorPil(size=SQUARE, resample=2)


def dinov2_processor() -> BitImageProcessorPil:
    return BitImageProcessorPil(size={"shortest_edge": 36}, crop_size=SQUARE, image_mean=[0.4] * 3)


# kind, model, its processor, and what it gives by the official classes
CASES: dict[str, tuple[str, Callable, Callable, Reference]] = {
    "clip": ("clip", full_clip, clip_processor, clip_reference),
    "clip vision": (
        "clip",
        lambda: CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION, projection_dim=24)),
        clip_processor,
        clip_reference,
    ),
    "siglip": (
        "siglip",
        lambda: SiglipModel(SiglipConfig(text_config=TEXT, vision_config=VISION)),
        siglip_processor,
        vision_reference,
    ),
    "siglip vision": (
        "siglip",
        lambda: SiglipVisionModel(SiglipVisionConfig(**VISION)),
        siglip_processor,
        vision_reference,
    ),
    "dinov2": (
        "dinov2",
        lambda: Dinov2Model(Dinov2Config(**VISION)),
        dinov2_processor,
        registers_reference,
    ),
    "dinov2 with registers": (
        "dinov2",
        lambda: Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**VISION)),
        dinov2_processor,
        registers_reference,
    ),
}


def photos() -> list[Image.Image]:
    """Images of several shapes."""
    rng = np.random.default_rng(0)
    shapes = [(40, 50), (33, 32), (90, 30), (32, 32)]
    return [Image.fromarray(rng.integers(0, 256, (*s, 3), dtype=np.uint8)) for s in shapes]


def noisy(model: PreTrainedModel) -> PreTrainedModel:
    """A model with every weight away from its default, norms and biases included."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


@pytest.fixture
def clip_folder(tmp_path: Path) -> Path:
    """A tiny CLIP as transformers saves it."""
    noisy(full_clip()).save_pretrained(tmp_path)
    clip_processor().save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def clip_config(clip_folder: Path) -> EncoderConfig:
    return EncoderConfig(kind="clip", name=str(clip_folder))


@pytest.mark.parametrize("case", CASES)
def test_embeddings_equal_the_official_processor_and_model(case, tmp_path):
    kind, build, processor, reference = CASES[case]
    model = noisy(build())
    model.save_pretrained(tmp_path)
    processor().save_pretrained(tmp_path)
    config = resolve_encoder(str(tmp_path))
    assert config.kind == kind
    values = np.stack([processor()(photo)["pixel_values"][0] for photo in photos()])
    with torch.inference_mode():
        expected = dict(
            zip(("pooled", "patches"), reference(model, torch.from_numpy(values)), strict=True)
        )
    for output, wanted in expected.items():
        encoder = load_encoder(config.model_copy(update={"output": output}))
        found = encoder.encode(photos())
        assert found.shape == wanted.shape and found.shape[-1] == encoder.embedding_dim
        assert torch.allclose(found, wanted, atol=1e-5)


def test_weights_in_a_torch_file_and_in_parts_are_read(clip_folder, clip_config, tmp_path):
    expected = load_encoder(clip_config).encode(photos())
    parts = tmp_path / "parts"
    CLIPModel.from_pretrained(clip_folder).save_pretrained(parts, max_shard_size="20KB")
    assert (parts / "model.safetensors.index.json").exists()
    shutil.copy(clip_folder / "preprocessor_config.json", parts)
    found = load_encoder(EncoderConfig(kind="clip", name=str(parts)))
    assert torch.equal(found.encode(photos()), expected)
    torch.save(load_file(clip_folder / "model.safetensors"), clip_folder / "pytorch_model.bin")
    (clip_folder / "model.safetensors").unlink()
    assert torch.equal(load_encoder(clip_config).encode(photos()), expected)


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


def edit_json(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


NAME = "vision_model.encoder.layers.1.mlp.fc1.weight"


def test_a_missing_tensor_is_an_error_that_names_it(clip_folder, clip_config):
    edit_weights(clip_folder, lambda tensors: tensors.pop(NAME))
    with pytest.raises(InputError, match=f"tensor {NAME} is missing"):
        load_encoder(clip_config)


def test_a_tensor_of_another_shape_is_an_error_that_names_it(clip_folder, clip_config):
    edit_weights(clip_folder, lambda tensors: tensors.update({NAME: torch.zeros(3, 3)}))
    with pytest.raises(InputError, match=rf"tensor {NAME} is \(3, 3\), config\.json expects"):
        load_encoder(clip_config)


def test_truncated_weights_are_an_error_that_names_the_first_lost_tensor(clip_folder, clip_config):
    file = clip_folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(
        InputError, match=r"model\.safetensors: is truncated at .* tensor \S+ needs"
    ):
        load_encoder(clip_config)


def test_a_truncated_torch_file_is_an_error_in_one_line(clip_folder, clip_config):
    torch.save(load_file(clip_folder / "model.safetensors"), clip_folder / "pytorch_model.bin")
    (clip_folder / "model.safetensors").unlink()
    file = clip_folder / "pytorch_model.bin"
    file.write_bytes(file.read_bytes()[:-3000])
    with pytest.raises(InputError, match="weights cannot be read") as raised:
        load_encoder(clip_config)
    assert "\n" not in str(raised.value)


def test_a_clip_without_its_projection_is_an_error(tmp_path):
    CLIPVisionModel(CLIPVisionConfig(**VISION)).save_pretrained(tmp_path)
    clip_processor().save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"tensor visual_projection\.weight is missing"):
        load_encoder(EncoderConfig(kind="clip", name=str(tmp_path)))


def test_loading_says_nothing_on_its_own(clip_config, capfd, caplog):
    with caplog.at_level(logging.WARNING):
        load_encoder(clip_config)
    printed = capfd.readouterr()
    assert printed.out == "" and printed.err == "" and not caplog.records


def test_another_kind_of_model_is_refused_by_its_type(clip_folder, tmp_path):
    with pytest.raises(InputError, match=r"is a model of type 'clip', expected .* kind 'siglip'"):
        load_encoder(EncoderConfig(kind="siglip", name=str(clip_folder)))
    folder = tmp_path / "gpt2"
    GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=9)).save_pretrained(folder)
    with pytest.raises(InputError, match="is a model of type 'gpt2', expected CLIP"):
        resolve_encoder(str(folder))


def test_folders_without_a_model_are_refused(tmp_path, clip_folder):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match=r"empty: has no config\.json"):
        load_encoder(EncoderConfig(kind="clip", name=str(empty)))
    (clip_folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="has no weights; expected one of model"):
        load_encoder(EncoderConfig(kind="clip", name=str(clip_folder)))
    with pytest.raises(InputError, match="does not exist"):
        load_encoder(EncoderConfig(kind="clip", name=str(tmp_path / "absent")))


def test_a_part_that_the_index_names_is_missed(clip_folder):
    (clip_folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-00001-of-00001.safetensors"}}
    (clip_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"model-00001-of-00001\.safetensors is missing"):
        load_encoder(EncoderConfig(kind="clip", name=str(clip_folder)))


@pytest.mark.parametrize("name", ["ViT-B/32", "google/siglip2-base-patch16-224", "RN50", "x/clip"])
def test_without_a_network_a_hub_name_is_one_clear_line(name, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("prefixcap.encoder_names.OPENAI_CACHE", tmp_path)
    with pytest.raises(InputError, match="hub") as raised:
        load_encoder(resolve_encoder(name))
    assert "\n" not in str(raised.value)


def test_openais_resnets_are_found_where_its_package_keeps_them(monkeypatch, tmp_path):
    monkeypatch.setattr("prefixcap.encoder_names.OPENAI_CACHE", tmp_path)
    sizes = ClipResNetSizes((1, 1, 1, 1), 8, 4, 32, 6)
    network = ClipResNet(sizes).eval()
    torch.save({f"visual.{n}": t for n, t in network.state_dict().items()}, tmp_path / "RN50x4.pt")
    encoder = load_encoder(resolve_encoder("RN50x4"))
    assert encoder.network.sizes == sizes and encoder.embedding_dim == 6


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
