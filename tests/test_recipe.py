"""Recipes: every one that ships parses; paths name their variables."""

from pathlib import Path

import pytest

from prefixcap.config import read_toml
from prefixcap.errors import InputError
from prefixcap.recipe import expand, load_recipe
from tests.small_recipes import checked_header, name_of, recipes_in
from tests.tiny_run import caption_recipe

REPOSITORY = Path(__file__).parent.parent
FILES = sorted((REPOSITORY / "recipes").rglob("*.toml"))
RECIPES = [path for path in FILES if "recipe" not in read_toml(path)]  # the others are studies


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_recipe_parses_and_says_its_command(path):
    recipe = load_recipe(path)
    header = path.read_text(encoding="utf-8").split("\n\n")[0]
    assert f"prefixcap train {path.relative_to(REPOSITORY).as_posix()}" in header
    assert recipe.name


@pytest.mark.parametrize("path", recipes_in(("flickr8k", "mini", "studies")), ids=name_of)
def test_header_of_own_recipes_and_studies_says_what_others_say(path):
    """Those of the papers' rows are looked at by test_paper_recipes.py and test_lstm_recipes.py."""
    header = checked_header(path)
    places = [header.index(f"\n# {said}:") for said in ("Command", "Cost", "Expected", "Reached")]
    assert places == sorted(places)


def test_unknown_key_is_an_error(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(RECIPES[0].read_text(encoding="utf-8").replace("epochs", "epoches"))
    with pytest.raises(InputError, match=r"train\.epoches: there is no such setting"):
        load_recipe(path)


def test_name_has_to_be_a_folder_name():
    with pytest.raises(InputError, match="names a folder"):
        load_recipe(RECIPES[0], ["name=../other"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["end_token=false"], "waits for an end token"),
        (["train.seed=-1"], "train.seed"),
    ],
)
def test_settings_that_would_fail_later_are_refused(tmp_path, settings, said):
    path = tmp_path / "r.toml"
    path.write_text(caption_recipe(tmp_path))
    with pytest.raises(InputError, match=said):
        load_recipe(path, settings)


def test_unset_variable_is_named(monkeypatch):
    monkeypatch.delenv("PREFIXCAP_NOWHERE", raising=False)
    with pytest.raises(InputError, match="PREFIXCAP_NOWHERE is not set"):
        expand("$PREFIXCAP_NOWHERE/photos")
    monkeypatch.setenv("PREFIXCAP_NOWHERE", "/somewhere")
    assert expand("$PREFIXCAP_NOWHERE/photos") == Path("/somewhere/photos")


def test_patience_without_dev_is_refused(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(caption_recipe(tmp_path))
    assert load_recipe(path, ["train.patience=2"]).train.patience == 2
    with pytest.raises(InputError, match=r"give \[\[dev\]\], or drop it"):
        load_recipe(path, ["train.patience=2", "dev=[]"])


def test_the_loss_on_dev_without_dev_is_refused(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(caption_recipe(tmp_path))
    assert load_recipe(path, ["train.best_by=loss"]).train.best_by == "loss"
    with pytest.raises(InputError, match=r"is the loss on dev; give \[\[dev\]\], or drop it"):
        load_recipe(path, ["train.best_by=loss", "dev=[]"])


def test_votes_are_set_where_their_counts_are_stored():
    with pytest.raises(InputError, match=r"decoding: .*prefixcap export --votes"):
        load_recipe(RECIPES[0], ["decoding.beam_size=3", "decoding.votes=8"])
