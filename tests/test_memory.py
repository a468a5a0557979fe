import platform
import subprocess
import sys

import pytest

COUNT = """
import resource, sys, torch
from drig.memory import reuse_freed_memory
if sys.argv[1] == "reuse":
    reuse_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for round in range(8):  # the heap may still grow in the second and third, by how its first blocks happened to lie
    before = faults()
    for _ in range(5):
        a = torch.ones(16 * 2**20)
        b = a + 1
        del a, b
print(faults() - before)
"""


def faults(how: str) -> int:
    """Pages that the system had to give to a process that makes and frees 128 MB five times over."""
    return int(subprocess.run([sys.executable, "-c", COUNT, how], capture_output=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's allocator that is asked")
def test_freed_memory_is_not_asked_for_again() -> None:
    assert faults("reuse") < faults("plain") / 20
