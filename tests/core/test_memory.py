"""A process that runs networks keeps the memory that they let go."""

import ctypes
import subprocess
import sys

import pytest
import torch

from fieldmark.core.errors import DeviceError
from fieldmark.core.memory import lacks_memory
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


TOO_MUCH = """
import resource
import numpy as np
import torch
from fieldmark.core.memory import lacks_memory

with open("/proc/self/statm") as file:
    taken = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 2**28, taken + 2**28))
for ask in (lambda: torch.empty(2**28), lambda: np.empty(2**27), lambda: bytes(2**30)):
    try:
        ask()
        print("enough")
    except Exception as error:
        print(lacks_memory(error))
try:
    torch.zeros(2) + torch.zeros(3)
except RuntimeError as error:
    print(lacks_memory(error))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the limit is not kept")
def test_a_real_lack_of_memory_is_known_as_such() -> None:
    found = subprocess.check_output([sys.executable, "-c", TOO_MUCH], text=True).split()
    assert found == ["True", "True", "True", "False"]


def test_what_others_call_a_lack_of_memory() -> None:
    assert lacks_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert lacks_memory(RuntimeError("std::bad_alloc"))
    assert lacks_memory(RuntimeError("bad allocation")), "as Windows says it"
    assert lacks_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    assert lacks_memory(RuntimeError("could not create a primitive"))
    assert not lacks_memory(RuntimeError("could not create a primitive descriptor for a convolution"))
    assert lacks_memory(RuntimeError("[ONNXRuntimeError] : 6 : Failed to allocate memory for requested buffer"))
    assert not lacks_memory(DeviceError("Memory does not suffice: can't allocate memory"))  # told already


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
