"""MobileNetV2 from int8 weights, against ImageNet photos and malformed files."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from prefixcap.encoder import build_encoder, load_encoder, resolve_encoder
from prefixcap.errors import InputError
from prefixcap.mobilenet import MobileNetV2
from tests.tiny_encoders import check_refusals

# Sandler et al. 2018, table 2, written out: expanded width, output width, stride of each block.
BLOCKS = [
    (32, 16, 1), (96, 24, 2), (144, 24, 1), (144, 32, 2), (192, 32, 1), (192, 32, 1), (192, 64, 2),
    (384, 64, 1), (384, 64, 1), (384, 64, 1), (384, 96, 1), (576, 96, 1), (576, 96, 1),
    (576, 160, 2), (960, 160, 1), (960, 160, 1), (960, 320, 1),
]  # fmt: skip
TIMM_STAGES = [0, 1, 1, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6]


def torchvision_weights() -> dict[str, Tensor]:
    """Random weights under torchvision's names, of a spread that keeps every layer alive."""
    generator = torch.Generator().manual_seed(0)
    found: dict[str, Tensor] = {}

    def conv(name: str, norm: str, width: int, inputs: int, kernel: int) -> None:
        shape = (width, inputs, kernel, kernel)
        fan_in = inputs * kernel**2
        found[f"{name}.weight"] = torch.randn(shape, generator=generator) * (2 / fan_in) ** 0.5
        for part in ("weight", "bias", "running_mean", "running_var"):
            found[f"{norm}.{part}"] = 0.5 + torch.rand(width, generator=generator)
        found[f"{norm}.num_batches_tracked"] = torch.tensor(7)

    conv("features.0.0", "features.0.1", 32, 3, 3)
    width = 32
    for number, (hidden, after, _) in enumerate(BLOCKS, start=1):
        block = f"features.{number}.conv"
        if number > 1:
            conv(f"{block}.0.0", f"{block}.0.1", hidden, width, 1)
        deep, last = (0, 1) if number == 1 else (1, 2)
        conv(f"{block}.{deep}.0", f"{block}.{deep}.1", hidden, 1, 3)
        conv(f"{block}.{last}", f"{block}.{last + 1}", after, hidden, 1)
        width = after
    conv("features.18.0", "features.18.1", 1280, 320, 1)
    found["classifier.1.weight"] = torch.randn(1000, 1280, generator=generator)
    found["classifier.1.bias"] = torch.randn(1000, generator=generator)
    return found


def reference(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """Last feature map (B, 1280, H / 32, W / 32) as torchvision computes it."""

    def layer(x: Tensor, name: str, norm: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = weights[f"{name}.weight"]
        x = F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, groups=groups)
        stats = [weights[f"{norm}.{p}"] for p in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *stats)

    x = F.relu6(layer(x, "features.0.0", "features.0.1", 2))
    for number, (hidden, after, stride) in enumerate(BLOCKS, start=1):
        block, before = f"features.{number}.conv", x
        if number > 1:
            x = F.relu6(layer(x, f"{block}.0.0", f"{block}.0.1"))
        deep, last = (0, 1) if number == 1 else (1, 2)
        x = F.relu6(layer(x, f"{block}.{deep}.0", f"{block}.{deep}.1", stride, hidden))
        x = layer(x, f"{block}.{last}", f"{block}.{last + 1}")
        if stride == 1 and before.shape[1] == after:
            x = before + x
    return F.relu6(layer(x, "features.18.0", "features.18.1"))


def as_timm(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights under timm's names."""
    renamed = {"features.0.0": "conv_stem", "features.0.1": "bn1", "features.18.0": "conv_head"}
    renamed |= {"features.18.1": "bn2", "classifier.1": "classifier"}
    for number, stage in enumerate(TIMM_STAGES, start=1):
        old = f"features.{number}.conv"
        new = f"blocks.{stage}.{number - 1 - TIMM_STAGES.index(stage)}"
        theirs = ["conv_dw", "bn1", "conv_pw", "bn2"]
        ours = ["0.0", "0.1", "1", "2"]
        if number > 1:
            theirs = ["conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3"]
            ours = ["0.0", "0.1", "1.0", "1.1", "2", "3"]
        renamed |= {f"{old}.{o}": f"{new}.{t}" for o, t in zip(ours, theirs, strict=True)}
    found = {}
    for name, tensor in weights.items():
        layer, part = name.rsplit(".", 1)
        found[f"{renamed[layer]}.{part}"] = tensor
    return found


def folded(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same network without batch-norm; its convolutions have biases."""
    found = {name: t for name, t in weights.items() if name.startswith("classifier")}
    names = list(weights)
    for place, name in enumerate(names):
        if weights[name].ndim == 4:
            norm = names[place + 1].removesuffix(".weight")
            gain = weights[f"{norm}.weight"] / (weights[f"{norm}.running_var"] + 1e-5).sqrt()
            found[name] = weights[name] * gain.view(-1, 1, 1, 1)
            bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * gain
            found[name.removesuffix("weight") + "bias"] = bias
    return found


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("mobilenet_v2-b0353104.pth", dict),
        ("mobilenet_v2.safetensors", folded),
        ("mobilenetv2_100.ra_in1k.safetensors", as_timm),
        ("mobilenetv2_100", as_timm),
    ],
)
def test_published_weights_give_the_published_network(file: str, change, tmp_path: Path):
    weights = torchvision_weights()
    path, tensors = tmp_path / file, change(weights)
    if not path.suffix:
        path.mkdir()
        save_file(tensors, path / "model.safetensors")
    else:
        save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(tensors, path)
    config = resolve_encoder(str(path))
    encoder = load_encoder(config)
    pixels = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = reference(weights, pixels)
        pooled, patches = encoder.network(pixels)
    assert expected.std() > 0.1
    torch.testing.assert_close(patches, expected.flatten(2).transpose(1, 2), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(pooled, expected.mean((2, 3)), rtol=1e-3, atol=1e-3)
    assert encoder.config.preprocess.mean == (0.485, 0.456, 0.406)
    stored = build_encoder(encoder.config)
    stored.load_state_dict(encoder.state_dict())
    assert stored.fingerprint() == encoder.fingerprint()
    assert torch.equal(stored.eval().network(pixels)[0], pooled)


def test_other_published_weights_are_refused_by_name_of_a_tensor():
    weights = torchvision_weights()
    short = {name: t for name, t in weights.items() if name != "features.3.conv.2.weight"}
    cases = {
        r"x: tensor features.0.0.weight is missing": {"a": torch.zeros(1)},
        r"tensor features.3.conv.2.weight is missing": short,
        r"is \(48, 3, 3, 3\), MobileNetV2 1.0 has \(32, 3": weights
        | {"features.0.0.weight": torch.zeros(48, 3, 3, 3)},
        r"features.19.weight is not in MobileNetV2": weights
        | {"features.19.weight": torch.zeros(1)},
    }
    check_refusals(MobileNetV2, cases)
    with pytest.raises(InputError, match=r"nowhere.pth"):
        load_encoder(resolve_encoder("./mobilenet_v2-nowhere.pth"))


def test_names_the_classes_of_imagenet_photos(data_dir):
    """Top-1 of the published network is 0.72; 40 of its own kind of photos, one per class."""
    model = MobileNetV2.from_int8_npz(data_dir / "mobilenetv2_imagenet/weights_int8.npz")
    files = sorted((data_dir / "unlabelled/imagenet1000").iterdir())
    synsets = sorted({file.name.split("__")[-1].split("_")[0] for file in files})
    chosen = files[:: len(files) // 40][:40]
    photos = [np.asarray(Image.open(f).convert("RGB").resize((224, 224))) for f in chosen]
    pixels = torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.inference_mode():
        found = model.classifier(model(pixels)[0]).argmax(1)
    right = [synsets[int(k)] in file.name for k, file in zip(found, chosen, strict=True)]
    assert np.mean(right) > 0.5


def test_missing_layer_is_named(tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, **{"00.weight_int8": np.zeros((32, 3, 3, 3), np.int8)})
    with pytest.raises(InputError, match=r"00\.scale is missing"):
        MobileNetV2.from_int8_npz(path)


def test_wrong_shape_is_named(tmp_path):
    path = tmp_path / "weights.npz"
    arrays = {"00.weight_int8": np.zeros((8, 3, 3, 3), np.int8)}
    np.savez(path, **arrays, **{"00.scale": np.ones(8), "00.bias": np.ones(8)})
    with pytest.raises(InputError, match=r"00\.weight_int8 is \(8, 3, 3, 3\), expected \(32"):
        MobileNetV2.from_int8_npz(path)


def test_a_file_that_is_no_npz_is_refused(tmp_path):
    path = tmp_path / "weights.npz"
    path.write_bytes(b"not a zip")
    with pytest.raises(InputError, match="expected an npz"):
        MobileNetV2.from_int8_npz(path)
