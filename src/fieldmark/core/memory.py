"""What happens to the memory that a network frees, and how it is known that there is too little."""

from __future__ import annotations

import ctypes
import re
import sys

from fieldmark.core.errors import FieldmarkError

__all__ = ["keep_freed_memory", "lacks_kernels", "lacks_memory"]

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # of malloc.h
_NEVER, _NONE, _ONE = -1, 0, 1
_LACKS = re.compile(r"allocate memory|out of memory|bad_alloc|Failed to allocate", re.IGNORECASE)
"""How PyTorch and ONNX Runtime say so. For a GPU they have a class, for the processor none."""
_NO_KERNEL = "could not create a primitive"
"""How oneDNN, below PyTorch, says so of a kernel; what it says of a layer that it does not know goes on behind that."""


def lacks_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice, of whatever device: Python's, NumPy's, or a library's."""
    if isinstance(error, MemoryError) or lacks_kernels(error):
        return True
    return not isinstance(error, FieldmarkError) and _LACKS.search(str(error)) is not None


def lacks_kernels(error: BaseException) -> bool:
    """Whether an error says that there is no memory for a kernel. Pieces of a batch need further ones, so they do not
    help."""
    return isinstance(error, RuntimeError) and str(error).strip() == _NO_KERNEL


def keep_freed_memory() -> None:
    """Let this process keep what it frees, to use it again.

    A step on the CPU allocates and frees every activation. glibc gives blocks of that size back to the system at once,
    so that each of their pages is asked for and cleared anew in every step: a third of a step's time and more
    (`benchmarks/memory.py`). No number changes. The process stays as large as it once was. Under another C library
    nothing is done.

    Where another thread than the main one runs the network, this is called before there are threads: what belongs to
    a thread's own arena is given back in any case, so all of them share one.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.pythonapi, "mallopt", None)  # of the C library beneath Python; musl has none
    if mallopt is not None:
        mallopt(_MMAP_MAX, _NONE)
        mallopt(_TRIM_THRESHOLD, _NEVER)
        mallopt(_ARENA_MAX, _ONE)
