"""Distillation stage by stage: what the errors are, what they reach, what is refused."""

import json

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from prefixcap.config import EncoderConfig, MbConvConfig, PreprocessConfig
from prefixcap.encoder import build_encoder
from prefixcap.errors import InputError
from prefixcap.hints import LEAST_VARIANCE, HintDistiller, PhotoBatch
from prefixcap.recipe import HintConfig, load_recipe
from prefixcap.run_folder import RunFolder
from prefixcap.stages import Watch
from prefixcap.stages import distill_recipe as run_distill
from tests.test_mobilenet import torchvision_weights
from tests.tiny_run import distill_train, write_photos

SIZES = {
    "stem_width": 4, "widths": (4, 6), "hidden": (8, 12), "depths": (1, 2), "strides": (2, 2),
    "fused": (True, False), "last_width": 10,
}  # fmt: skip

PER_STAGE = ("widths", "hidden", "depths", "strides", "fused")


def encoder(seed: int = 0, crop_px: int = 32, **sizes):
    """A tiny network of two stages, in evaluation mode."""
    torch.manual_seed(seed)
    square = PreprocessConfig(resize="squash", crop_px=crop_px)
    config = EncoderConfig(
        kind="mbconv",
        output="patches",
        stored=True,
        mbconv=MbConvConfig(**SIZES | sizes),
        preprocess=square,
    )
    return build_encoder(config).eval()


def looks(count: int = 8):
    """Random pixels."""
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("settings", [{"forced": True}, {"pooled_weight": 2.0}])
def test_no_error_is_left_where_the_student_is_the_teacher(settings):
    task = HintDistiller(encoder(), encoder(), looks(), HintConfig(**settings))
    loss, count, parts = task.loss(PhotoBatch(looks()))
    assert count == 8 and loss.item() == pytest.approx(0, abs=1e-6)
    assert set(parts) == {"stage_1", "stage_2"} | (
        {"pooled"} if "pooled_weight" in settings else set()
    )


def test_error_is_the_mean_over_channels_in_units_of_the_teachers_variance():
    teacher, student = encoder(0), encoder(1)
    task = HintDistiller(student, teacher, looks(), HintConfig(pooled_weight=3.0))
    loss, _, parts = task.loss(PhotoBatch(looks(4)))
    sees = [looks(4), looks(4)]
    for number in (1, 2):
        with torch.no_grad():
            sees = [
                net.network.stages()[number - 1](x)
                for net, x in zip((student, teacher), sees, strict=True)
            ]
            all_of = looks()
            for stage in teacher.network.stages()[:number]:
                all_of = stage(all_of)
        variance = all_of.transpose(0, 1).flatten(1).var(1).clamp(min=LEAST_VARIANCE)
        error = ((sees[0] - sees[1]) ** 2).mean((0, 2, 3)) / variance
        assert parts[f"stage_{number}"] == pytest.approx(error.mean().item(), rel=1e-4)
    pooled = ((sees[0].mean((2, 3)) - sees[1].mean((2, 3))) ** 2).mean(0) / variance
    assert parts["pooled"] == pytest.approx(3 * pooled.mean().item(), rel=1e-4)
    assert loss.item() == pytest.approx(4 * sum(parts.values()), rel=1e-5)


def test_forced_stages_learn_by_themselves_and_a_chain_as_one():
    teacher, student = encoder(0), encoder(1)
    before = {}
    for forced in (True, False):
        task = HintDistiller(student, teacher, looks(), HintConfig(forced=forced))
        found = task.loss(PhotoBatch(looks()))[2]
        with torch.no_grad():
            spoilt = encoder(1)
            spoilt.network.parts[0][0][0].weight.zero_()  # the stem of the first stage
        changed = HintDistiller(spoilt, teacher, looks(), HintConfig(forced=forced))
        before[forced] = (found, changed.loss(PhotoBatch(looks()))[2])
    same = {forced: one["stage_2"] == other["stage_2"] for forced, (one, other) in before.items()}
    assert same == {True: True, False: False}


def test_a_stage_learns_from_its_share_of_the_batch():
    task = HintDistiller(
        encoder(1), encoder(0), looks(), HintConfig(forced=True, shares=(0.25, 1.0))
    )
    few = task.loss(PhotoBatch(looks()))[2]
    other = looks()
    other[2:] = 0  # not among the first quarter
    changed = task.loss(PhotoBatch(other))[2]
    assert few["stage_1"] == changed["stage_1"] and few["stage_2"] != changed["stage_2"]


def test_the_teachers_weights_are_none_of_the_tasks():
    task = HintDistiller(encoder(1), encoder(0), looks(), HintConfig())
    assert all(name.startswith("encoder.") for name in task.state_dict())


@pytest.mark.parametrize(
    ("student", "settings", "message"),
    [
        ({"widths": (4, 8)}, {"shares": (1.0,), "forced": True}, "1 for 2 stages"),
        (
            {"last_width": 12},
            {},
            r"student's stages give 4x8x8, 12x4x4, the teacher's 4x8x8, 10x4x4",
        ),
        ({"strides": (2, 1)}, {}, "10x8x8"),
        ({"widths": (6, 6)}, {}, "student's stages give 6x8x8, 10x4x4"),
        (
            {name: (*SIZES[name], SIZES[name][-1]) for name in PER_STAGE},
            {},
            "10x2x2, the teacher's",
        ),
        ({"crop_px": 64}, {}, "crop_px is 64, the teacher's 32"),
    ],
)
def test_networks_that_do_not_match_are_refused(student, settings, message):
    with pytest.raises(InputError, match=message):
        HintDistiller(encoder(1, **student), encoder(0), looks(), HintConfig(**settings))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shares": (0.5,)}, "shares are for forced"),
        ({"shares": (1.5,), "forced": True}, "above 0 and at most 1"),
        ({"pooled_weight": 1.0, "forced": True}, "pooled_weight is for forced = false"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        HintConfig(**settings)


def recipe_text(data, teacher, extra=""):
    """Recipe of a tiny student of MobileNetV2's widths."""
    return f"""
name = "hints"
stage = "distill"
{extra}

[[data]]
format = "photos"
path = "{data}/images"

[views]
min_area = 0.5
mirror = true
stored_px = 32

[encoder]
kind = "mbconv"
output = "patches"
stored = true

[encoder.mbconv]
stem_width = 8
hidden = [8, 8, 16, 16, 16, 32]
depths = [1, 1, 1, 1, 1, 1]

[encoder.preprocess]
resize = "squash"
crop_px = 32

[distill.hints]
forced = true

[distill.teacher]
kind = "mobilenetv2"
name = "{teacher}"
output = "patches"

[distill.teacher.preprocess]
resize = "squash"
crop_px = 32

{distill_train(8, 5e-3, "bf16")}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Folder with photos and a teacher in torchvision's format."""
    folder = tmp_path_factory.mktemp("hints")
    write_photos(folder / "data")
    save_file(torchvision_weights(), folder / "mobilenet_v2.safetensors")
    return folder


def run(world, name, *settings, extra=""):
    """Train the recipe; the run's folder."""
    path = world / f"{name}.toml"
    path.write_text(recipe_text(world / "data", world / "mobilenet_v2.safetensors", extra))
    recipe = load_recipe(path, [f"name={name}", *settings])
    run_distill(recipe, RunFolder(world / "runs" / name, recipe), Watch())
    return world / "runs" / name


def test_a_run_holds_on_to_the_photos_that_it_learns_from(tmp_path):
    photos = sorted((write_photos(tmp_path / "data") / "images").iterdir())
    save_file(torchvision_weights(), tmp_path / "mobilenet_v2.safetensors")
    whole = [photo.read_bytes() for photo in photos[:2]]
    photos[0].write_bytes(b"no photo")
    encoder = run(tmp_path, "held", "train.epochs=0.5") / "encoder.safetensors"
    learned = encoder.read_bytes()
    photos[0].write_bytes(whole[0])
    run(tmp_path, "held", "train.epochs=0.5")
    assert encoder.read_bytes() == learned
    photos[1].write_bytes(b"no photo")
    with pytest.raises(InputError, match="begun with other readable photos"):
        run(tmp_path, "held", "train.epochs=0.5")
    photos[1].write_bytes(whole[1])
    run(tmp_path, "held", "train.epochs=0.5")


def test_every_stage_learns_and_then_all_as_one(world):
    forced = run(world, "forced")
    chained = run(
        world, "chained", f"encoder_from={forced}", "distill.hints.forced=false",
        "distill.hints.pooled_weight=1.0",
    )  # fmt: skip
    for folder, parts in ((forced, 6), (chained, 7)):
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        lines = [line for line in lines if "loss" in line]
        names = [name for name in lines[0] if name.startswith("stage_") or name == "pooled"]
        assert len(names) == parts
        for name in names if folder == forced else ["loss"]:
            first, last = (sum(line[name] for line in some) for some in (lines[:3], lines[-3:]))
            assert last < first, (folder.name, name)
    tensors = load_file(chained / "encoder.safetensors")
    assert all(name.startswith("encoder.network.parts.") for name in tensors)
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


def test_a_store_beside_hints_is_refused(world):
    with pytest.raises(InputError, match="leave store and views"):
        run(world, "stored", extra='store = "somewhere"')
    with pytest.raises(InputError, match="leave store and views"):
        run(world, "crops", "views.stored=2")


def test_losses_that_hints_take_the_place_of_are_refused(world):
    with pytest.raises(InputError, match="hints take the place of words_weight, paste; drop those"):
        run(world, "words", "distill.words_weight=0.1", "distill.paste=0.5")


def test_a_student_without_stages_is_refused(world):
    with pytest.raises(InputError, match=r"distill\.hints: an encoder of kind 'resnet' has no"):
        run(world, "plain", "encoder.kind=resnet", "encoder.resnet.stem_width=8")
