"""The split that is scored: as named, from a run's recipe, or where the data usually lies."""

from pathlib import Path

import pytest

from prefixcap.errors import InputError
from prefixcap.recipe import Recipe
from prefixcap.split_source import Wanted, chosen_split, run_of
from tests.tiny_run import caption_recipe, write_photos


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A folder of data sets: flickr8k, 16 photos in train, 8 in dev."""
    root = tmp_path_factory.mktemp("data")
    write_photos(root / "flickr8k")
    return root


@pytest.fixture
def run(data: Path, tmp_path: Path) -> Path:
    """Folder of a run that is trained on that train and validated on that dev split."""
    return begin_run(tmp_path / "run", caption_recipe(data / "flickr8k"))


def begin_run(folder: Path, toml: str) -> Path:
    """`folder` with the recipe as `prefixcap train` leaves it there."""
    import tomllib

    folder.mkdir()
    recipe = Recipe.model_validate(tomllib.loads(toml))
    (folder / "recipe.json").write_text(recipe.model_dump_json())
    return folder


def test_a_run_alone_means_its_dev_data(run, data):
    chosen = chosen_split(Wanted(), run)
    assert (chosen.format, chosen.split, len(chosen.records)) == ("flickr8k", "dev", 8)
    assert chosen.path == data / "flickr8k"
    assert chosen.records[0].image_id == "0016_red.jpg"  # as published, without the run's prefix


def test_another_split_or_less_of_it_can_be_asked_of_the_run(run):
    assert len(chosen_split(Wanted(split="train"), run).records) == 16
    assert len(chosen_split(Wanted(first=3), run).records) == 3
    assert len(chosen_split(Wanted(format="flickr8k", split="dev"), run).records) == 8


def test_a_format_alone_is_looked_for_where_data_lies(data, monkeypatch):
    monkeypatch.setenv("PREFIXCAP_DATA", str(data))
    chosen = chosen_split(Wanted(format="flickr8k", split="dev"), None)
    assert (chosen.path, len(chosen.records)) == (data / "flickr8k", 8)
    with pytest.raises(InputError, match="nocaps: not there"):
        chosen_split(Wanted(format="nocaps"), None)
    monkeypatch.delenv("PREFIXCAP_DATA")
    with pytest.raises(InputError, match=r"coco-karpathy: where is it.* holds coco/"):
        chosen_split(Wanted(format="coco-karpathy"), None)


def test_a_path_wins_over_the_recipe(run, tmp_path):
    other = write_photos(tmp_path / "other", split_at=20)
    assert len(chosen_split(Wanted("flickr8k", other, "dev"), run).records) == 4


def test_a_recipe_of_another_release_is_in_the_way_only_where_it_is_needed(data, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.json").write_text('{"name": "old"}')
    with pytest.raises(InputError, match="--data NAME PATH"):
        chosen_split(Wanted(), run)
    assert len(chosen_split(Wanted("flickr8k", data / "flickr8k", "dev"), run).records) == 8


def test_several_dev_sets_have_to_be_told_apart(data, tmp_path):
    another = f'\n[[dev]]\nformat = "folder"\npath = "{tmp_path}"\n'
    run = begin_run(tmp_path / "run", caption_recipe(data / "flickr8k") + another)
    with pytest.raises(InputError, match=r"several .*flickr8k .* --split dev; folder .*--data"):
        chosen_split(Wanted(), run)
    assert chosen_split(Wanted(format="flickr8k"), run).split == "dev"


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Wanted(), "no data is named"),
        (Wanted(path=Path("x")), "of which format"),
        (Wanted(format="flickr9k"), '"flickr9k" is no dataset'),
    ],
)
def test_what_names_no_split_is_refused(wanted, said):
    with pytest.raises(InputError, match=said):
        chosen_split(wanted, None)


def test_a_run_is_found_from_its_weights_too(run, tmp_path):
    (run / "best").mkdir()
    assert run_of(str(run)) == run_of(str(run / "best")) == run
    assert run_of(str(tmp_path)) is None
    assert run_of("mini") is None
