"""TorchScript archives are read as torch reads them, without executing them."""

import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from prefixcap.errors import InputError
from prefixcap.tensor_files import read_tensors
from prefixcap.torchscript import read_torchscript
from tests.tiny_encoders import (
    clip_resnet,
    write_torchscript,
)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_a_half_precision_torchscript_archive_is_read_as_torch_reads_it(tmp_path):
    write_torchscript(clip_resnet().half(), tmp_path / "half.pt")
    expected = torch.jit.load(tmp_path / "half.pt").state_dict()
    found = read_tensors(tmp_path / "half.pt")
    assert found["visual.conv1.weight"].dtype == torch.float16
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


class Bomb:
    """An object whose pickle runs a command when read carelessly."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_code_in_a_torchscript_archive_is_refused_and_not_run(tmp_path):
    marker = tmp_path / "ran"
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w") as archive:
        archive.writestr("model/constants.pkl", pickle.dumps(()))
        archive.writestr("model/data.pkl", pickle.dumps(Bomb(marker)))
    with pytest.raises(InputError, match=r"refuses to load .*system"):
        read_tensors(tmp_path / "bomb.pt")
    assert not marker.exists()


class Views(torch.nn.Module):
    """Tensors that share memory, lie transposed in it, or are empty."""

    def __init__(self) -> None:
        super().__init__()
        whole = torch.arange(24.0)
        self.register_buffer("part", whole[6:12].view(2, 3))
        self.register_buffer("turned", whole.view(4, 6).t())
        self.register_buffer("nothing", torch.zeros(0, 3))
        self.register_buffer("count", torch.tensor(7))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.part.sum() + self.turned.sum() + self.count


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_views_integers_and_empty_tensors_are_read(tmp_path):
    views = Views()
    torch.jit.save(torch.jit.trace(views, torch.zeros(1)), tmp_path / "views.pt")
    found = read_torchscript(tmp_path / "views.pt")
    assert found.keys() == views.state_dict().keys()
    assert all(torch.equal(found[name], views.state_dict()[name]) for name in found)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_a_tensor_that_reaches_beyond_its_storage_is_refused(tmp_path):
    good, bad = tmp_path / "good.pt", tmp_path / "bad.pt"
    torch.jit.save(torch.jit.trace(Views(), torch.zeros(1)), good)
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(bad, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, content[:8] if "/data/" in name else content)
    with pytest.raises(InputError, match="damaged TorchScript"):
        read_torchscript(bad)
