"""Audit: look for problems in data before training."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.claims import claim
from fieldmark.core.listener import Done, Listener, Tick, kept_warnings
from fieldmark.core.storage import cache_folder, write_bytes, write_json
from fieldmark.data.auditing.examine import SIDE, examine
from fieldmark.data.auditing.findings import Audit
from fieldmark.data.cache import build_store
from fieldmark.data.catalog import Catalog, data_read
from fieldmark.data.decode import orientation
from fieldmark.data.readers.columns import Columns
from fieldmark.data.sets import read
from fieldmark.reporting.audit_page import compose_audit

__all__ = ["audit"]

_BLOCK = 1024
_CACHE_GB = 2.0
"""For the small pictures that are compared: some 15 kB each, apart from the pictures that trainings keep."""


def audit(
    data: Path | str | Catalog,
    *,
    root: Path | str | None = None,
    columns: Columns | None = None,
    out: Path | str | None = None,
    listener: Listener | None = None,
) -> Audit:
    """Look for problems in `data` that would distort scores or should be known before training.

    Every image is decoded once and compared with the others. With `out`, `audit.json` (see `Audit.as_dict`) and
    `index.html`, a page with pictures, are written there.
    """
    listener = listener or Listener()
    if out is not None:
        claim(Path(out), "an audit")  # before the work, not after it
    with kept_warnings() as warnings:
        catalog = data if isinstance(data, Catalog) else read(data, root=root, columns=columns)
    listener.hear(data_read(catalog))
    with listener.progress("Looking at images") as tick:
        store = build_store(catalog, side=SIDE, folder=cache_folder() / "audits", limit_gb=_CACHE_GB, progress=tick)
    with listener.progress("Reading orientations") as tick:
        turned = _orientations(catalog, tick)
    found = examine(catalog, store, orientations=turned, warnings=warnings, listener=listener)
    if out is not None:
        write_json(Path(out) / "audit.json", found.as_dict())
        write_bytes(Path(out) / "index.html", compose_audit(found).encode())
    listener.hear(Done("audit", None if out is None else Path(out)))
    return found


def _orientations(catalog: Catalog, tick: Tick) -> NDArray[np.int64]:
    """The EXIF orientation (N,) of every file."""
    turned = np.ones(len(catalog), np.int64)
    with ThreadPoolExecutor(2) as pool:
        for start in range(0, len(catalog), _BLOCK):
            rows = range(start, min(start + _BLOCK, len(catalog)))
            turned[start : rows.stop] = list(pool.map(lambda row: orientation(catalog.file(row)), rows))
            tick(rows.stop, len(catalog))
    return turned
