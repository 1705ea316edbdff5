"""Every doubt about a model's files is an error that names the file and the tensor."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import HFValidationError
from safetensors.torch import load_file, save_file

from prefixcap import model_files
from prefixcap.errors import InputError
from prefixcap.model import ClipCap
from prefixcap.model_files import CARD_FILE, CONFIG_FILE, LM_CONFIG_FILE, WEIGHTS_FILE
from tests.tiny_clipcap import tiny_model


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    tiny_model().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    """Copy of a saved model, to be damaged."""
    return shutil.copytree(saved, tmp_path / "model")


def changed_config(folder: Path, **changes: object) -> None:
    """Put other values into config.json; None takes a key out."""
    path = folder / CONFIG_FILE
    values = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: v for key, v in values.items() if v is not None}))


def changed_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    """Put other tensors into the weights file; None takes one out."""
    tensors = {**load_file(folder / WEIGHTS_FILE), **changes}
    save_file({n: t for n, t in tensors.items() if t is not None}, folder / WEIGHTS_FILE)


def test_a_saved_folder_holds_what_a_model_needs(saved):
    assert sorted(path.name for path in saved.iterdir()) == [
        CARD_FILE,
        CONFIG_FILE,
        WEIGHTS_FILE,
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert json.loads((saved / CONFIG_FILE).read_text())["format_version"] == 1


def test_tied_weights_are_stored_once(saved):
    names = load_file(saved / WEIGHTS_FILE).keys()
    assert "lm.transformer.wte.weight" in names
    assert "lm.lm_head.weight" not in names


@pytest.mark.parametrize("file", [CONFIG_FILE, WEIGHTS_FILE, "tokenizer.json"])
def test_a_missing_file_is_named(folder, file):
    (folder / file).unlink()
    with pytest.raises(InputError, match=f"has no {file}"):
        ClipCap.from_pretrained(folder)


def test_a_folder_that_is_none_is_named(tmp_path):
    with pytest.raises(InputError, match="none: does not exist"):
        ClipCap.from_pretrained(tmp_path / "none")


def test_a_photo_is_no_model(tmp_path):
    (tmp_path / "dog.jpg").write_bytes(b"\xff\xd8")
    with pytest.raises(InputError, match=r"dog\.jpg: is a file, expected a model folder"):
        ClipCap.from_pretrained(tmp_path / "dog.jpg")


def test_a_hub_name_without_a_network_is_one_clear_line(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"someone/model: .*hub cannot be reached") as caught:
        ClipCap.from_pretrained("someone/model")
    assert "\n" not in str(caught.value)


def test_a_model_of_transformers_is_told_apart(folder):
    (folder / CONFIG_FILE).write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(InputError, match="has no format_version"):
        ClipCap.from_pretrained(folder)


def test_a_newer_format_asks_for_an_update(folder):
    changed_config(folder, format_version=2)
    with pytest.raises(InputError, match=r"format_version 2, .* up to 1\. Update it"):
        ClipCap.from_pretrained(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mappr": {}}, "mappr"),
        ({"embedding_dim": "wide"}, "embedding_dim"),
        ({"embedding_dim": None}, "embedding_dim"),
        ({"embedding_tokens": 7}, "embedding_tokens"),
    ],
)
def test_settings_that_make_no_sense_are_named(folder, changes, message):
    changed_config(folder, **changes)
    with pytest.raises(InputError, match=message):
        ClipCap.from_pretrained(folder)


@pytest.mark.parametrize("content", ["", "{", "[1]", "\x00"])
def test_damaged_settings_are_named(folder, content):
    (folder / CONFIG_FILE).write_text(content)
    with pytest.raises(InputError, match=r"config\.json"):
        ClipCap.from_pretrained(folder)


def test_a_missing_tensor_is_named(folder):
    changed_weights(folder, **{"mapper.linear.bias": None})
    with pytest.raises(InputError, match=r"model\.safetensors: lacks tensor mapper\.linear\.bias"):
        ClipCap.from_pretrained(folder)


def test_many_missing_tensors_are_counted(folder):
    names = [name for name in load_file(folder / WEIGHTS_FILE) if name.startswith("lm.")]
    changed_weights(folder, **dict.fromkeys(names))
    with pytest.raises(InputError, match=rf"lacks tensor lm\..* and {len(names) - 3} more"):
        ClipCap.from_pretrained(folder)


def test_an_unknown_tensor_is_named(folder):
    changed_weights(folder, **{"mapper.extra": torch.zeros(2)})
    with pytest.raises(InputError, match=r"holds tensor mapper\.extra"):
        ClipCap.from_pretrained(folder)


def test_a_tensor_of_another_shape_is_named_with_both_shapes(folder):
    changed_config(folder, embedding_dim=25)
    with pytest.raises(InputError, match=r"mapper\.linear\.weight is \(64, 24\), .* \(64, 25\)"):
        ClipCap.from_pretrained(folder)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_truncated_weights_are_named(folder, share):
    path = folder / WEIGHTS_FILE
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"model\.safetensors"):
        ClipCap.from_pretrained(folder)


def test_a_failed_save_leaves_the_earlier_model_whole(folder, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model_files, "save_tensors", full_disk)
    with pytest.raises(OSError, match="No space left"):
        tiny_model(embedding_dim=7).save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_saving_over_a_model_leaves_nothing_of_it(folder):
    (folder / LM_CONFIG_FILE).write_text("{}")
    (folder / "notes.txt").write_text("mine")
    tiny_model(embedding_dim=7).save_pretrained(folder)
    assert ClipCap.from_pretrained(folder).config.embedding_dim == 7
    assert not (folder / LM_CONFIG_FILE).exists()
    assert (folder / "notes.txt").read_text() == "mine"


def test_weights_too_large_for_half_precision_are_refused(tmp_path):
    model = tiny_model()
    with torch.no_grad():
        model.mapper.linear.bias[0] = 1e6
    with pytest.raises(InputError, match=r"mapper\.linear\.bias holds numbers too large"):
        model.save_pretrained(tmp_path, dtype=torch.float16)


class FakeHub:
    """Stands where the network begins, and keeps what would be sent."""

    def __init__(self) -> None:
        self.repositories: list[tuple[str, bool]] = []
        self.files: dict[str, bytes] = {}

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> str:
        if "/" not in repo_id:
            raise HFValidationError(f"{repo_id} is no repository name")
        assert exist_ok
        self.repositories.append((repo_id, private))
        return f"https://hub/{repo_id}"

    def upload_folder(self, *, folder_path: Path, repo_id: str, commit_message: str) -> None:
        assert (repo_id, bool(commit_message)) == (self.repositories[-1][0], True)
        self.files = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}


@pytest.fixture
def hub(monkeypatch) -> FakeHub:
    hub = FakeHub()
    monkeypatch.setattr(model_files, "HfApi", lambda: hub)
    return hub


def test_the_hub_gets_a_folder_that_loads_as_the_model(hub, tmp_path):
    model = tiny_model()
    assert model.push_to_hub("me/dogs", private=True) == "https://hub/me/dogs"
    assert hub.repositories == [("me/dogs", True)]
    assert "# me/dogs" in hub.files[CARD_FILE].decode()
    for name, content in hub.files.items():
        (tmp_path / name).write_bytes(content)
    loaded = ClipCap.from_pretrained(tmp_path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_a_name_that_the_hub_refuses_is_one_clear_line(hub):
    with pytest.raises(InputError, match="dogs: could not be written on the hub"):
        tiny_model().push_to_hub("dogs")
    assert hub.files == {}
