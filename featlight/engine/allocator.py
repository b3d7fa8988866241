"""The C library's memory, kept by the process instead of being given back after every layer of every step."""

import ctypes
import os
import platform
from functools import cache

# Numbers of glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_BLOCK = 1 << 30  # bytes; larger ones are mapped and unmapped as before
MOST_SPARE = (1 << 31) - 1  # bytes at the end of the heap that stay
VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")  # a user's own words, which stand


@cache
def keep_memory() -> bool:
    """Have freed maps stay with the process, once; whether that was done.

    By default glibc maps a large block anew each time and gives it back when it is freed, and the kernel clears its
    pages again: on networks with large maps that took more than half of a step.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in VARIABLES):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all([mallopt(M_MMAP_THRESHOLD, LARGEST_BLOCK), mallopt(M_TRIM_THRESHOLD, MOST_SPARE)])
