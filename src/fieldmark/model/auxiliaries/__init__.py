"""Losses that compare the images of a batch with each other, beside any method's own.

One paper, one file; every module in this folder is imported, so a new file registers itself.
"""

from __future__ import annotations

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
