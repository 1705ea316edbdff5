"""A soup has the mean weights; models that do not mean the same are refused."""

import json
import shutil

import pytest
import torch

from prefixcap.caption_stage import caption_recipe as train
from prefixcap.captioner import load_model
from prefixcap.cli.main import main
from prefixcap.errors import InputError
from prefixcap.model_soup import soup
from prefixcap.recipe import load_recipe
from prefixcap.run_folder import RunFolder
from prefixcap.stages import Watch
from tests.tiny_run import caption_recipe, with_other_words, write_photos


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder with two runs, `first` and `second`, which goes on from it."""
    folder = tmp_path_factory.mktemp("soup")
    data = write_photos(folder / "data")
    (folder / "r.toml").write_text(caption_recipe(data))
    for name, settings in (("first", []), ("second", [f"start_from={folder}/first/model"])):
        recipe = load_recipe(folder / "r.toml", ["train.epochs=1", "train.lr=0.01", *settings])
        train(recipe, RunFolder(folder / name, recipe), Watch())
    return folder


def test_weights_are_the_mean_and_settings_the_first_models(trained):
    names = [trained / "first/model", trained / "second/model"]
    first, second = (load_model(name).state_dict() for name in names)
    mean = soup(names)
    moved = 0
    for name, tensor in mean.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, (first[name] + second[name]) / 2)
            moved += not torch.equal(first[name], second[name])
    assert moved > 5
    assert mean.config == load_model(names[0]).config
    thrice = soup([names[0], names[1], names[1]]).state_dict()
    for name, tensor in thrice.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, (first[name] + 2 * second[name]) / 3)


def test_a_soup_of_one_is_that_model(trained):
    wanted = load_model(trained / "first/model").state_dict()
    for name, tensor in soup([trained / "first/model"]).state_dict().items():
        assert torch.equal(tensor, wanted[name])


def test_export_averages(trained, capsys):
    models = [str(trained / "first/model"), str(trained / "second/model")]
    command = ["export", models[0], "--average", models[1], "--out", str(trained / "out")]
    assert main(command) == 0
    wanted = soup(models).state_dict()
    for name, tensor in load_model(trained / "out").state_dict().items():
        torch.testing.assert_close(tensor, wanted[name])


def test_the_second_may_see_mirror_images_too(trained):
    folder = trained / "mirrored"
    shutil.copytree(trained / "second/model", folder)
    config = json.loads((folder / "config.json").read_text())
    config["encoder"]["mirrored"] = True
    (folder / "config.json").write_text(json.dumps(config))
    assert soup([folder, trained / "first/model"]).config.encoder.mirrored
    assert not soup([trained / "first/model", folder]).config.encoder.mirrored


def test_other_sizes_and_other_words_are_refused(trained, tmp_path, capsys):
    other = with_other_words(trained / "second/model", tmp_path / "other")
    with pytest.raises(InputError, match="another vocabulary"):
        soup([trained / "first/model", other])
    settings = load_recipe(trained / "r.toml", ["mapper.prefix_length=3", "train.epochs=1"])
    train(settings, RunFolder(tmp_path / "run", settings), Watch())
    command = ["export", str(trained / "first/model"), "--average", str(tmp_path / "run/model")]
    assert main([*command, "--out", str(tmp_path / "out")]) == 2
    assert "differs from" in (said := capsys.readouterr().err) and "in mapper;" in said
    assert not (tmp_path / "out").exists()
