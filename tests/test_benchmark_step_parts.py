"""benchmarks/step_parts.py runs, and says something of every part."""

import re

from tests.quick_benchmarks import printed_by

PARTS = (
    "GELU and its derivative",
    "attention, 8 rows",
    "attention, 40 rows",
    "cross-entropy, vocabulary frozen",
    "cross-entropy, vocabulary trained",
    "transpose copied",
    "from 8 rows",
    "from 32 rows",
    "bias within",
    "float32 product",
    "AdamW",
    "in large pages",
)


def test_every_part_is_timed_beside_what_it_stands_for():
    printed = printed_by("step_parts.py", "--rounds", "1")
    rows = re.findall(r"\| (.+) \| .+ \| ([\d.]+) \| ([\d.]+) \| [\d.]+ \|", printed)
    assert len(rows) == len(PARTS)
    for part, (name, ours, before) in zip(PARTS, rows, strict=True):
        assert part in name
        assert float(ours) > 0
        assert float(before) > 0
