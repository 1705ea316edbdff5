"""Crops in a store: the student looks at what the teacher saw, a captioner draws among them."""

import numpy as np
import pytest
import torch

from prefixcap.batches import PixelSource, StoreSource, read_sources
from prefixcap.distill_batches import DistillBatches, LookOptions
from prefixcap.embeddings import EmbeddingStore
from prefixcap.errors import InputError
from prefixcap.images import open_rgb
from prefixcap.preprocess import pixels
from prefixcap.recipe import Recipe, expand
from prefixcap.run_folder import RunFolder
from prefixcap.stages import Watch, embed_recipe, not_stored
from prefixcap.views import PhotoArray, View, cut, inside, stored_id, stored_view
from tests.test_stages import recipe_from
from tests.tiny_run import distill_recipe, save_tiny_teacher, write_photos


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Recipe:
    """A distillation whose store holds two crops of each photo, built."""
    folder = tmp_path_factory.mktemp("crops")
    text = distill_recipe(
        write_photos(folder / "data"), save_tiny_teacher(folder), folder / "store"
    )
    crops = ("views.stored=2", "views.min_area=0.3", "views.within=0.5", "views.light=0.0")
    recipe = recipe_from(folder, "distill", text, *crops)
    assert embed_recipe(recipe, Watch()) == []
    return recipe


def test_a_view_of_a_view_shows_its_part():
    outer, inner = View((0.2, 0.1, 0.7, 0.9), True, 1.1, 0.9), View((0.0, 0.5, 0.5, 1), True, 2, 1)
    seen = inside(outer, inner)
    np.testing.assert_allclose(seen.box, (0.45, 0.5, 0.7, 0.9))  # its left half, mirrored
    assert (seen.mirrored, seen.brightness, seen.contrast) == (False, 2.2, 0.9)


def test_the_store_holds_the_crops_that_the_ids_name(recipe):
    records, store = read_sources(recipe.data), EmbeddingStore(expand(recipe.store))
    assert len(store) == 3 * len(records)
    boxes = {stored_view(recipe.views, record.image_id, 2).box for record in records}
    assert len(boxes) == len(records)  # each photo has crops of its own


def test_the_student_looks_into_what_the_teacher_saw(recipe):
    records, store = read_sources(recipe.data), EmbeddingStore(expand(recipe.store))
    photos = PhotoArray([record.path for record in records], 32)
    source = PixelSource(photos, recipe.views, recipe.encoder.preprocess)
    batches = DistillBatches(records, source, store, recipe.train, LookOptions(5))
    batch = batches.batch(3)
    areas = (batch.boxes[:, 2:] - batch.boxes[:, :2]).prod(1)
    assert (areas >= 0.5 - 1e-6).all() and (areas < 1).any()
    stored = store.rows(batches.store_rows.T.flatten())  # (3 * M, N, D), whole photos first
    found = batch.grid.flatten(1, 2).numpy()
    views = [next(n for n, row in enumerate(stored) if (row == grid).all()) for grid in found]
    assert max(views) >= len(records)  # crops are among them, not whole photos alone


def test_parts_are_pasted_along_the_students_cells(recipe):
    records, store = read_sources(recipe.data), EmbeddingStore(expand(recipe.store))
    photos = PhotoArray([record.path for record in records], 32)
    source = PixelSource(photos, recipe.views, recipe.encoder.preprocess)
    batches = DistillBatches(records, source, store, recipe.train, LookOptions(5, 1.0, 4))
    masks = torch.cat([batches.batch(step).pasted for step in range(20)]).float()  # (M, 16)
    assert masks.mean(1).max() == 0.5 and masks.mean() > 0.1
    assert torch.equal(batches.batch(2).pasted, batches.batch(2).pasted)
    plain = DistillBatches(records, source, store, recipe.train, LookOptions(5))
    assert plain.batch(2).pasted is None


def test_a_captioner_draws_a_stored_view_at_every_step(recipe):
    records, store = read_sources(recipe.data), EmbeddingStore(expand(recipe.store))
    source = StoreSource(store, records, recipe.views)
    generator = np.random.default_rng(0)
    drawn = torch.stack([source.images(np.array([4]), generator)[1][0] for _ in range(20)])
    wanted = [store.row_of[stored_id(records[4].image_id, number)] for number in range(3)]
    expected = torch.from_numpy(store.rows(wanted)).float()
    distances = (drawn[:, None] - expected).abs().flatten(2).sum(2)  # (20, 3)
    assert set(distances.argmin(1).tolist()) == {0, 1, 2} and distances.min(1).values.max() == 0


def test_a_store_without_the_crops_is_refused(recipe):
    records, store = read_sources(recipe.data), EmbeddingStore(expand(recipe.store))
    more = recipe.views.model_copy(update={"stored": 3})
    with pytest.raises(InputError, match=r"fewer than views\.stored = 3"):
        StoreSource(store, records, more)


def test_crops_that_were_cut_by_other_settings_are_refused(recipe):
    records, store = read_sources(recipe.data), EmbeddingStore(expand(recipe.store))
    wider = recipe.views.model_copy(update={"min_area": 0.4})
    with pytest.raises(InputError, match=r"other settings than views\.min_area = 0\.4"):
        StoreSource(store, records, wider)
    with pytest.raises(InputError, match="was begun for other crops"):
        embed_recipe(recipe.model_copy(update={"views": wider}), Watch())


def test_vectors_of_whole_photos_are_not_taken_over_as_crops(recipe, tmp_path):
    with pytest.raises(InputError, match=r"set views\.stored = 0"):
        embed_recipe(recipe, Watch(), tmp_path)


def test_a_crop_is_encoded_as_its_cut_photo(recipe):
    records = read_sources(recipe.data)
    view = stored_view(recipe.views, records[0].image_id, 1)
    photo = open_rgb(records[0].path)
    left, top, right, bottom = (round(32 * edge) for edge in view.box)
    assert cut(photo, view.box).size == (right - left, bottom - top)
    assert pixels(cut(photo, view.box), recipe.encoder.preprocess).shape[0] == 3


def test_photos_that_the_store_lacks_are_said_or_refused(recipe, tmp_path):
    records, store = read_sources(recipe.data), EmbeddingStore(expand(recipe.store))
    run, said = RunFolder(tmp_path / "run", recipe), []
    missing = np.arange(len(records)) == 2
    not_stored(store, records, missing, run, Watch(note=said.append))
    assert said == [
        f"1 of {len(records)} photos are not in {store.folder}, such as {records[2].image_id}, "
        "and are left out"
    ]
    not_stored(store, records, np.zeros(len(records), bool), run, Watch(note=said.append))
    assert len(said) == 1
    with pytest.raises(InputError, match=f"holds none of the recipe's {len(records)} photos"):
        not_stored(store, records, np.ones(len(records), bool), run, Watch())
