"""benchmarks/decoding.py runs, and its baselines are what they say."""

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


def test_every_section_runs_at_a_tiny_size_and_beams_are_the_original_s():
    command = [sys.executable, str(BENCHMARKS / "decoding.py"), "--quick"]
    done = subprocess.run(
        command, cwd=BENCHMARKS.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "fp32: all 5 beams as the original's for 20 of 20 images" in done.stdout
    for table in (
        "| greedy |",
        "| beam 5 |",
        "peak memory",
        "caption length",
        "beam width",
        "LSTM",
    ):
        assert table in done.stdout
