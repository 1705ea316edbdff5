"""benchmarks/decoding.py runs, and its baselines are what they say."""

from tests.quick_benchmarks import printed_by


def test_every_section_runs_at_a_tiny_size_and_beams_are_the_original_s():
    printed = printed_by("decoding.py")
    assert "fp32: all 5 beams as the original's for 20 of 20 images" in printed
    for table in (
        "| greedy |",
        "| beam 5 |",
        "peak memory",
        "caption length",
        "beam width",
        "LSTM",
    ):
        assert table in printed
