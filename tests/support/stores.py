"""Stores of decoded pixels, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from fieldmark.data.cache import PixelStore
from fieldmark.data.catalog import Catalog
from fieldmark.data.decode import decode
from fieldmark.data.duplicates import fingerprint

__all__ = ["SIDE", "assert_right", "make_catalog", "stores"]

SIDE = 20


def make_catalog(root: Path, n: int = 12, broken: tuple[int, ...] = ()) -> Catalog:
    """Noise of various sizes, as PNG and JPEG; `broken` rows are cut short."""
    generator = np.random.default_rng(0)
    paths = tuple(f"{row}.{'png' if row % 2 else 'jpg'}" for row in range(n))
    for row, path in enumerate(paths):
        height, width = generator.integers(8, 60, 2)
        Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(root / path)
        if row in broken:
            (root / path).write_bytes((root / path).read_bytes()[:100])
    blank = np.full(n, "")
    return Catalog("noise", root, paths, np.zeros(n, np.int64), ("one",), blank, blank)


def assert_right(store: PixelStore) -> None:
    """Every row is what `decode` says."""
    for row in store.readable:
        pixels, size = decode(store.catalog.file(row), short_side=store.side)
        np.testing.assert_array_equal(store[row].pixels, pixels)
        assert store[row].size == size
        assert store[row].pixels.flags.writeable
    for place, row in enumerate(store.readable):
        digest, thumbnail = fingerprint(store.catalog.file(row).read_bytes(), store[row].pixels)
        assert store.fingerprints.digests[place] == digest
        np.testing.assert_array_equal(store.fingerprints.thumbnails[place], thumbnail)


def stores(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")
