"""Builders of a store: killed, together, and in batches that suit the device."""

import os
import subprocess
import sys

import pytest
import torch

from prefixcap.config import EncoderConfig, PreprocessConfig
from prefixcap.encoder import ImageEncoder
from prefixcap.mobilenet import MobileNetV2
from prefixcap.store_build import BATCH, SMALL_BATCH, fitting_batch
from tests.source_tree import REPOSITORY


@pytest.mark.slow
def test_whoever_is_killed_the_store_has_no_duplicate_and_no_hole(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.killed_builds", str(tmp_path)],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rounds, last = done.stdout.splitlines()
    assert int(rounds.split()[1]) >= 8
    assert last == "equal"


def test_convolutions_are_encoded_in_small_batches_on_a_cpu():
    preprocess = PreprocessConfig(crop_px=32, resize_px=32)
    with torch.device("meta"):
        network = MobileNetV2()
    few = ImageEncoder(EncoderConfig(kind="mobilenetv2", preprocess=preprocess), network)
    few.network.to_empty(device="cpu")
    assert fitting_batch(few) == SMALL_BATCH < BATCH
