"""How this process gets its memory, and how much."""

import ctypes
import platform
import resource

import torch

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


def peak_memory(device: torch.device) -> float:
    """The most that was in use so far, GB: of a GPU, what tensors took there; on a CPU, the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
