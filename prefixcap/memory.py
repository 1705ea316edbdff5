"""How the C library deals with memory that a training step frees."""

import ctypes
import os
import resource
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h
MADV_HUGEPAGE = 14  # of sys/mman.h
LARGE_PAGE = 2 << 20  # bytes, on x86-64; where pages are larger, the advice covers a little less
OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")


def keep_freed_memory() -> bool:
    """Keep freed memory for the next step, where the C library is glibc; True where it is.

    glibc asks the kernel anew for each large block and gives it back when it is freed. Gradients
    are taken and freed at each step, and the kernel then clears them page by page: a
    twelfth of a step in which all of GPT-2 small is trained in bf16 on one core
    (`benchmarks/training.py --fresh-memory`). The most memory that the process ever used stays with
    it, in large pages where the kernel gives them on request: weights and moments are read from end
    to end at each step, and the processor then looks up a page once in 2 MB in place of 4 kB.
    """
    library = ctypes.CDLL(None)
    mallopt = getattr(library, "mallopt", None)
    kept = bool(mallopt and mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, -1))
    if kept and not _addresses_are_scarce():
        _advise_large_pages(library, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    return kept


def _addresses_are_scarce() -> bool:
    """Whether addresses count though nothing is in them, so that stores could not be mapped."""
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        return True
    try:
        return OVERCOMMIT.read_text().strip() == "2"  # the kernel promises no more than it has
    except OSError:
        return False


def _advise_large_pages(library: ctypes.CDLL, size: int) -> None:
    """Ask for large pages in the next `size` bytes of the heap, none of which is touched.

    A block is taken, its addresses are advised, and it is freed again into the heap. Where there
    are no such addresses or no such pages, everything stays as it is.
    """
    library.malloc.restype = ctypes.c_void_p
    library.malloc.argtypes = [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    block = library.malloc(size)
    if block:
        first = -(-block // LARGE_PAGE) * LARGE_PAGE
        library.madvise(first, (block + size - first) // LARGE_PAGE * LARGE_PAGE, MADV_HUGEPAGE)
        library.free(block)
