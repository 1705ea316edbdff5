"""benchmarks/training.py runs, and its baseline learns what our step learns."""

import re

from tests.quick_benchmarks import printed_by


def test_both_settings_run_at_a_tiny_size_and_gradients_are_the_original_s():
    printed = printed_by("training.py", "--rounds", "1")
    errors = re.findall(r"(\w+): gradients differ by (\S+) in fp32, (\S+) in bf16", printed)
    assert [name for name, *_ in errors] == ["frozen", "tuned"]
    assert all(float(exact) < 1e-6 < float(rounded) < 0.05 for _, exact, rounded in errors)
    assert printed.count("; ReLU units on in one of both: 0 of ") == 1  # the tuned mapper has none
    for name in ("original, fp32", "original, fp32, freed memory kept", "bf16, a row per caption"):
        assert printed.count(f"| {name} |") == 2
    assert printed.count("| bf16, shared prefix |") == 2
    assert re.search(
        r"\| original, fp32 \| [\d.]+ \| 1\.0 \| \d+% \| [\d.]+ \| [1-9]\d* \|", printed
    )
