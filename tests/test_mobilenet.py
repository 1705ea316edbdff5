"""MobileNetV2 from int8 weights, against ImageNet photos and malformed files."""

import numpy as np
import pytest
import torch
from PIL import Image

from prefixcap.errors import InputError
from prefixcap.mobilenet import MobileNetV2


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
