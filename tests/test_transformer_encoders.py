"""CLIP, SigLIP and DINOv2 equal the official classes, or name the tensor that is wrong."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
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
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from prefixcap.config import EncoderConfig
from prefixcap.encoder import load_encoder
from prefixcap.encoder_names import resolve_encoder
from prefixcap.errors import InputError
from tests.tiny_encoders import (
    SQUARE,
    TEXT,
    VISION,
    clip_processor,
    full_clip,
    noisy,
    photos,
)

Reference = Callable[[PreTrainedModel, Tensor], tuple[Tensor, Tensor]]
NAME = "vision_model.encoder.layers.1.mlp.fc1.weight"


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


def edit_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


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
