"""benchmarks/neighbours.py runs on a tiny world, and near photos say the colour."""

import os
import subprocess
import sys
from pathlib import Path

from prefixcap.recipe import load_recipe
from tests.tiny_run import distill_recipe, save_tiny_teacher, write_photos

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "neighbours.py"


def test_neighbours_of_a_teacher_say_the_colour(tmp_path):
    data = write_photos(tmp_path / "data")
    recipe = tmp_path / "distill.toml"
    recipe.write_text(distill_recipe(data, save_tiny_teacher(tmp_path), tmp_path / "store"))
    assert load_recipe(recipe).distill is not None
    command = [sys.executable, str(SCRIPT), str(recipe), "--teacher", "--flickr8k", str(data)]
    environment = os.environ | {"PYTHONPATH": str(SCRIPT.parent.parent)}
    done = subprocess.run(
        [*command, "--neighbours", "3"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("8 photos: CIDEr-D ")
    assert float(done.stdout.split("CIDEr-D ")[1].split(",")[0]) > 400  # a guess: a quarter of 620
