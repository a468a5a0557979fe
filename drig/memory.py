"""How this process gets its memory."""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's <malloc.h>


def reuse_freed_memory() -> None:
    """From now on, keep what this process frees for its next tensors; its memory then stays at its peak.

    glibc gives a large block back to the system when it is freed, and the system clears the pages of the next one: at
    256 px half of a training step on a CPU. Elsewhere than with glibc nothing happens.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)  # no block is the system's own ...
        libc.mallopt(M_TRIM_THRESHOLD, -1)  # ... and none at the end of the heap goes back to it
