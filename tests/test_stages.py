"""The road from photos to weights, end to end, on a tiny world."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from prefixcap.batches import read_sources
from prefixcap.caption_stage import caption_recipe as run_caption
from prefixcap.caption_stage import plain
from prefixcap.captioner import Captioner
from prefixcap.errors import InputError
from prefixcap.recipe import load_recipe
from prefixcap.run_folder import RunFolder
from prefixcap.stages import Watch, embed_recipe, load_photos, log_skipped
from prefixcap.stages import distill_recipe as run_distill
from tests.tiny_run import caption_recipe, distill_recipe, save_tiny_teacher, write_photos


def recipe_from(folder, name, text, *settings):
    """Recipe of this text, with settings put in."""
    path = folder / name
    path.write_text(text)
    return load_recipe(path, list(settings))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Folder with photos, a teacher, its store, and a distilled encoder in runs/tiny-distill."""
    folder = tmp_path_factory.mktemp("world")
    data = write_photos(folder / "data")
    teacher = save_tiny_teacher(folder / "teacher")
    recipe = recipe_from(folder, "d.toml", distill_recipe(data, teacher, folder / "store"))
    assert embed_recipe(recipe, Watch()) == []
    run_distill(recipe, RunFolder(folder / "runs/tiny-distill", recipe), Watch())
    return folder


def log_of(run):
    """Lines of the run's log."""
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_distillation_lowers_every_loss(world):
    lines = [line for line in log_of(world / "runs/tiny-distill") if "loss" in line]
    for part in ("grid", "cosine", "words"):
        first, last = (sum(line[part] for line in some) for some in (lines[:5], lines[-5:]))
        assert last < first, part


def test_a_distillation_whose_store_changed_does_not_go_on(world):
    recipe = load_recipe(world / "d.toml")
    shard = world / "store/embeddings-00000.npy"
    vectors = np.load(shard)
    np.save(shard, vectors[::-1])
    with pytest.raises(InputError, match="begun with other stored embeddings"):
        run_distill(recipe, RunFolder(world / "runs/tiny-distill", recipe), Watch())
    np.save(shard, vectors)


def test_distillation_with_parts_pasted_lowers_every_loss(world):
    text = distill_recipe(world / "data", world / "teacher", world / "store")
    recipe = recipe_from(world, "p.toml", text, "distill.paste=0.8")
    run_distill(recipe, RunFolder(world / "runs/pasted", recipe), Watch())
    lines = [line for line in log_of(world / "runs/pasted") if "loss" in line]
    first, last = (sum(line["loss"] for line in some) for some in (lines[:5], lines[-5:]))
    assert last < first


@pytest.mark.parametrize("missing", [1, 3])
def test_photos_that_cannot_be_read_are_said_and_named(world, tmp_path, missing):
    text = distill_recipe(world / "data", world / "teacher", world / "store")
    recipe, notes = recipe_from(tmp_path, "d.toml", text), []
    records = [
        replace(record, path=tmp_path / "gone.jpg") if number < missing else record
        for number, record in enumerate(read_sources(recipe.data)[:3])
    ]
    run = RunFolder(tmp_path / "run", recipe)
    expected = f"{missing} of 3 photos cannot be read, such as .*gone.jpg: "
    if missing == len(records):
        with pytest.raises(InputError, match=expected):
            load_photos(records, recipe, run, Watch(note=notes.append))
        return
    photos = load_photos(records, recipe, run, Watch(note=notes.append))
    assert re.match(expected, *notes)
    assert not (run.path / "log.jsonl").exists()  # it may be refused yet
    log_skipped(photos, run)
    assert [line["skipped"] for line in log_of(run.path)] == [str(tmp_path / "gone.jpg")] * missing


def test_parts_are_pasted_between_whole_cells_only(world):
    text = distill_recipe(world / "data", world / "teacher", world / "store")
    settings = ["distill.paste=0.5", "encoder.preprocess.crop_px=36"]
    recipe = recipe_from(world, "q.toml", text, *settings)
    with pytest.raises(InputError, match=r"distill\.paste: .* a multiple of 8"):
        run_distill(recipe, RunFolder(world / "runs/odd", recipe), Watch())


def test_a_distillation_without_a_store_is_refused(world):
    text = distill_recipe(world / "data", world / "teacher", "")
    recipe = recipe_from(world, "s.toml", text, "name=storeless")
    with pytest.raises(InputError, match="distils without a `store`"):
        run_distill(recipe, RunFolder(world / "runs/storeless", recipe), Watch())


def test_captioner_starts_from_the_distilled_encoder_and_learns_colours(world):
    extra = f'encoder_from = "{world}/runs/tiny-distill"'
    text = caption_recipe(world / "data", extra)
    settings = [
        "train.epochs=150",
        "train.validate_epochs=150",
        "train.lr=5e-3",
        "mapper.dropout=0",
        "language_model.dropout=0",
    ]
    recipe = recipe_from(world, "c.toml", text, *settings)
    run = RunFolder(world / "runs/tiny", recipe)
    run_caption(recipe, run, Watch())
    scored = [line for line in log_of(run.path) if "score" in line]
    assert scored[-1]["score"] == pytest.approx(scored[-1]["flickr8k CIDEr"])
    captioner = Captioner.from_pretrained(run.path / "best", dtype=torch.float32)
    photos = sorted((world / "data/images").iterdir())[16:]
    texts = [caption.text for caption in captioner.caption(photos)]
    right = sum(photo.stem.split("_")[1] in text for photo, text in zip(photos, texts, strict=True))
    assert right >= 6, texts  # of 8 photos that were not trained on


def test_encoder_without_a_rate_stays_as_it_was_distilled(world):
    extra = f'encoder_from = "{world}/runs/tiny-distill"'
    text = caption_recipe(world / "data", extra).replace("lr_encoder = 1e-3", "")
    recipe = recipe_from(world, "f.toml", text, "name=frozen", "train.epochs=1")
    run = RunFolder(world / "runs/frozen", recipe)
    run_caption(recipe, run, Watch())
    before = load_file(world / "runs/tiny-distill/encoder.safetensors")
    after = load_file(run.path / "model/model.safetensors")
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor), name


def test_language_stage_needs_no_photo_and_its_weights_are_taken_over(world):
    text = caption_recipe(world / "data").replace('stage = "caption"', 'stage = "language"')
    text = text.replace("[[dev]]", "[[data]]")
    recipe = recipe_from(world, "l.toml", text, "name=language", "train.epochs=1")
    run = RunFolder(world / "runs/language", recipe)
    run_caption(recipe, run, Watch())
    extra = f'language_model_from = "{run.path}/model"\nencoder_from = "{world}/runs/tiny-distill"'
    after = recipe_from(
        world, "s.toml", caption_recipe(world / "data", extra), "name=s", "train.epochs=0.01"
    )
    second = RunFolder(world / "runs/s", after)
    run_caption(after, second, Watch())  # one step at rate 0: the weights are those taken over
    ours = load_file(second.path / "model/model.safetensors")
    theirs = load_file(run.path / "model/model.safetensors")
    for name in theirs:
        if name.startswith("lm."):
            assert torch.equal(ours[name], theirs[name]), name
    with pytest.raises(InputError, match="keep one of them"):
        both = after.model_copy(update={"start_from": "a", "name": "both"})
        run_caption(both, RunFolder(world / "runs/both", both), Watch())


@pytest.mark.parametrize(
    ("kind", "lengths", "kept"),
    [("transformer", (2, 2), "linear"), ("patches", (16, 64), "hidden")],
)
def test_a_captioner_goes_on_at_another_resolution(world, kind, lengths, kept):
    text = caption_recipe(world / "data")
    runs = f"small-{kind}", f"large-{kind}"
    shared = [f"mapper.kind={kind}", "language_model.positions=96"]
    mapper = [[*shared, f"mapper.prefix_length={length}"] for length in lengths]
    encoder = f"encoder_from={world}/runs/tiny-distill"
    start = [f"name={runs[0]}", "train.epochs=1", encoder, *mapper[0]]
    small = recipe_from(world, "p.toml", text, *start)
    run_caption(small, RunFolder(world / "runs" / runs[0], small), Watch())
    change = ["encoder.preprocess.crop_px=64", "train.epochs=0.01", *mapper[1]]
    start = [f"name={runs[1]}", f"start_from={world}/runs/{runs[0]}/model", *change]
    large = recipe_from(world, "q.toml", text, *start)
    run_caption(large, RunFolder(world / "runs" / runs[1], large), Watch())
    before, after = (load_file(world / f"runs/{n}/model/model.safetensors") for n in runs)
    former, now = before["mapper.positions"], after["mapper.positions"]
    assert len(now) == 4 * len(former)
    assert former.abs().max() > 0  # it learned something
    torch.testing.assert_close(now.mean(0), former.mean(0))
    for name in (f"mapper.{kept}.weight", "encoder.network.stem.0.weight"):
        assert torch.equal(after[name], before[name])
    config = json.loads((world / f"runs/{runs[1]}/model/config.json").read_text())
    assert config["encoder"]["preprocess"]["crop_px"] == 64


def test_other_sizes_are_refused(world):
    text = caption_recipe(world / "data", f'encoder_from = "{world}/runs/tiny-distill"')
    text = text.replace("widths = [4, 8]", "widths = [4, 6]")
    recipe = recipe_from(world, "o.toml", text, "name=other")
    with pytest.raises(InputError, match="does not fit this recipe's encoder"):
        run_caption(recipe, RunFolder(world / "runs/other", recipe), Watch())


def test_an_encoder_that_would_stay_random_is_refused(world):
    text = caption_recipe(world / "data").replace("lr_encoder = 1e-3", "")
    recipe = recipe_from(world, "r.toml", text, "name=random")
    with pytest.raises(InputError, match="its encoder would stay random"):
        run_caption(recipe, RunFolder(world / "runs/random", recipe), Watch())


def test_missing_distillation_names_the_command(world):
    text = caption_recipe(world / "data", f'encoder_from = "{world}/runs/absent"')
    recipe = recipe_from(world, "m.toml", text, "name=missing")
    with pytest.raises(InputError, match="Train that run first: prefixcap train"):
        run_caption(recipe, RunFolder(world / "runs/missing", recipe), Watch())


def test_plain_captions_are_lower_case_without_a_full_stop():
    assert plain("A dog runs . ") == "a dog runs"
    assert plain("The U.S. flag.") == "the u.s. flag"
