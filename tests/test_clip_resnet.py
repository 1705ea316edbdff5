"""CLIP's ResNets compute what the original code does, from every kind of file they come in."""

import json
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from prefixcap.clip_resnet import OPENAI_SIZES, ClipResNet, ClipResNetSizes, sizes_from_tensors
from prefixcap.errors import InputError
from prefixcap.tensor_files import read_tensors

TINY = ClipResNetSizes(layers=(1, 2, 1, 1), width=4, heads=2, image_size=64, embedding_dim=10)
# Parameters of the visual part of OpenAI's released models, as their state dicts add up.
OPENAI_PARAMETERS = {
    "RN50": 38_316_896,
    "RN101": 56_259_936,
    "RN50x4": 87_137_080,
}


@pytest.fixture
def tiny() -> ClipResNet:
    """A small network with every weight and statistic away from its default."""
    torch.manual_seed(0)
    network = ClipResNet(TINY).eval()
    for name, tensor in network.state_dict().items():
        if "running" in name or "bn" in name:
            tensor.copy_(torch.rand(tensor.shape) + 0.5)
    return network


def visual(network: ClipResNet) -> dict[str, Tensor]:
    """Weights under OpenAI's names."""
    return {f"visual.{name}": tensor.clone() for name, tensor in network.state_dict().items()}


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
    pool, grid = tiny.attnpool, torch.randn(3, 4, TINY.grid_dim)
    reference = torch.nn.MultiheadAttention(TINY.grid_dim, TINY.heads, batch_first=True).eval()
    with torch.no_grad():
        parts = (pool.q_proj, pool.k_proj, pool.v_proj)
        reference.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        reference.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        reference.out_proj.weight.copy_(torch.eye(TINY.grid_dim))
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


def write_state_dict(network: ClipResNet, path: Path) -> None:
    torch.save(visual(network), path)


def write_wrapped(network: ClipResNet, path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": visual(network)}, path)


def write_safetensors(network: ClipResNet, path: Path) -> None:
    save_file(visual(network), path)


def write_torchscript(network: ClipResNet, path: Path) -> None:
    """A whole model with a `visual` part, traced, as OpenAI released CLIP."""
    whole = torch.nn.Module()
    whole.visual = network
    whole.forward = lambda pixels: network(pixels)[0]
    pixels = torch.zeros(1, 3, 64, 64, dtype=network.conv1.weight.dtype)
    torch.jit.save(torch.jit.trace(whole, pixels), path)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize(
    ("write", "filename"),
    [
        (write_state_dict, "rn.pt"),
        (write_wrapped, "rn.pth"),
        (write_safetensors, "rn.safetensors"),
        (write_torchscript, "rn.pt"),
    ],
    ids=["state dict", "wrapped", "safetensors", "torchscript"],
)
def test_every_kind_of_file_gives_the_same_embedding(tiny, write, filename, tmp_path):
    write(tiny, tmp_path / filename)
    loaded = ClipResNet.from_tensors(read_tensors(tmp_path / filename), filename, heads=2)
    photos = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        for found, expected in zip(loaded(photos), tiny(photos), strict=True):
            assert torch.equal(found, expected)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_a_half_precision_torchscript_archive_is_read_as_torch_reads_it(tiny, tmp_path):
    write_torchscript(tiny.half(), tmp_path / "half.pt")
    expected = torch.jit.load(tmp_path / "half.pt").state_dict()
    found = read_tensors(tmp_path / "half.pt")
    assert found["visual.conv1.weight"].dtype == torch.float16
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_weights_in_half_precision_give_float32(tiny, tmp_path):
    save_file({n: t.half() for n, t in visual(tiny).items()}, tmp_path / "half.safetensors")
    loaded = ClipResNet.from_tensors(read_tensors(tmp_path / "half.safetensors"), "half", heads=2)
    photos = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        found, expected = loaded(photos)[0], tiny(photos)[0]
    assert found.dtype == torch.float32
    assert torch.cosine_similarity(found, expected).min() > 0.9999


class Bomb:
    """An object whose pickle runs a command when read carelessly."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_code_in_a_torch_file_is_refused_and_not_run(tmp_path):
    marker = tmp_path / "ran"
    torch.save({"visual.conv1.weight": torch.zeros(1), "x": Bomb(marker)}, tmp_path / "bomb.pt")
    with pytest.raises(InputError, match="would execute code"):
        read_tensors(tmp_path / "bomb.pt")
    assert not marker.exists()


def test_code_in_a_torchscript_archive_is_refused_and_not_run(tmp_path):
    marker = tmp_path / "ran"
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w") as archive:
        archive.writestr("model/constants.pkl", pickle.dumps(()))
        archive.writestr("model/data.pkl", pickle.dumps(Bomb(marker)))
    with pytest.raises(InputError, match=r"refuses to load .*system"):
        read_tensors(tmp_path / "bomb.pt")
    assert not marker.exists()


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


@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, 0.99])
def test_a_truncated_safetensors_file_is_named_with_its_tensor(tiny, kept, tmp_path):
    path = tmp_path / "cut.safetensors"
    save_file(visual(tiny), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if kept < 1 else kept])
    said = r"truncated .* tensor visual\." if 0 < kept < 1 else "damaged or no safetensors"
    with pytest.raises(InputError, match=said):
        read_tensors(path)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize("write", [write_state_dict, write_torchscript])
def test_a_truncated_torch_file_is_refused_in_one_line(tiny, write, tmp_path):
    path = tmp_path / "cut.pt"
    write(tiny, path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match=r"cut\.pt: is .*damaged") as raised:
        read_tensors(path)
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"absent\.pt: no such file"):
        read_tensors(tmp_path / "absent.pt")
