"""What maps are drawn of: rows, ids and photos belong together whatever they are read from."""

import json

import numpy as np
import pytest
import torch

from prefixcap import datasets
from prefixcap.embedding_map.source import caption_vectors, named_texts, stored_images
from prefixcap.errors import InputError
from prefixcap.recipe import load_recipe
from prefixcap.stages import Watch, embed_recipe
from tests import tiny_clipcap
from tests.tiny_map import heaps, write_matrix

RECIPE = """
name = "tiny"
stage = "caption"
store = "{folder}/store"
store_from = "{folder}/matrix"

[[data]]
format = "flickr8k"
path = "{folder}/photos"
split = "train"

[encoder]
kind = "clip"
name = "openai/clip-vit-base-patch32"
stated_dim = 8
"""


@pytest.fixture
def images(tmp_path):
    """Sixteen images and, in `tmp_path`, their matrix and a recipe."""
    found = heaps(tmp_path / "photos")
    write_matrix(tmp_path / "matrix", found)
    (tmp_path / "recipe.toml").write_text(RECIPE.format(folder=tmp_path))
    return found


def test_a_matrix_with_names_finds_its_photos(images, tmp_path):
    known = datasets.read("flickr8k", tmp_path / "photos", "train")[::-1]
    found = stored_images(tmp_path / "matrix", known, 99)
    np.testing.assert_allclose(found.vectors, images.vectors, atol=2e-3)
    assert found.records == images.records
    assert stored_images(tmp_path / "matrix", [], 99).records == [None] * 16


def test_a_recipes_store_is_read_built_or_not(images, tmp_path):
    before = stored_images(tmp_path / "recipe.toml", [], 99)
    embed_recipe(load_recipe(tmp_path / "recipe.toml"), Watch())
    after = stored_images(tmp_path / "recipe.toml", [], 99)
    assert (before.name, after.name) == ("tiny", "tiny")
    np.testing.assert_array_equal(before.vectors, after.vectors)
    for found in (before, after):
        assert [one.path for one in found.records] == [one.path for one in images.records]
    run = tmp_path / "run"
    run.mkdir()
    recipe = load_recipe(tmp_path / "recipe.toml").model_dump(mode="json")
    (run / "recipe.json").write_text(json.dumps(recipe))
    assert stored_images(run, [], 99).ids == after.ids


def test_fewer_images_are_spread_over_all(images, tmp_path):
    found = stored_images(tmp_path / "matrix", [], 4)
    assert found.ids == [images.ids[place] for place in (0, 5, 10, 15)]
    with pytest.raises(InputError, match="4 or more"):
        stored_images(tmp_path / "matrix", [], 3)


def test_a_part_of_a_recipe_is_its_photos_alone(images, tmp_path):
    assert len(stored_images(tmp_path / "recipe.toml", [], 99, "data").ids) == 16
    with pytest.raises(InputError, match="0 images of what was asked"):
        stored_images(tmp_path / "recipe.toml", [], 99, "test")


def test_a_caption_is_the_mean_of_its_tokens():
    model = tiny_clipcap.tiny_model()
    found = caption_vectors(model, ["two dogs play.", ""])
    ids = model.tokenizer.encode("two dogs play.")
    words = model.lm.get_input_embeddings().weight
    torch.testing.assert_close(torch.from_numpy(found[0]), words[ids].mean(0).detach())
    assert not found[1].any()


def test_texts_are_the_list_that_fits_their_matrix(tmp_path):
    np.save(tmp_path / "texts.npy", np.eye(3, 8, dtype=np.float16))
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"few": ["x"], "all": ["dog", "cat", "car"]}))
    texts, vectors = named_texts(tmp_path / "texts.npy", names, 8)
    assert (texts, vectors.dtype, vectors.shape) == (["dog", "cat", "car"], np.float32, (3, 8))
    lines = tmp_path / "names.txt"
    lines.write_text("dog\n\ncat\ncar\n")
    assert named_texts(tmp_path / "texts.npy", lines, 8)[0] == texts


@pytest.mark.parametrize(
    ("names", "width", "said"),
    [('["a", "b"]', 8, "expected 3 texts"), ('["a", "b", "c"]', 9, "width 9"), ("[", 8, "JSON")],
)
def test_texts_that_do_not_fit_are_refused(tmp_path, names, width, said):
    np.save(tmp_path / "texts.npy", np.eye(3, 8, dtype=np.float16))
    (tmp_path / "names.json").write_text(names)
    with pytest.raises(InputError, match=said):
        named_texts(tmp_path / "texts.npy", tmp_path / "names.json", width)


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="give a recipe, a run or a store"):
        stored_images(tmp_path / "nowhere", [], 9)
