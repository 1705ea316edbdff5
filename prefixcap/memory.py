"""How the C library deals with memory that a training step frees."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h


def keep_freed_memory() -> bool:
    """Keep freed memory for the next step, where the C library is glibc; True where it is.

    glibc asks the kernel anew for each large block and gives it back when it is freed. Gradients
    are taken and freed at each step, and the kernel then clears them page by page: a
    twelfth of a step in which all of GPT-2 small is trained in bf16 on one core
    (`benchmarks/training.py --fresh-memory`). The most memory that the process ever used stays with
    it.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return bool(mallopt and mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, -1))
