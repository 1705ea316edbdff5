"""Weights are read from every kind of file, and nothing in a file is executed."""

import os
import resource
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from prefixcap.clip_resnet import ClipResNet
from prefixcap.errors import InputError
from prefixcap.tensor_files import read_tensors, save_tensors
from tests.tiny_encoders import (
    clip_resnet,
    visual,
    write_torchscript,
)


@pytest.fixture
def tiny() -> ClipResNet:
    return clip_resnet()


def write_state_dict(network: ClipResNet, path: Path) -> None:
    torch.save(visual(network), path)


def write_wrapped(network: ClipResNet, path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": visual(network)}, path)


def write_safetensors(network: ClipResNet, path: Path) -> None:
    save_file(visual(network), path)


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


def test_a_file_that_has_no_room_is_an_error_of_the_system(tmp_path):
    """A limit of a file's size stands for a full disk; safetensors has an error of its own."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as error:
            save_tensors({"a": torch.zeros(5000)}, tmp_path / "w.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert error.value.filename == str(tmp_path / "w.safetensors")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"absent\.pt: no such file"):
        read_tensors(tmp_path / "absent.pt")


def test_a_file_without_tensors_is_refused(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "empty.pt")
    with pytest.raises(InputError, match="holds no named tensors"):
        read_tensors(tmp_path / "empty.pt")
