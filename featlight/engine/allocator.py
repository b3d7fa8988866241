"""Keep freed memory in the process instead of returning it to the kernel after every layer."""

import ctypes
import os
import platform
from functools import cache

# Numbers of glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_BLOCK = 1 << 30  # bytes; larger ones are mapped and unmapped as before
MOST_SPARE = (1 << 31) - 1  # bytes at the end of the heap that are kept
VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")  # set by the user, they take precedence


@cache
def keep_memory() -> bool:
    """Make the C library keep freed memory; return whether it does.

    By default glibc maps each large block anew and unmaps it when it is freed, so the kernel clears its pages again.
    On networks with large maps this took more than half of a step.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in VARIABLES):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all([mallopt(M_MMAP_THRESHOLD, LARGEST_BLOCK), mallopt(M_TRIM_THRESHOLD, MOST_SPARE)])
