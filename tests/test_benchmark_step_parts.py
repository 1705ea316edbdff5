"""benchmarks/step_parts.py runs, and says something of every part."""

import re
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
PARTS = (
    "GELU and its derivative",
    "attention, 8 rows",
    "attention, 40 rows",
    "cross-entropy, vocabulary frozen",
    "cross-entropy, vocabulary trained",
    "transpose copied",
    "from 8 rows",
    "bias within",
    "float32 product",
    "AdamW",
    "in large pages",
)


def test_every_part_is_timed_beside_what_it_stands_for():
    command = [sys.executable, str(BENCHMARKS / "step_parts.py"), "--quick", "--rounds", "1"]
    done = subprocess.run(
        command, cwd=BENCHMARKS.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"\| (.+) \| .+ \| ([\d.]+) \| ([\d.]+) \| [\d.]+ \|", done.stdout)
    assert len(rows) == len(PARTS)
    for part, (name, ours, before) in zip(PARTS, rows, strict=True):
        assert part in name
        assert float(ours) > 0
        assert float(before) > 0
