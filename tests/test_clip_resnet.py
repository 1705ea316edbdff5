"""CLIP's ResNets compute what the original code does, and name the tensor that is wrong."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from prefixcap.clip_resnet import OPENAI_SIZES, ClipResNet, sizes_from_tensors
from prefixcap.errors import InputError
from tests.tiny_encoders import (
    RESNET,
    clip_resnet,
    visual,
)

# Parameters of the visual part of OpenAI's released models, as their state dicts add up.
OPENAI_PARAMETERS = {
    "RN50": 38_316_896,
    "RN101": 56_259_936,
    "RN50x4": 87_137_080,
}


@pytest.fixture
def tiny() -> ClipResNet:
    return clip_resnet()


def golden_cases(folder: Path) -> list[Path]:
    cases = sorted((folder / "clip_resnet").glob("*.safetensors"))
    assert cases, f"{folder / 'clip_resnet'} holds no case"
    return cases


def test_every_golden_case_of_the_original_code(golden_dir):
    for path in golden_cases(golden_dir):
        tensors, sizes = load_file(path), json.loads(path.with_suffix(".json").read_text())
        network = ClipResNet.from_tensors(tensors, path.name, heads=sizes["heads"])
        assert list(network.sizes.layers) == sizes["layers"], path.name
        for name in ("width", "image_size", "embedding_dim"):
            assert getattr(network.sizes, name) == sizes[name], path.name
        with torch.inference_mode():
            pooled, patches = network(tensors["golden.pixel_values"])
        error = (pooled - tensors["golden.embedding"]).abs().max().item()
        assert error < 1e-4, f"{path.name}: off by {error}"
        cells = (sizes["image_size"] // 32) ** 2
        assert patches.shape == (len(pooled), cells, network.embedding_dim("patches"))


def test_the_attention_pool_is_torchs_multi_head_attention(tiny):
    pool, grid = tiny.attnpool, torch.randn(3, 4, RESNET.grid_dim)
    reference = torch.nn.MultiheadAttention(RESNET.grid_dim, RESNET.heads, batch_first=True).eval()
    with torch.no_grad():
        parts = (pool.q_proj, pool.k_proj, pool.v_proj)
        reference.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        reference.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        reference.out_proj.weight.copy_(torch.eye(RESNET.grid_dim))
        reference.out_proj.bias.zero_()
        tokens = torch.cat([grid.mean(1, keepdim=True), grid], 1) + pool.positional_embedding
        expected = pool.c_proj(reference(tokens[:, :1], tokens, tokens)[0][:, 0])
        assert torch.allclose(pool(grid), expected, atol=1e-5)


@pytest.mark.parametrize("name", OPENAI_PARAMETERS)
def test_openais_models_have_their_number_of_parameters(name):
    with torch.device("meta"):
        network = ClipResNet(OPENAI_SIZES[name])
    assert sum(p.numel() for p in network.parameters()) == OPENAI_PARAMETERS[name]


@pytest.mark.parametrize("name", OPENAI_SIZES)
def test_the_sizes_of_openais_models_follow_from_their_shapes(name):
    with torch.device("meta"):
        network = ClipResNet(OPENAI_SIZES[name])
    assert sizes_from_tensors(network.state_dict(), name) == OPENAI_SIZES[name]


def test_a_missing_left_over_or_wrong_tensor_is_named(tiny):
    name = "visual.layer2.1.bn2.running_var"
    missing = visual(tiny)
    del missing[name]
    with pytest.raises(InputError, match=f"tensor {name} is missing"):
        ClipResNet.from_tensors(missing, "file", heads=2)
    with pytest.raises(InputError, match=rf"tensor {name} is \(3,\), expected"):
        ClipResNet.from_tensors(visual(tiny) | {name: torch.ones(3)}, "file", heads=2)
    with pytest.raises(InputError, match=r"tensor visual\.layer2\.1\.bn9\.bias is not part"):
        extra = visual(tiny) | {"visual.layer2.1.bn9.bias": torch.ones(3)}
        ClipResNet.from_tensors(extra, "file", heads=2)


def test_weights_of_another_model_are_refused_by_name():
    with pytest.raises(InputError, match="a CLIP ViT; load that by its hub name"):
        ClipResNet.from_tensors({"visual.class_embedding": torch.ones(3)}, "ViT-B-32.pt")
    with pytest.raises(InputError, match=r"other\.pt: expected a CLIP ResNet's weights"):
        ClipResNet.from_tensors({"fc.weight": torch.ones(3)}, "other.pt")
