"""Hugging Face datasets, from folders: no hub is needed to read one."""

import sys
from pathlib import Path

import pytest

from prefixcap.datasets import photo_source, read
from prefixcap.errors import InputError, MissingExtraError
from tests.datasets.conftest import jpeg

hf = pytest.importorskip("datasets", reason='needs pip install "prefixcap[datasets]"')


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    features = hf.Features({"image": hf.Image(), "captions": hf.List(hf.Value("string"))})
    splits = {
        split: hf.Dataset.from_dict(
            {
                "image": [{"bytes": jpeg(seed), "path": None} for seed in seeds],
                "captions": [[f"{seed} a", f"{seed} b"] for seed in seeds],
            },
            features=features,
        )
        for split, seeds in {"train": range(3), "validation": range(7, 9)}.items()
    }
    hf.DatasetDict(splits).save_to_disk(tmp_path / "saved")
    return tmp_path / "saved"


def test_rows_become_records_and_photos_come_out_as_they_went_in(saved: Path):
    records = read("huggingface", saved)
    assert [(r.image_id, r.split, r.captions) for r in records][2:4] == [
        ("train/2", "train", ("2 a", "2 b")),
        ("validation/0", "validation", ("7 a", "7 b")),
    ]
    assert [photo_source(r.path) for r in records] == [jpeg(n) for n in (0, 1, 2, 7, 8)]
    assert len({r.path for r in records}) == 5
    assert read("huggingface", saved, "validation") == records[3:]


def test_unknown_split_and_unknown_dataset_are_refused(saved: Path):
    with pytest.raises(InputError, match=r'no split "test".*train, validation'):
        read("huggingface", saved, "test")
    with pytest.raises(InputError, match="cannot be loaded"):
        read("huggingface", saved / "nothing-here")


def test_without_the_library_the_install_command_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r'pip install "prefixcap\[datasets\]"'):
        read("huggingface", Path("org/never-loaded"))
