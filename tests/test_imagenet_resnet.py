"""ResNets from published weights: equal to transformers', whatever file the weights are in."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import ResNetConfig, ResNetModel

from prefixcap.config import EncoderConfig
from prefixcap.encoder import build_encoder, load_encoder, resolve_encoder
from prefixcap.imagenet_resnet import SIZES, ImageNetResNet
from tests.tiny_encoders import check_refusals

DEPTHS = (1, 2, 1, 1)


def reference(*, bottleneck: bool) -> ResNetModel:
    """A tiny ResNet of transformers with every weight and statistic away from its default."""
    torch.manual_seed(0)
    expansion = 4 if bottleneck else 1
    config = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8 * expansion * 2**stage for stage in range(4)],
        depths=list(DEPTHS),
        layer_type="bottleneck" if bottleneck else "basic",
    )
    model = ResNetModel(config).eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if "normalization" in name and tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape) + 0.5)
    return model


def published(model: ResNetModel) -> dict[str, Tensor]:
    """Its weights under torchvision's names, with a classifier."""
    found = {"fc.weight": torch.zeros(10, 4), "fc.bias": torch.zeros(10)}
    for name, tensor in model.state_dict().items():
        name = name.replace("embedder.embedder.convolution", "conv1")
        name = name.replace("embedder.embedder.normalization", "bn1")
        name = re.sub(
            r"encoder\.stages\.(\d)\.layers\.(\d)", lambda m: f"layer{int(m[1]) + 1}.{m[2]}", name
        )
        name = name.replace("shortcut.convolution", "downsample.0")
        name = name.replace("shortcut.normalization", "downsample.1")
        name = re.sub(r"layer\.(\d)\.convolution", lambda m: f"conv{int(m[1]) + 1}", name)
        name = re.sub(r"layer\.(\d)\.normalization", lambda m: f"bn{int(m[1]) + 1}", name)
        found[name] = tensor
    return found


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("file", ["resnet18.safetensors", "resnet50-0676ba61.pth"])
def test_equals_transformers(bottleneck: bool, file: str, tmp_path: Path):
    theirs = reference(bottleneck=bottleneck)
    path, tensors = tmp_path / file, published(theirs)
    save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(tensors, path)
    pixels = torch.randn(2, 3, 96, 64)
    with torch.inference_mode():
        expected = theirs(pixels)
    config = resolve_encoder(str(path))
    encoder = load_encoder(config)
    pooled, patches = encoder.network(pixels)
    torch.testing.assert_close(pooled, expected.pooler_output.flatten(1))
    torch.testing.assert_close(patches, expected.last_hidden_state.flatten(2).transpose(1, 2))
    assert config.kind == "imagenet_resnet" and patches.shape == (2, 6, encoder.embedding_dim)
    assert encoder.config.preprocess.resize_px == 256


@pytest.mark.parametrize(
    ("name", "width", "millions"),
    [("resnet18", 512, 11.2), ("timm/resnet50.a1_in1k", 2048, 23.5), ("resnet101", 2048, 42.5)],
)
def test_sizes_follow_from_names(name: str, width: int, millions: float):
    config = resolve_encoder(name)
    assert config.kind == "imagenet_resnet"
    with torch.device("meta"):
        encoder = build_encoder(config)
    count = sum(p.numel() for p in encoder.parameters())
    assert (encoder.embedding_dim, round(count / 1e6, 1)) == (width, millions)


def test_torch_hubs_cache_and_folders_are_looked_in(tmp_path: Path, monkeypatch):
    tensors = published(reference(bottleneck=True))
    cache = tmp_path / ".cache" / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(tensors, cache / "resnet50-0676ba61.pth")
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "resnet50"
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    hashes = {
        load_encoder(EncoderConfig(kind="imagenet_resnet", name=name)).fingerprint()
        for name in ("resnet50", str(folder))
    }
    assert len(hashes) == 1


def test_other_weights_are_refused_by_name_of_a_tensor():
    tensors = published(reference(bottleneck=True))
    short = {name: t for name, t in tensors.items() if name != "layer2.1.bn2.weight"}
    cases = {
        r"x: tensor conv1.weight is missing; .*resnet18": {"a": torch.zeros(1)},
        r"tensor layer2.1.bn2.weight is missing": short,
        r"is \(8, 2, 3, 3\), a plain ResNet has \(8, 8, 3, 3\)": tensors
        | {"layer1.0.conv2.weight": torch.zeros(8, 2, 3, 3)},
        r"layer1.0.se.weight is not in a plain ResNet": tensors
        | {"layer1.0.se.weight": torch.zeros(1)},
    }
    check_refusals(ImageNetResNet, cases)
    assert list(SIZES) == ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]
