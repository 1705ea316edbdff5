"""What a captioner's training does with embeddings and with captions of odd lengths."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from prefixcap import caption_stage
from prefixcap.batches import CaptionStep
from prefixcap.caption_batch import CaptionBatch
from prefixcap.caption_stage import CaptionIds, CaptionTask
from prefixcap.datasets.records import CaptionRecord
from prefixcap.errors import InputError
from prefixcap.recipe import Recipe, TrainConfig, load_recipe
from prefixcap.run_folder import RunFolder
from prefixcap.stages import Watch, embed_recipe
from tests.tiny_clipcap import EMBEDDING_DIM, tiny_batch, tiny_model, tiny_tokenizer
from tests.tiny_run import caption_recipe, save_tiny_teacher, write_photos


@pytest.fixture
def recipe(tmp_path) -> Recipe:
    path = tmp_path / "c.toml"
    path.write_text(caption_recipe(tmp_path))
    return load_recipe(path, ["decoding.max_tokens=4"])


def seen_embeddings(task: CaptionTask, step: CaptionStep) -> torch.Tensor:
    """Embeddings that the model is given."""
    seen, loss = [], task.model.loss

    def watched(batch: CaptionBatch, **options: float) -> tuple[torch.Tensor, int]:
        seen.append(batch.embeddings)
        return loss(batch, **options)

    task.model.loss = watched
    task.loss(step)
    task.model.loss = loss
    return seen[0]


def test_noise_of_the_stated_deviation_is_on_the_embedding_in_training_only():
    batch = tiny_batch()
    step = CaptionStep(None, replace(batch, embeddings=torch.randn(4000, EMBEDDING_DIM)))
    task = CaptionTask(tiny_model(), TrainConfig(noise=0.3))
    noise = seen_embeddings(task.train(), step) - step.captions.embeddings
    assert float(noise.std()) == pytest.approx(0.3, rel=0.02)  # of 96,000 numbers
    assert abs(float(noise.mean())) < 0.005
    other = seen_embeddings(task, step) - step.captions.embeddings
    assert abs(float((noise * other).mean())) < 0.002  # drawn anew
    assert torch.equal(seen_embeddings(task.eval(), step), step.captions.embeddings)
    quiet = CaptionTask(tiny_model(), TrainConfig()).train()
    assert torch.equal(seen_embeddings(quiet, step), step.captions.embeddings)


def test_captions_that_are_cut_or_empty_are_counted_and_said(recipe, tmp_path):
    tokenizer, said = tiny_tokenizer(), []
    captions = ("dog", "dog dog dog dog dog dog", " . ", "the the the the")
    ids = CaptionIds(tokenizer, recipe)
    found = ids(CaptionRecord("1", tmp_path, captions, "train"))
    whole = [tokenizer.encode(text) for text in (captions[0], captions[1], captions[3])]
    assert len(whole[1]) > 4 == len(whole[2])
    assert found == [
        [*whole[0], tokenizer.end_id],
        whole[1][:4],  # it does not end here, so no end is learned
        [*whole[2], tokenizer.end_id],
    ]
    run = RunFolder(tmp_path / "run", recipe)
    ids.report(run, Watch(note=said.append))
    assert said == [
        "1 captions are cut after 4 tokens (decoding.max_tokens), 1 hold no word and are left out"
    ]
    assert '"captions_cut": 1, "captions_empty": 1' in (tmp_path / "run/log.jsonl").read_text()
    CaptionIds(tokenizer, recipe).report(run, Watch(note=said.append))
    assert len(said) == 1


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Photos in Flickr8k's format."""
    return write_photos(tmp_path_factory.mktemp("photos") / "data")


def test_a_caption_beyond_the_positions_is_refused_before_the_first_step(photos, tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(caption_recipe(photos))
    settings = ["language_model.positions=8", "mapper.prefix_length=6", "dev=[]"]
    recipe = load_recipe(path, settings)
    with pytest.raises(InputError, match=r"take \d+ positions, the language model has 8"):
        caption_stage.caption_recipe(recipe, RunFolder(tmp_path / "run", recipe), Watch())
    assert not (tmp_path / "run/log.jsonl").exists()
    wider = load_recipe(path, [*settings, "language_model.positions=40", "train.epochs=0.1"])
    caption_stage.caption_recipe(wider, RunFolder(tmp_path / "run", wider), Watch())


def test_a_rate_of_a_frozen_language_model_is_said_to_be_unused(photos, tmp_path):
    path, said = tmp_path / "c.toml", []
    path.write_text(caption_recipe(photos))
    first = load_recipe(path, ["train.epochs=0.1", "dev=[]"])
    caption_stage.caption_recipe(first, RunFolder(tmp_path / "first", first), Watch())
    settings = ["train.epochs=0.1", "train.warmup_steps=0", "dev=[]", "name=again"]
    settings.append(f"start_from={tmp_path}/first/model")
    for frozen, name in (("false", "tuned"), ("true", "frozen")):
        recipe = load_recipe(
            path,
            [*settings, f"language_model.frozen={frozen}", "train.lr_language_model=1e-3"],
        )
        watch = Watch(note=said.append)
        caption_stage.caption_recipe(recipe, RunFolder(tmp_path / name, recipe), watch)
        assert len(said) == (frozen == "true")
    assert said[0].startswith("train.lr_language_model is not used")


def stored_recipe(photos: Path, folder: Path) -> Recipe:
    """Recipe of half an epoch on stored embeddings, which are in `folder/store` once embedded."""
    teacher = save_tiny_teacher(folder / "teacher")
    path = folder / "c.toml"
    path.write_text(caption_recipe(photos).replace("lr_encoder = 1e-3", ""))
    tables = f'encoder={{kind="clip", name="{teacher}", output="patches"}}'
    return load_recipe(path, [tables, f"store={folder}/store", "train.epochs=0.5"])


@pytest.mark.parametrize(("name", "trained_on"), [("0020_red.jpg", False), ("0004_red.jpg", True)])
def test_a_run_goes_on_where_a_photo_can_be_read_again(photos, tmp_path, name, trained_on):
    """A dev photo is judged by from then on; one to train on stays out of this run."""
    copy = shutil.copytree(photos, tmp_path / "photos")
    (copy / "images" / name).write_bytes(b"no photo")
    recipe = stored_recipe(copy, tmp_path)
    assert len(embed_recipe(recipe, Watch())) == 1
    caption_stage.caption_recipe(recipe, RunFolder(tmp_path / "run", recipe), Watch())
    shutil.copyfile(photos / "images" / name, copy / "images" / name)
    assert embed_recipe(recipe, Watch()) == []
    again, said = RunFolder(tmp_path / "run", recipe), []
    ended = caption_stage.caption_recipe(recipe, again, Watch(note=said.append))
    assert ended.startswith("done")
    assert any(f"{name}, were not stored when this run began" in s for s in said) == trained_on


def test_a_run_whose_stored_vectors_changed_does_not_go_on(photos, tmp_path):
    """As after another build in the same folder: the ids are the same, the rows are not."""
    recipe, log = stored_recipe(photos, tmp_path), tmp_path / "run/log.jsonl"
    embed_recipe(recipe, Watch())
    caption_stage.caption_recipe(recipe, RunFolder(tmp_path / "run", recipe), Watch())
    data = tmp_path / "run/data.json"
    held = json.loads(data.read_text())
    caption_stage.caption_recipe(recipe, RunFolder(tmp_path / "run", recipe), Watch())
    shard = tmp_path / "store/embeddings-00000.npy"
    vectors = np.load(shard)
    np.save(shard, vectors[::-1])
    lines = log.read_text()
    with pytest.raises(InputError, match="begun with other stored embeddings under the same names"):
        caption_stage.caption_recipe(recipe, RunFolder(tmp_path / "run", recipe), Watch())
    assert log.read_text() == lines
    del held["rest"]["stored_embeddings"]  # as an earlier release began it
    data.write_text(json.dumps(held))
    caption_stage.caption_recipe(recipe, RunFolder(tmp_path / "run", recipe), Watch())
    assert json.loads(data.read_text())["rest"].keys() >= {"frozen_weights", "stored_embeddings"}


@pytest.mark.parametrize(("warmup", "is_said"), [(5000, True), (4, True), (3, False)])
def test_a_warm_up_that_takes_all_steps_is_said(photos, tmp_path, warmup, is_said):
    path, said = tmp_path / "c.toml", []
    path.write_text(caption_recipe(photos))
    settings = ["dev=[]", "train.epochs=1", "train.lr=2e-5", f"train.warmup_steps={warmup}"]
    recipe = load_recipe(path, settings)
    run = RunFolder(tmp_path / "run", recipe)
    caption_stage.caption_recipe(recipe, run, Watch(note=said.append))
    assert len(said) == is_said
    if is_said:
        expected = f"warm-up of {warmup:,} steps, the run has 4: its rate ends at "
        assert said[0].startswith(f"{expected}{2e-5 * 3 / warmup:.3g}, below the 2e-05 of train.lr")
