"""A process that runs networks keeps the memory that they let go."""

import ctypes
import subprocess
import sys

import pytest

from fieldmark.data.task import Task
from fieldmark.learning.fitting.resolve import resolve_recipe
from fieldmark.model import build

HAS_MALLOPT = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt")
MEASURE = """
import ctypes, resource
from concurrent.futures import ThreadPoolExecutor
from fieldmark.core.memory import keep_freed_memory

def faults():
    begun = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        ctypes.memset(block := malloc(SIZE), 1, SIZE)
        free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - begun

SIZE = 1 << 24
library = ctypes.CDLL(None)
malloc, free = library.malloc, library.free
malloc.restype, malloc.argtypes, free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
ctypes.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
before = faults()
keep_freed_memory()
faults()  # the block is asked for once
with ThreadPoolExecutor(1) as thread:
    print(before, faults(), thread.submit(faults).result())
"""


@pytest.mark.skipif(not HAS_MALLOPT, reason="the C library has no mallopt")
def test_pages_of_freed_blocks_are_not_asked_for_again() -> None:
    before, after, in_a_thread = map(int, subprocess.check_output([sys.executable, "-c", MEASURE]).split())
    assert after < 100, "twenty blocks of 16 MiB were taken from what was freed"
    assert in_a_thread < 100, "by a thread that began afterwards as well"
    assert before >= 10 * max(after, 1), "without it, the C library returns them"


def test_whoever_builds_a_network_keeps_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[bool] = []
    monkeypatch.setattr(build, "keep_freed_memory", lambda: kept.append(True))
    build.build_model(resolve_recipe("probe", backbone="resnet10t", weights="none"), Task(2))
    assert kept
