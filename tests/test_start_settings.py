"""What a recipe leaves out is that of the model it starts from; it may not contradict that."""

import pytest

from prefixcap.caption_stage import caption_recipe as run_caption
from prefixcap.errors import InputError
from prefixcap.model_settings import model_source, read_settings
from prefixcap.recipe import Recipe, load_recipe
from prefixcap.recipe_encoder import encoder_of_store
from prefixcap.run_folder import RunFolder
from prefixcap.stages import Watch
from tests.tiny_run import caption_recipe, write_photos

SHORT = """
name = "own"
stage = "caption"
start_from = "mini"
[[data]]
format = "folder"
path = "."
"""


def from_mini(tmp_path, more="", settings=()):
    """Recipe that starts from the built-in model and says little more, and the model's settings."""
    path = tmp_path / "own.toml"
    path.write_text(SHORT + more)
    return load_recipe(path, list(settings)), read_settings(model_source("mini"))


def test_what_a_recipe_leaves_out_is_that_of_the_model_it_starts_from(tmp_path):
    recipe, mini = from_mini(tmp_path)
    for part in ("encoder", "mapper", "language_model", "lstm"):
        assert getattr(recipe, part) == getattr(mini, part)
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    changes = ["language_model.dropout=0.3", "encoder.mirrored=false"]
    recipe, _ = from_mini(tmp_path, settings=changes)
    assert recipe.language_model == mini.language_model.model_copy(update={"dropout": 0.3})
    assert recipe.encoder == mini.encoder.model_copy(update={"mirrored": False})


def test_a_table_of_a_recipe_takes_only_what_weights_depend_on(tmp_path):
    more = "[mapper]\ndropout = 0.2\n[language_model]\nfrozen = true\n"
    recipe, mini = from_mini(tmp_path, more)
    assert recipe.mapper == mini.mapper.model_copy(update={"dropout": 0.2})
    changes = {"frozen": True, "dropout": 0.0}
    assert recipe.language_model == mini.language_model.model_copy(update=changes)


@pytest.mark.parametrize(
    ("size", "held"), [("heads=4", 8), ("layers=2", 4), ("vocabulary=99", 4000)]
)
def test_a_size_that_the_model_it_starts_from_has_not_is_refused(tmp_path, size, held):
    name, said = size.split("=")
    with pytest.raises(InputError, match=f"model.{name} is {said}, the model in start_.* {held},"):
        from_mini(tmp_path, settings=[f"language_model.{size}"])


def test_settings_of_a_model_that_is_not_there_cannot_be_taken(tmp_path):
    with pytest.raises(InputError, match=r"own\.toml: what it leaves out .*none: does not exist"):
        from_mini(tmp_path, settings=[f"start_from={tmp_path}/none"])


def test_a_whole_recipe_may_start_from_a_model_still_to_be_trained(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(caption_recipe(tmp_path))
    alone = load_recipe(path)
    later = load_recipe(path, [f"start_from={tmp_path}/none"])
    assert later.model_copy(update={"start_from": ""}) == alone


def test_a_whole_recipe_needs_the_variables_of_start_from_where_its_weights_are_read(
    tmp_path, monkeypatch
):
    monkeypatch.delenv("NOT_SET", raising=False)
    path, start = tmp_path / "c.toml", ["start_from=$NOT_SET/m"]
    path.write_text(caption_recipe(write_photos(tmp_path / "data")))
    recipe = load_recipe(path, start)
    assert recipe.start_from == "$NOT_SET/m"
    said = r"start_from = \$NOT_SET/m: the environment variable NOT_SET is not set"
    with pytest.raises(InputError, match=said):
        run_caption(recipe, RunFolder(tmp_path / "run", recipe), Watch())
    with pytest.raises(InputError, match=said):
        encoder_of_store(recipe)
    with pytest.raises(InputError, match=rf"what it leaves out is the start_.*{said}"):
        from_mini(tmp_path, settings=start)
