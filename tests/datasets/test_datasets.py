"""`read`: every name, and what is no dataset."""

import subprocess
import sys
from pathlib import Path

import pytest

from prefixcap.datasets import READERS, read
from prefixcap.errors import InputError
from tests.datasets.conftest import put_json


def test_unknown_name_lists_the_known_ones(tmp_path: Path):
    with pytest.raises(
        InputError, match=r'"flickr" is no dataset .* coco, .* flickr8k, .* parquet'
    ):
        read("flickr", tmp_path)


@pytest.mark.parametrize("name", sorted(set(READERS) - {"huggingface"}))
def test_missing_path_is_refused_by_every_reader(tmp_path: Path, name: str):
    with pytest.raises(InputError, match=r"nowhere: not there"):
        read(name, tmp_path / "nowhere")


@pytest.mark.parametrize("name", sorted(set(READERS) - {"huggingface"}))
def test_empty_folder_is_refused_by_every_reader(tmp_path: Path, name: str):
    with pytest.raises(InputError) as caught:
        read(name, tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("name", sorted(set(READERS) - {"huggingface", "folder"}))
@pytest.mark.parametrize(
    "content", [{}, [], {"images": []}, "text", None, {"images": [{"id": {}}]}]
)
def test_json_of_something_else_is_refused_by_every_reader(tmp_path: Path, name: str, content):
    path = put_json(tmp_path / "captions.json", content)
    with pytest.raises(InputError) as caught:
        read(name, path)
    assert "\n" not in str(caught.value)


def test_reading_imports_neither_torch_nor_an_extra():
    code = (
        "import sys, prefixcap.datasets\n"
        "assert not {'torch', 'transformers', 'pyarrow', 'datasets'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
