"""Freed memory is kept for the next step."""

import platform
import subprocess
import sys

import pytest

COUNT = """
import resource
from prefixcap.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        block = bytearray(64 << 20)  # cleared by whoever hands it out
        block[:: 4096] = bytes(len(block) // 4096)
        del block
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
assert keep_freed_memory()
faults()
print(before, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_memory_that_a_step_frees_is_not_asked_for_again():
    found = subprocess.run(
        [sys.executable, "-c", COUNT], capture_output=True, text=True, check=True, timeout=60
    )
    before, after = map(int, found.stdout.split())
    assert before > 5 * (64 << 20) / (2 << 20)  # a fault a page, were they of 2 MiB each
    assert after < before / 5
