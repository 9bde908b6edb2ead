"""Importing quickly: without what an answer does not need, and without counting what stays anyway."""

from __future__ import annotations

import functools
import gc
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

__all__ = ["compiler_on_demand", "uncollected"]

_COMPILER = "torch._dynamo.utils"


@contextmanager
def compiler_on_demand() -> Iterator[None]:
    """While this lasts, torchvision and timm are imported without torch's compiler.

    The compiler takes as long to import as torch itself, and both packages import it for nothing that is used here:
    torchvision takes a function for `roi_align` from it, timm marks methods of one model with `torch.compiler.disable`.
    Each finds a stand-in that imports the compiler when it is first called. Where the compiler is imported already,
    nothing is done.
    """
    import torch

    if "torch._dynamo" in sys.modules:
        yield
        return
    stand_in, disable = _StandIn(_COMPILER), torch.compiler.disable
    sys.modules[_COMPILER] = stand_in
    torch.compiler.disable = _disable
    try:
        yield
    finally:
        if sys.modules.get(_COMPILER) is stand_in:
            del sys.modules[_COMPILER]
        torch.compiler.disable = disable


@contextmanager
def uncollected() -> Iterator[None]:
    """While this lasts, Python does not look for garbage.

    Modules stay, and looking through them again and again while they are imported takes a tenth of the time until an
    answer.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


class _StandIn(ModuleType):
    """A module of the compiler that becomes the real one when more is asked of it than what torchvision imports."""

    @staticmethod
    def is_compile_supported(device_type: Any) -> Any:
        return importlib.import_module(_COMPILER).is_compile_supported(device_type)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system asks for these
            raise AttributeError(name)
        if sys.modules.get(_COMPILER) is self:
            del sys.modules[_COMPILER]
        return getattr(importlib.import_module(_COMPILER), name)


def _disable(fn: Callable[..., Any] | None = None, recursive: bool = True, *, reason: str | None = None) -> Any:
    """`torch.compiler.disable`, when the function is first called."""
    from torch._compile import _disable_dynamo

    if fn is None:
        return functools.partial(_disable, recursive=recursive, reason=reason)
    return _disable_dynamo(fn, recursive)
