"""What happens to the memory that a network frees, and how it is known that there is too little."""

from __future__ import annotations

import ctypes
import gc
import re
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from fieldmark.core.errors import FieldmarkError

__all__ = ["give_back_freed_memory", "keep_freed_memory", "lacked_memory", "lacks_memory", "with_kernels"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -3, -4, -8  # of malloc.h
_NEVER, _NONE, _ONE = -1, 0, 1
_MANY, _LARGE = 2**16, 2**20
_LACKS = re.compile(
    r"allocate memory|out of memory|bad[_ ]alloc|Failed to allocate|Available memory of|STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)
"""How PyTorch, ONNX Runtime, and cuBLAS and cuDNN below them say so. For a GPU PyTorch has a class, for the processor
none."""
_NO_KERNEL = "could not create a primitive"
"""How oneDNN, below PyTorch, says so of a kernel; what it says of a layer that it does not know goes on behind that."""

T = TypeVar("T")

_thread = threading.local()
_gives_back = False
"""Whether memory has not sufficed in this process; it then keeps none, whatever network is built afterwards."""


def lacks_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice, of whatever device: Python's, NumPy's, or a library's."""
    if isinstance(error, MemoryError) or _lacks_kernels(error):
        return True
    return not isinstance(error, FieldmarkError) and _LACKS.search(str(error)) is not None


def _lacks_kernels(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and str(error).strip() == _NO_KERNEL


def lacked_memory(error: BaseException) -> bool:
    """Whether an error is one that says so, or was made of one."""
    return lacks_memory(error) or (error.__cause__ is not None and lacked_memory(error.__cause__))


def with_kernels(call: Callable[[], T]) -> T:
    """What `call` returns: of this thread, or of a new one where oneDNN makes no kernels in this one any more.

    Its generator of code remembers, for as long as a thread lives, that there once was no memory for a kernel, and
    then makes none, however much memory there is (`ERR_CANT_ALLOC` of Xbyak, which nobody clears). So `call` brings
    along what torch knows of a thread, such as its autocast.
    """
    if not hasattr(_thread, "makes_no_kernels"):
        try:
            return call()
        except RuntimeError as error:
            if _lacks_kernels(error):
                _thread.makes_no_kernels = True
            raise
    with ThreadPoolExecutor(1, thread_name_prefix="kernels") as new:
        return new.submit(call).result()


def keep_freed_memory() -> None:
    """Let this process keep what it frees, to use it again.

    A step on the CPU allocates and frees every activation. glibc gives blocks of that size back to the system at once,
    so that each of their pages is asked for and cleared anew in every step: a third of a step's time and more
    (`benchmarks/memory.py`). No number changes. The process stays as large as it once was, until memory does not
    suffice (`give_back_freed_memory`). Under another C library nothing is done.

    Where another thread than the main one runs the network, this is called before there are threads: what belongs to
    a thread's own arena is given back in any case, so all of them share one.
    """
    if (mallopt := _of_c("mallopt")) is not None and not _gives_back:
        mallopt(_MMAP_MAX, _NONE)
        mallopt(_TRIM_THRESHOLD, _NEVER)
        mallopt(_ARENA_MAX, _ONE)


def give_back_freed_memory() -> None:
    """After memory has not sufficed: give back what was freed, and from now on do so at once.

    What the C library keeps is of use to itself alone. oneDNN asks the system for the memory of each kernel's code, and
    another batch needs other kernels, so a smaller one would fail beside gigabytes of free memory.
    """
    global _gives_back
    _gives_back = True
    gc.collect()
    if (mallopt := _of_c("mallopt")) is not None:
        mallopt(_MMAP_MAX, _MANY)
        mallopt(_MMAP_THRESHOLD, _LARGE)
        mallopt(_TRIM_THRESHOLD, _LARGE)
    if (trim := _of_c("malloc_trim")) is not None:
        trim(0)


def _of_c(name: str) -> Callable[..., int] | None:
    """A function of the C library beneath Python; None where it is not glibc, as musl is not."""
    return getattr(ctypes.pythonapi, name, None) if sys.platform == "linux" else None
