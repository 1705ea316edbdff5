"""Settings of a model are found by its folder or its built-in name."""

import shutil

import pytest

from prefixcap import model_settings
from prefixcap.errors import InputError
from prefixcap.model import ClipCap
from tests.tiny_clipcap import tiny_model


def test_a_built_in_model_is_found_by_its_name(tmp_path, monkeypatch):
    saved = tmp_path / "saved"
    tiny_model().save_pretrained(saved)
    shutil.copytree(saved, tmp_path / "builtin" / "small")
    monkeypatch.setattr(model_settings, "BUILTIN", tmp_path / "builtin")
    assert model_settings.builtin_names() == ["small"]
    source = model_settings.model_source("small")
    assert model_settings.read_settings(source) == ClipCap.from_pretrained(saved).config
    assert ClipCap.from_pretrained("small").config == ClipCap.from_pretrained(saved).config
    with pytest.raises(InputError, match=r"smal: is neither a folder .* model \(small\)"):
        ClipCap.from_pretrained("smal")
