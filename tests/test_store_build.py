"""Builders of a store: killed, together, and in batches that suit the device."""

import os
import subprocess
import sys
from typing import get_args

import pytest
import torch

from prefixcap.config import EncoderConfig, PreprocessConfig
from prefixcap.encoder import BATCH, CONVOLUTIONS, SMALL_BATCH, ImageEncoder, fitting_batch
from prefixcap.mobilenet import MobileNetV2
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


def test_every_kind_of_convolutions_is_known_as_one():
    groups = get_args(EncoderConfig.model_fields["kind"].annotation)
    kinds = {kind for group in groups for kind in get_args(group)}
    assert kinds - CONVOLUTIONS == {"clip", "siglip", "dinov2"}
    assert kinds > CONVOLUTIONS
