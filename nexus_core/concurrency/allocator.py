"""Lets the C library give memory back that large requests have taken (glibc; others do without).

glibc keeps a heap for each thread, and raises by itself the size of blocks that are given back at once, up to 32 MiB:
after a burst of large messages a process stays as large as it was at the worst moment.
"""

from __future__ import annotations

import os
import sys

ARENAS = 2
"""Heaps that threads share."""

KEPT_BYTES = 128 * 1024
"""Free memory that is kept at the end of a heap; blocks of this size and more are given back at once."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_VARIABLES = ("MALLOC_ARENA_MAX", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def limit_kept_memory() -> bool:
    """Set glibc's limits for this process, unless its environment has; return whether they are set."""
    if sys.platform != "linux" or any(name in os.environ for name in _VARIABLES):
        return False
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    settings = ((_M_ARENA_MAX, ARENAS), (_M_TRIM_THRESHOLD, KEPT_BYTES), (_M_MMAP_THRESHOLD, KEPT_BYTES))
    return all([mallopt(name, value) == 1 for name, value in settings])
