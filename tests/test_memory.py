"""Freed memory is kept for the next step."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from prefixcap import memory

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


LARGE = """
import ctypes
from prefixcap.memory import keep_freed_memory

def resident(name):
    with open("/proc/self/smaps_rollup") as lines:
        return sum(int(line.split()[1]) for line in lines if line.startswith(name + ":"))

def flags_at(address):
    here = False
    with open("/proc/self/smaps") as lines:
        for line in lines:
            first, _, rest = line.partition("-")
            if rest and ":" not in first and " " not in first:
                here = int(first, 16) <= address < int(rest.split()[0], 16)
            elif here and line.startswith("VmFlags:"):
                return line.split()[1:]

assert keep_freed_memory()
untouched = resident("Rss")
block = bytearray(256 << 20)
middle = ctypes.addressof(ctypes.c_char.from_buffer(block)) + len(block) // 2
assert "hg" in flags_at(middle), flags_at(middle)  # large pages were asked for
print(untouched, resident("AnonHugePages"))
"""


LIMITED = """
import os, resource
from pathlib import Path
from prefixcap import memory

def virtual():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmSize:"))

%s
before = virtual()
assert memory.keep_freed_memory()
print(virtual() - before)
"""
MACHINE = 'os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")'
LIMITS = {
    "ulimit -v": f"resource.setrlimit(resource.RLIMIT_AS, ({MACHINE},) * 2)",
    "overcommit": "memory.OVERCOMMIT = Path('overcommit')",
}


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
@pytest.mark.parametrize("limit", LIMITS)
def test_no_addresses_are_taken_where_they_count(tmp_path, limit):
    (tmp_path / "overcommit").write_text("2\n")
    program = [sys.executable, "-c", LIMITED % LIMITS[limit]]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    found = subprocess.run(
        program,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=tmp_path,
        env=environment,
    )
    assert int(found.stdout) < 100_000  # kB


def large_pages_on_request():
    """Whether the kernel gives large pages to who asks for them."""
    try:
        said = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
    except OSError:
        return False
    return "[never]" not in said and not memory._addresses_are_scarce()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
@pytest.mark.skipif(not large_pages_on_request(), reason="the kernel has no large pages to give")
def test_the_heap_is_in_large_pages_of_which_none_is_taken_beforehand():
    found = subprocess.run(
        [sys.executable, "-c", LARGE], capture_output=True, text=True, check=True, timeout=60
    )
    untouched, large = map(int, found.stdout.split())
    assert untouched < 100_000  # kB
    assert large > 128_000  # kB of the 256 MiB; the kernel may lack some
