"""A folder or hub name gives its files, or one line that says what is wrong."""

import json
import shutil
from pathlib import Path

import pytest

from prefixcap.config import EncoderConfig
from prefixcap.encoder import load_encoder
from prefixcap.encoder_names import resolve_encoder
from prefixcap.errors import InputError
from prefixcap.hub import model_file, model_folder


def test_folders_without_a_model_are_refused(tmp_path, clip_folder):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match=r"empty: has no config\.json"):
        load_encoder(EncoderConfig(kind="clip", name=str(empty)))
    (clip_folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="has no weights here; expected one of model"):
        load_encoder(EncoderConfig(kind="clip", name=str(clip_folder)))
    with pytest.raises(InputError, match="does not exist"):
        load_encoder(EncoderConfig(kind="clip", name=str(tmp_path / "absent")))


def test_a_part_that_the_index_names_is_missed(clip_folder):
    (clip_folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-00001-of-00001.safetensors"}}
    (clip_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"model-00001-of-00001\.safetensors is missing"):
        load_encoder(EncoderConfig(kind="clip", name=str(clip_folder)))


@pytest.mark.parametrize("name", ["ViT-B/32", "google/siglip2-base-patch16-224", "RN50", "x/clip"])
def test_without_a_network_a_hub_name_is_one_clear_line(name, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("prefixcap.encoder_names.OPENAI_CACHE", tmp_path)
    with pytest.raises(InputError, match="hub") as raised:
        load_encoder(resolve_encoder(name))
    assert "\n" not in str(raised.value)


HUB_NAME, COMMIT = "owner/tiny", "0123456789abcdef0123456789abcdef01234567"


def cache_snapshot(cache: Path, folder: Path) -> None:
    """Put a folder into a hub cache, as the hub's client lays it out."""
    repository = cache / "models--owner--tiny"
    shutil.copytree(folder, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)


def test_a_cached_model_needs_no_network(clip_folder, monkeypatch, tmp_path):
    cache_snapshot(tmp_path / "hub", clip_folder)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    encoder = load_encoder(resolve_encoder(HUB_NAME))
    assert encoder.fingerprint() == load_encoder(resolve_encoder(str(clip_folder))).fingerprint()
    assert model_file(HUB_NAME, "config.json", COMMIT).is_file()
    with pytest.raises(InputError, match="cannot be reached"):
        model_file(HUB_NAME, "config.json", "another-revision")


def test_a_name_that_no_hub_model_can_have_is_refused_without_asking():
    with pytest.raises(InputError, match="neither a folder here nor a model on the hub"):
        model_folder("no such thing!")
