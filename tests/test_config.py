"""Settings are strict, and say what is wrong in one line."""

import pytest

from prefixcap.config import (
    DecodeOptions,
    EncoderConfig,
    ModelConfig,
    parse,
    read_toml,
    with_overrides,
)
from prefixcap.errors import InputError


def test_unknown_key_and_wrong_type_are_named():
    with pytest.raises(
        InputError, match=r"r\.toml: beam_size: .*\(found 0\); beams: there is no such setting"
    ):
        parse(DecodeOptions, {"beam_size": 0, "beams": 3}, "r.toml")


@pytest.mark.parametrize(
    "options",
    [
        {"min_tokens": 5, "max_tokens": 4},
        {"method": "greedy", "beam_size": 3},
        {"beam_size": 2, "captions_per_image": 3},
        {"captions_per_image": 2},
        {"top_p": 0.0},
        {"temperature": 0.0},
    ],
)
def test_contradictory_decoding_is_refused(options):
    with pytest.raises(InputError):
        parse(DecodeOptions, options, "options")


def test_method_follows_from_the_beam():
    assert DecodeOptions().resolved_method == "greedy"
    assert DecodeOptions(beam_size=2).resolved_method == "beam"


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(ValueError, match="frozen"):
        DecodeOptions().beam_size = 3


def test_overrides_reach_nested_tables_and_leave_the_rest():
    tables = {"train": {"lr": 1.0, "seed": 1}}
    changed = with_overrides(tables, ["train.lr=2e-5", "name=run", "views.mirror=true"])
    assert changed == {
        "train": {"lr": 2e-5, "seed": 1},
        "name": "run",
        "views": {"mirror": True},
    }
    assert tables == {"train": {"lr": 1.0, "seed": 1}}


@pytest.mark.parametrize("assignment", ["train.lr", "=3", "train.lr.x=1"])
def test_malformed_overrides_are_refused(assignment):
    with pytest.raises(InputError, match="--set"):
        with_overrides({"train": {"lr": 1.0}}, [assignment])


@pytest.mark.parametrize("text", ["10", "nan", "true"])
def test_text_that_reads_as_a_number_is_to_be_quoted(text):
    with pytest.raises(InputError) as caught:
        parse(EncoderConfig, with_overrides({"name": "x"}, [f"name={text}"]), "r.toml")
    hint = f"--set 'name=\"{text}\"'"
    assert hint in str(caught.value)
    assert with_overrides({}, [f'name="{text}"']) == {"name": text}


def test_a_file_that_is_not_toml_is_refused(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text("name = ")
    with pytest.raises(InputError, match="is not a TOML file"):
        read_toml(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_toml(tmp_path / "absent.toml")


def test_patch_tokens_need_their_number():
    values = {
        "encoder": {"kind": "clip", "output": "patches"},
        "embedding_dim": 8,
        "mapper": {},
        "language_model": {},
    }
    with pytest.raises(InputError, match="patch tokens need their number"):
        parse(ModelConfig, values, "config.json")
