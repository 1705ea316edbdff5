"""The model that comes with the package: small, offline, quick to load, and far above the floor."""

import socket
import time
from pathlib import Path

import pytest
import torch

import prefixcap
from prefixcap.captioner import Captioner
from prefixcap.datasets import read
from prefixcap.evaluate import constant_caption, evaluate_captioner, score_captions

BUILTIN = Path(prefixcap.__file__).parent / "builtin"
LARGEST_MB = 30
SLOWEST_LOAD_S = 2.0
DIFFERENT = 0.25  # share of the captions that no other photo has, at the least


@pytest.fixture(scope="module")
def mini() -> Captioner:
    """The built-in model, in the precision that its card's scores are of."""
    return Captioner.from_pretrained("mini", dtype=torch.float32)


def test_all_built_in_models_fit_the_package():
    size = sum(file.stat().st_size for file in BUILTIN.rglob("*") if file.is_file())
    assert size / 1e6 <= LARGEST_MB


def test_loads_without_a_network_and_quickly(monkeypatch, mini):
    def refuse(*arguments):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    began = time.process_time()  # the machine may be busy with other things
    Captioner.from_pretrained("mini")
    assert time.process_time() - began < SLOWEST_LOAD_S


def sources(data_dir: Path) -> dict[str, tuple[list, list]]:
    """Dev and training records of both data sets."""
    coco = data_dir / "coco"
    return {
        "flickr8k": (
            read("flickr8k", data_dir / "flickr8k", "dev"),
            read("flickr8k", data_dir / "flickr8k", "train"),
        ),
        "coco": (
            read("coco", coco / "captions_photos_dev.json"),
            read("coco", coco / "captions_photos_train.json"),
        ),
    }


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("flickr8k", 0.40), ("coco", 0.62)])
def test_captions_of_dev_photos_are_far_above_the_floor(mini, data_dir, name, least):
    dev, train = sources(data_dir)[name]
    found = evaluate_captioner(mini, dev, None, ("cider",))
    constant = constant_caption(train[::10])
    floor = score_captions(dict.fromkeys(found.captions, constant), dev, ("cider",))
    assert found.scores.corpus["CIDEr"] > least
    assert found.scores.corpus["CIDEr"] > 2 * floor.corpus["CIDEr"]
    assert len(set(found.captions.values())) > DIFFERENT * len(dev)  # not one for every image


def test_its_card_tells_data_scores_and_limits():
    card = (BUILTIN / "mini" / "README.md").read_text(encoding="utf-8")
    for word in ("Flickr8k", "COCO", "non-commercial", "CIDEr", "cannot"):
        assert word in card, word


def test_its_own_samples_can_vote(mini, data_dir):
    options = mini.model.config.decoding.model_copy(update={"votes": 6, "captions_per_image": 5})
    photo = read("flickr8k", data_dir / "flickr8k", "dev")[0].path
    voted = [caption.text for caption in mini.captions([photo], options)[0]]
    beam = mini.captions([photo], options.model_copy(update={"votes": 0}))[0]
    assert sorted(voted) == sorted(caption.text for caption in beam)
