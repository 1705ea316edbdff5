"""The original's embedding pickles are read whole, and nothing in a file is executed."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from prefixcap.embedding_pickle import read_embedding_pickle
from prefixcap.errors import InputError

EMBEDDINGS = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
CAPTIONS = [
    {"image_id": "17", "id": "1", "caption": "A dog.", "clip_embedding": 2},
    {"image_id": "18", "id": "2", "caption": "A cat.", "clip_embedding": 0},
]


def written(folder: Path, content: object, protocol: int | None = None) -> Path:
    path = folder / "embeddings.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("protocol", [2, 4])
def test_tensor_and_captions_come_back(tmp_path, dtype, protocol):
    content = {"clip_embedding": EMBEDDINGS.to(dtype), "captions": CAPTIONS}
    found = read_embedding_pickle(written(tmp_path, content, protocol))
    assert torch.equal(found.embeddings, EMBEDDINGS.to(dtype))
    assert found.rows.tolist() == [2, 0]
    assert found.captions == ["A dog.", "A cat."]
    assert found.image_ids == ["17", "18"]


@pytest.mark.parametrize(
    "embeddings",
    [EMBEDDINGS.T.contiguous().T, torch.cat([EMBEDDINGS, EMBEDDINGS])[4:], EMBEDDINGS.numpy()],
    ids=["transposed", "part of a larger storage", "numpy"],
)
def test_other_layouts_of_the_same_numbers_come_back(tmp_path, embeddings):
    found = read_embedding_pickle(
        written(tmp_path, {"clip_embedding": embeddings, "captions": CAPTIONS})
    )
    assert torch.equal(found.embeddings, EMBEDDINGS)


def test_a_list_of_parts_and_numpy_rows_come_back(tmp_path):
    captions = [{**CAPTIONS[0], "clip_embedding": np.int64(3)}]
    content = {"clip_embedding": [EMBEDDINGS[:1], EMBEDDINGS[1:]], "captions": captions}
    found = read_embedding_pickle(written(tmp_path, content))
    assert torch.equal(found.embeddings, EMBEDDINGS)
    assert found.rows.tolist() == [3]


class Bomb:
    """Its unpickling would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return (Path.touch, (self.path,))


class InnerBomb:
    """A storage whose bytes are a pickle that would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[bytes]]:
        return (torch.storage._load_from_bytes, (pickle.dumps(Bomb(self.path)),))


@pytest.mark.parametrize("bomb", [Bomb, InnerBomb])
def test_code_in_a_file_is_refused_and_not_executed(tmp_path, bomb):
    path = written(tmp_path, {"clip_embedding": bomb(tmp_path / "executed"), "captions": []})
    with pytest.raises(InputError, match=r"embeddings\.pkl"):
        read_embedding_pickle(path)
    assert not (tmp_path / "executed").exists()


def test_the_refused_function_is_named(tmp_path):
    with pytest.raises(InputError, match=r"asks for builtins\.print"):
        read_embedding_pickle(written(tmp_path, {"clip_embedding": print}))


def test_a_tensor_beyond_its_storage_is_refused(tmp_path):
    content = pickle.dumps({"clip_embedding": EMBEDDINGS, "captions": CAPTIONS}, 2)
    # the size (4, 6) of the tensor becomes (9, 6), its storage stays: BININT1 is K
    assert content.count(b"K\x04K\x06\x86") == 1
    path = tmp_path / "embeddings.pkl"
    path.write_bytes(content.replace(b"K\x04K\x06\x86", b"K\x09K\x06\x86"))
    with pytest.raises(InputError, match=r"a tensor \(9, 6\) with only 24 numbers"):
        read_embedding_pickle(path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_a_truncated_file_is_refused(tmp_path, share):
    path = written(tmp_path, {"clip_embedding": EMBEDDINGS, "captions": CAPTIONS})
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"embeddings\.pkl: is cut off"):
        read_embedding_pickle(path)


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {"captions": CAPTIONS},
        {"clip_embedding": EMBEDDINGS},
        {"clip_embedding": EMBEDDINGS[0], "captions": CAPTIONS},
        {"clip_embedding": EMBEDDINGS.long(), "captions": CAPTIONS},
        {"clip_embedding": EMBEDDINGS, "captions": [{"caption": "no row"}]},
        {"clip_embedding": EMBEDDINGS, "captions": ["a dog"]},
    ],
)
def test_other_content_is_refused_with_what_was_expected(tmp_path, content):
    with pytest.raises(InputError, match="expected"):
        read_embedding_pickle(written(tmp_path, content))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.pkl: cannot be read"):
        read_embedding_pickle(tmp_path / "none.pkl")
