"""Self-critical training: the reward, its guard, the gradient, and whole runs on a tiny world."""

import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from prefixcap.batches import BlankSource
from prefixcap.caption_stage import caption_recipe as run_caption
from prefixcap.config import DecodeOptions
from prefixcap.errors import InputError
from prefixcap.metrics import CiderReferences, DocumentFrequencies, score
from prefixcap.processes import Processes
from prefixcap.recipe import SelfCriticalConfig, TrainConfig, load_recipe
from prefixcap.run_folder import RunFolder
from prefixcap.self_critical import (
    END_WORD,
    CiderReward,
    SelfCriticalBatches,
    SelfCriticalStep,
    SelfCriticalTask,
    reward_tokens,
)
from prefixcap.stages import Watch, embed_recipe
from prefixcap.train import Interrupted
from tests.tiny_clipcap import CAPTIONS, EMBEDDING_DIM, tiny_model
from tests.tiny_run import caption_recipe, write_photos

REFERENCES = [
    ["A dog runs on the grass .", "The brown dog is running ."],
    ["Two cats sleep on a bed .", "Cats lying on a bed ."],
    ["A man rides a horse .", "A person with a horse ."],
    ["A boat on the water .", "A small boat ."],
]


def test_without_the_guard_the_reward_is_what_evaluation_reports():
    captions = ["a dog on the grass.", "Cats on a bed", "a horse with", "boat, water"]
    reward = CiderReward(REFERENCES, guard=False)
    found = reward.score(range(4), captions, [False] * 4)
    scores = score(dict(enumerate(captions)), dict(enumerate(REFERENCES)), ("cider",))
    assert found == pytest.approx(list(scores.per_image["CIDEr"].values()), abs=1e-12)


def test_with_the_guard_the_end_is_one_more_word():
    reward = CiderReward(REFERENCES)
    tokens = [[f"{text} {END_WORD}" for text in group] for group in plain_references()]
    expected = CiderReferences(dict(enumerate(tokens))).score([2], [f"a man with {END_WORD}"])
    assert reward.score([2], ["A man with."], [True]) == pytest.approx(expected)


def plain_references():
    """The references as the tokenizer leaves them, which is plain to see here."""
    return [[text.lower().removesuffix(" .") for text in group] for group in REFERENCES]


def test_fragments_pay_and_captions_without_end_or_words_earn_nothing():
    whole, fragment = "a person with a horse", "a person with a"
    guarded = CiderReward(REFERENCES).score([2, 2], [whole, fragment], [True, True])
    open_ = CiderReward(REFERENCES, guard=False).score([2, 2], [whole, fragment], [True, True])
    assert guarded[1] / guarded[0] < open_[1] / open_[0]
    nothing = CiderReward(REFERENCES).score([2, 2, 2], [whole, "", " ."], [False, True, True])
    assert nothing.tolist() == [0, 0, 0]


def test_frequencies_of_a_file_weigh_the_words(tmp_path):
    more = [*REFERENCES, ["A horse ."], ["Horses and a horse ."]]
    ends = DocumentFrequencies.of([reward_tokens(group) for group in more])
    ends.save(tmp_path / "df")
    loaded = DocumentFrequencies.load(tmp_path / "df")
    other = CiderReward(REFERENCES, loaded).score([2], ["a horse"], [True])
    expected = CiderReward(more).score([2], ["a horse"], [True])
    assert other == pytest.approx(expected)
    assert other[0] != pytest.approx(CiderReward(REFERENCES).score([2], ["a horse"], [True])[0])


def test_frequencies_without_ends_are_refused_under_the_guard():
    bare = DocumentFrequencies.of(plain_references())
    with pytest.raises(InputError, match="do not count the ends of captions"):
        CiderReward(REFERENCES, bare)
    assert CiderReward(REFERENCES, bare, guard=False).score([1], ["cats"], [True])[0] > 0


def tiny_task(baseline="mean", max_tokens=6):
    """Task over a tiny model without dropout, whose end token is likely enough to be drawn."""
    model = tiny_model()
    references = [[caption] for caption in CAPTIONS]
    sampling = DecodeOptions(method="sample", captions_per_image=3, max_tokens=max_tokens)
    stop_ids = frozenset({model.tokenizer.end_id, *range(40)})
    return SelfCriticalTask(model, CiderReward(references), baseline, sampling, stop_ids)


def tiny_step():
    """Two images, with the references of records 2 and 0."""
    embeddings = torch.randn(2, EMBEDDING_DIM, generator=torch.Generator().manual_seed(3))
    return SelfCriticalStep(None, embeddings, np.array([2, 0]), range(10, 12))


class Lengths:
    """A reward that is plain to compute by hand: the number of letters, and of the record."""

    def score(self, images, captions, ended):
        """Reward (K,)."""
        return np.array([len(c) + 3.0 * i for c, i in zip(captions, images, strict=True)])


@pytest.mark.parametrize("baseline", ["mean", "greedy"])
def test_gradient_is_that_of_naive_reinforce(baseline):
    task, step = tiny_task(baseline), tiny_step()
    task.reward = Lengths()
    loss, count, values = task.loss(step)
    (loss / count).backward()
    found = {name: p.grad.clone() for name, p in task.named_parameters()}
    task.zero_grad()
    samples = task._decoded(step.embeddings, task.sampling, step.seeds)
    greedy = task._greedy(step.embeddings)
    text = task.model.tokenizer.decode
    assert count == 6
    expected = torch.zeros(())
    for image, record in enumerate([2, 0]):
        rewards = [len(text(s.ids)) + 3.0 * record for s in samples[image]]
        for place, sample in enumerate(samples[image]):
            others = rewards[:place] + rewards[place + 1 :]
            less = sum(others) / 2
            if baseline == "greedy":
                less = len(text(greedy[image][0].ids)) + 3.0 * record
            advantage = rewards[place] - less
            log_prob = naive_log_prob(task.model, step.embeddings[image : image + 1], sample.ids)
            expected = expected - advantage * log_prob / 6
    expected.backward()
    assert any(grad.abs().max() > 1e-3 for grad in found.values())
    for name, parameter in task.named_parameters():
        assert torch.allclose(found[name], parameter.grad, rtol=1e-3, atol=1e-5), name
    letters = [len(text(sample.ids)) for image in samples for sample in image]
    assert values["reward"] == pytest.approx(np.mean(letters) + 3.0)  # records 2 and 0


def naive_log_prob(model, embedding, ids):
    """Log-probability of one caption, all its tokens in one plain pass."""
    prefix = model.prefix(embedding)  # (1, P, W)
    words = model.lm.get_input_embeddings()(torch.tensor([ids[:-1]], dtype=torch.int64))
    logits = model.lm(inputs_embeds=torch.cat([prefix, words], dim=1)).logits[0]  # (P + T - 1, V)
    chosen = logits[prefix.shape[1] - 1 :].log_softmax(dim=-1)
    return chosen[torch.arange(len(ids)), torch.tensor(ids)].sum()


def test_steps_lengthen_captions_where_length_is_rewarded():
    task, step = tiny_task(), tiny_step()
    task.reward = Lengths()
    optimizer = torch.optim.Adam(task.parameters(), lr=3e-3)
    rewards = []
    for number in range(30):
        loss, count, values = task.loss(replace(step, seeds=range(2 * number, 2 * number + 2)))
        optimizer.zero_grad()
        (loss / count).backward()
        optimizer.step()
        rewards.append(values["reward"])
    assert np.mean(rewards[-5:]) > np.mean(rewards[:5]) + 3  # letters


def test_samples_follow_from_the_seeds_and_dropout_plays_no_part():
    task, step = tiny_task(), tiny_step()
    values = task.train().loss(step)[2]
    torch.rand(5)
    assert task.train().loss(step)[2] == values
    other = task.loss(replace(step, seeds=range(20, 22)))[2]
    assert other != values


def test_processes_share_the_images_of_a_step_and_their_seeds():
    config, rows = TrainConfig(images_per_step=3), np.arange(10, 17)
    whole = SelfCriticalBatches(rows, BlankSource((4,)), config).batch(5)
    parts = [
        SelfCriticalBatches(rows, BlankSource((4,)), config, Processes(index, 2)).batch(5)
        for index in (0, 1)
    ]
    assert np.concatenate([part.rows for part in parts]).tolist() == whole.rows.tolist()
    assert [seed for part in parts for seed in part.seeds] == list(whole.seeds) == [15, 16, 17]
    assert [len(part.embeddings) for part in parts] == [1, 2]


def test_log_counts_captions_that_came_to_no_end():
    task = tiny_task(max_tokens=2)
    task.stop_ids = frozenset({task.model.tokenizer.end_id})
    values = task.loss(tiny_step())[2]
    assert values["unfinished"] == 1.0
    assert values["reward"] == values["baseline"] == 0.0
    assert values["length"] == 2.0


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Folder with photos, and a captioner in runs/tiny that knows some of their colours."""
    folder = tmp_path_factory.mktemp("world")
    data = write_photos(folder / "data")
    settings = ["train.epochs=30", "train.validate_epochs=30", "train.lr=5e-3", "train.ema=0"]
    run_caption(*loaded(folder, caption_recipe(data), *settings), Watch())
    return folder


def loaded(folder, text, *settings, run="tiny"):
    """Recipe of this text with settings put in, and its run folder."""
    path = folder / "recipe.toml"
    path.write_text(text)
    recipe = load_recipe(path, list(settings))
    return recipe, RunFolder(folder / "runs" / run, recipe)


def self_critical(world, run, *settings):
    """Recipe that goes on from the captioner, and its run folder."""
    text = caption_recipe(world / "data", f'start_from = "{world}/runs/tiny/model"')
    text = text.replace("lr_encoder = 1e-3", "")
    usual = ["self_critical.samples=4", "train.ema=0", "train.epochs=2", "train.validate_epochs=2"]
    return loaded(world, text, *usual, *settings, run=run)


def log_of(run):
    """Lines of a run's log."""
    return [json.loads(line) for line in (run.path / "log.jsonl").read_text().splitlines()]


def test_reward_rises_from_a_store_of_the_start_models_encoder(world):
    settings = [f"store={world}/store", "train.epochs=24", "train.validate_epochs=24"]
    more = ["train.images_per_step=16", "self_critical.samples=8", "train.lr=3e-3"]
    recipe, run = self_critical(world, "rises", *settings, *more)
    assert embed_recipe(recipe, Watch()) == []
    run_caption(recipe, run, Watch())
    log = log_of(run)
    rewards = [line["reward"] for line in log if "reward" in line]
    assert len(rewards) == 24
    assert np.mean(rewards[12:]) > np.mean(rewards[:4]) + 0.03
    scores = {line["step"]: line["score"] for line in log if "score" in line}
    assert list(scores) == [0, 24]


def test_stopped_runs_end_with_the_same_bits(world):
    recipe, whole = self_critical(world, "whole", "views.min_area=0.8")
    run_caption(recipe, whole, Watch())
    recipe, stopped = self_critical(world, "stopped", "views.min_area=0.8")

    def stop(progress):
        if progress.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        run_caption(recipe, stopped, Watch(step=stop))
    run_caption(recipe, stopped, Watch())
    ours, theirs = (load_file(r.path / "model/model.safetensors") for r in (stopped, whole))
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name
    assert [line["step"] for line in log_of(stopped) if "score" in line] == [0, 8]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["start_from="], "improves a trained captioner"),
        (["train.noise=0.1", "train.lr_encoder=1e-4"], "train.noise, train.lr_encoder means"),
    ],
)
def test_contradictions_are_refused(world, settings, message):
    recipe, run = self_critical(world, f"no-{len(settings)}", *settings)
    recipe = recipe.model_copy(update={"encoder_from": f"{world}/runs/tiny/model"})
    with pytest.raises(InputError, match=message):
        run_caption(recipe, run, Watch())


def test_one_sample_has_no_others():
    with pytest.raises(ValueError, match="needs samples = 2 or more"):
        SelfCriticalConfig(samples=1)
    assert SelfCriticalConfig(samples=1, baseline="greedy").samples == 1
