"""Keep the memory that arrays give back, instead of returning it to the system and asking for it again.

A training step makes and frees the same few hundred arrays each time. By default glibc hands blocks of some megabytes
back to the system when they are freed; the next step then meets fresh pages, and each costs the system a fault and
4 KB of zeros. In a GPT step on two cores that was 11,690 faults, 20 of 117 ms; with the limits below there are none.

What is kept is at most KEPT bytes more than the process once needed. Someone who has set glibc's own variables
(MALLOC_TRIM_THRESHOLD_ and its kin, GLIBC_TUNABLES) knows better: then nothing is changed. Other C libraries have no
such switch.
"""

import ctypes
import os
import sys

LARGEST = 32 << 20  # blocks above this still come from the system, and go back to it: the largest limit glibc takes
KEPT = 256 << 20  # free memory at the end of the heap that is not handed back
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


def keep_freed_memory():
    """Set glibc's limits, unless the user has. Returns whether it did."""
    if not sys.platform.startswith("linux") or any(
        name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ
    ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return mallopt(M_MMAP_THRESHOLD, LARGEST) == 1 and mallopt(M_TRIM_THRESHOLD, KEPT) == 1
