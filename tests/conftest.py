"""Folders of real data and golden cases, or a skip with a reason; a tiny CLIP in a folder."""

import os
from pathlib import Path

import pytest

from prefixcap.config import EncoderConfig

REPOSITORY = Path(__file__).resolve().parent.parent


def folder_from(variable: str, default: str) -> Path:
    """Folder named by environment `variable`, else `default` relative to the repository."""
    return Path(os.environ.get(variable) or REPOSITORY / default).resolve()


def existing_folder(variable: str, default: str) -> Path:
    """The folder, or a skip that says which variable would name it."""
    folder = folder_from(variable, default)
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there; set {variable} to the folder to run this test")
    return folder


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real photos, captions and embeddings (PREFIXCAP_DATA)."""
    return existing_folder("PREFIXCAP_DATA", "../shared/data")


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Cases computed by the original ClipCap code (PREFIXCAP_GOLDEN)."""
    return existing_folder("PREFIXCAP_GOLDEN", "../shared/golden")


@pytest.fixture
def clip_folder(tmp_path: Path) -> Path:
    """Folder of a tiny CLIP, as transformers saves it."""
    from tests.tiny_encoders import save_clip

    return save_clip(tmp_path / "clip")


@pytest.fixture
def clip_config(clip_folder: Path) -> EncoderConfig:
    """That CLIP as an encoder's settings."""
    return EncoderConfig(kind="clip", name=str(clip_folder))
