"""Captioners that teach: what they say, who may teach whom, and that only the pupil is trained."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from prefixcap.batches import read_sources
from prefixcap.caption_stage import caption_recipe as train
from prefixcap.caption_teachers import CaptionTeachers
from prefixcap.captioner import Captioner, load_model
from prefixcap.cli.main import main
from prefixcap.errors import InputError
from prefixcap.loss_targets import Taught
from prefixcap.model import CaptionBatch
from prefixcap.packed_rows import pack
from prefixcap.recipe import TeachersConfig, load_recipe
from prefixcap.run_folder import RunFolder
from prefixcap.stages import Watch, embed_recipe
from prefixcap.tokenizer import IGNORED
from tests.tiny_run import caption_recipe, with_other_words, write_photos


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Folder with data/, and the run of a tiny captioner."""
    folder = tmp_path_factory.mktemp("teachers")
    write_photos(folder / "data")
    run(folder, "first", "train.epochs=3")
    return folder


def recipe(world, name, *settings):
    """The tiny recipe with changes."""
    path = world / f"{name}.toml"
    path.write_text(caption_recipe(world / "data"))
    return load_recipe(path, [f"name={name}", *settings])


def run(world, name, *settings):
    """Run of the tiny recipe with changes, trained."""
    changed = recipe(world, name, *settings)
    folder = RunFolder(world / name, changed)
    train(changed, folder, Watch())
    return folder


def taught_by(world, *names, share=0.5):
    """Settings of a run that goes on from the first, with teachers."""
    models = json.dumps([str(world / name / "model") for name in names])
    start = [f"start_from={world}/first/model", "train.epochs=1"]
    return [*start, f"teachers.models={models}", f"teachers.share={share}"]


def batch_of(world, model):
    """Captions of a few photos, with the model's embeddings of them."""
    records = read_sources(recipe(world, "read").data)[:4]
    tokens = [model.tokenizer.encode_batch(list(record.captions)) for record in records]
    flat = [ids for captions in tokens for ids in captions]
    longest = max(map(len, flat))
    ids = torch.tensor([ids + [IGNORED] * (longest - len(ids)) for ids in flat])
    rows = torch.tensor([row for row, captions in enumerate(tokens) for _ in captions])
    embeddings = Captioner(model).embed([record.path for record in records])
    return CaptionBatch(embeddings.clone(), ids, rows)  # a clone can have a gradient behind it


@pytest.fixture
def first(world):
    """The first captioner."""
    return load_model(world / "first/model")


def test_expected_are_the_models_own_probabilities_place_by_place(world, first):
    batch = batch_of(world, first)
    found = first.expected(batch)
    with torch.no_grad():
        prefix = first.prefix(batch.embeddings)
        rows = pack(batch.ids, batch.image_rows, prefix.shape[1], shared=True)
        tokens = first.lm.get_input_embeddings()(rows.ids)
        logits = first.lm(
            inputs_embeds=torch.cat([prefix[rows.images], tokens], dim=1),
            attention_mask=torch.zeros(rows.visible.shape).masked_fill(~rows.visible, -1e30),
            position_ids=rows.position_ids,
        ).logits
    places, of_target = rows.sources.unique(return_inverse=True)
    wanted = logits.flatten(0, 1)[places].softmax(-1)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-7)
    chosen = found[of_target].gather(1, rows.targets[:, None])
    torch.testing.assert_close(-chosen.log().sum(), first.loss(batch)[0], rtol=1e-5, atol=0)


def test_the_loss_is_a_mean_of_captions_and_teachers(world, first):
    batch = batch_of(world, first)
    hard, _ = first.loss(batch)
    other = torch.rand(first.expected(batch).shape).softmax(-1)
    only, _ = first.loss(batch, taught=Taught(other, 1.0))
    both, _ = first.loss(batch, taught=Taught(other, 0.25))
    torch.testing.assert_close(both, 0.75 * hard + 0.25 * only, rtol=1e-5, atol=0)


def test_who_is_taught_by_itself_alone_has_nothing_to_learn(world, first):
    batch = batch_of(world, first)
    first.eval().requires_grad_(True)
    embeddings = replace(batch, embeddings=batch.embeddings.detach())
    loss, _ = first.loss(embeddings, taught=Taught(first.expected(embeddings), 1.0))
    parameters = [p for part in first.caption_parts for p in part.parameters()]
    hard = torch.autograd.grad(first.loss(embeddings)[0], parameters)
    soft = torch.autograd.grad(loss, parameters)
    norms = [sum(float(g.square().sum()) for g in grads) ** 0.5 for grads in (soft, hard)]
    assert norms[0] < 1e-4 * norms[1]


def test_several_teachers_say_the_mean(world, first):
    second = run(world, "second", "train.epochs=1", f"start_from={world}/first/model")
    models = [first, load_model(second.path / "model")]
    batch = batch_of(world, first)
    teachers = CaptionTeachers(models, TeachersConfig(models=("a", "b"), share=0.4))
    taught = teachers.taught(None, batch)
    wanted = sum(model.expected(batch) for model in models) / 2
    torch.testing.assert_close(taught.probabilities, wanted)
    assert taught.share == 0.4
    pixels = torch.randn(4, 3, 32, 32)
    seen = teachers.taught(pixels, batch).probabilities
    wanted = [m.expected(replace(batch, embeddings=m.encoder(pixels))) for m in models]
    torch.testing.assert_close(seen, sum(wanted) / 2)
    assert (seen - taught.probabilities).abs().max() > 1e-7  # the photos are others


def test_a_pupil_nears_its_teacher(world, first):
    """Taught alone, from other weights, on the captions of a strong teacher."""
    strong = run(
        world, "strong", "train.epochs=12", "train.ema=0", f"start_from={world}/first/model"
    )
    settings = taught_by(world, "strong", share=1)
    pupil = run(world, "pupil", *settings, "train.epochs=8", "train.ema=0", "train.lr=0.01")
    batch = batch_of(world, first)
    wanted = load_model(strong.path / "model").expected(batch)

    def distance(model):
        return float(F.kl_div(model.expected(batch).log(), wanted, reduction="batchmean"))

    assert distance(load_model(pupil.path / "model")) < 0.5 * distance(first)


def test_a_run_keeps_the_pupil_only_and_goes_on_the_same(world):
    whole = run(world, "whole", *taught_by(world, "first"))
    untaught = run(world, "untaught", *taught_by(world, "first")[:2])
    weights = [load_file(r.path / "model/model.safetensors") for r in (whole, untaught)]
    assert weights[0].keys() == weights[1].keys()
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    sizes = [
        sum(file.stat().st_size for file in (r.path / "checkpoints").rglob("*") if file.is_file())
        for r in (whole, untaught)
    ]
    assert abs(sizes[0] - sizes[1]) < 2000
    again = run(world, "again", *taught_by(world, "first"))
    for name, tensor in load_file(again.path / "model/model.safetensors").items():
        assert torch.equal(tensor, weights[0][name])


def test_teachers_read_the_same_store(world):
    settings = [f"store={world}/store", "views.min_area=1", "views.mirror=false"]
    path = world / "stored.toml"
    path.write_text(caption_recipe(world / "data").replace("lr_encoder = 1e-3\n", ""))
    made = load_recipe(path, ["name=stored", *settings, *taught_by(world, "first")])
    assert embed_recipe(made, Watch()) == []
    train(made, RunFolder(world / "stored", made), Watch())
    assert (world / "stored/model/model.safetensors").exists()
    run(world, "wanderer", "train.epochs=1", f"start_from={world}/first/model")
    other = load_recipe(path, ["name=other", *settings, *taught_by(world, "wanderer")])
    with pytest.raises(InputError, match="encoder"):
        train(other, RunFolder(world / "other", other), Watch())


def test_teachers_of_other_words_or_photos_are_refused(world, tmp_path, capsys):
    other = with_other_words(world / "first/model", tmp_path / "other")
    settings = [*taught_by(world, "first")[:2], "name=x", f'teachers.models=["{other}"]']
    sets = [part for setting in settings for part in ("--set", setting)]
    command = ["train", str(world / "first.toml"), "--runs", str(tmp_path / "runs"), *sets]
    assert main(command) == 2
    assert "another vocabulary" in capsys.readouterr().err
    config = json.loads((world / "first/model/config.json").read_text())
    config["encoder"]["preprocess"]["mean"] = [0.1, 0.5, 0.5]
    shutil.copytree(world / "first/model", tmp_path / "dark")
    (tmp_path / "dark/config.json").write_text(json.dumps(config))
    sets[-1] = f'teachers.models=["{tmp_path}/dark"]'
    command = ["train", str(world / "first.toml"), "--runs", str(tmp_path / "runs"), *sets]
    assert main(command) == 2
    assert "prepares photos in another way" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["train.label_smoothing=0.6"], "leave nothing of the loss"),
        (["stage=language"], "are for the captions of a captioner"),
        (["self_critical.samples=2"], "are for the captions of a captioner"),
        (["teachers.share=0"], "greater than 0"),
        (["teachers.models=[]"], "at least 1 item"),
    ],
)
def test_contradictions_are_refused(world, settings, message):
    with pytest.raises(InputError, match=message):
        recipe(world, "bad", *taught_by(world, "first"), *settings)
