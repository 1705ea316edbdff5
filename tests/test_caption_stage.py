"""What a captioner's training does with embeddings and with captions of odd lengths."""

from dataclasses import replace

import pytest
import torch

from prefixcap.batches import CaptionStep
from prefixcap.caption_batch import CaptionBatch
from prefixcap.caption_stage import CaptionIds, CaptionTask
from prefixcap.datasets.records import CaptionRecord
from prefixcap.recipe import Recipe, TrainConfig, load_recipe
from prefixcap.run_folder import RunFolder
from prefixcap.stages import Watch
from tests.tiny_clipcap import EMBEDDING_DIM, tiny_batch, tiny_model, tiny_tokenizer
from tests.tiny_run import caption_recipe


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
