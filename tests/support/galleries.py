"""Galleries of invented pictures, for tests."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldmark.gallery.gallery import Gallery
from fieldmark.gallery.store import Entry, Maker

__all__ = ["MAKER", "entry", "gallery_in", "killed_while_adding", "unit"]

MAKER: Maker = {
    "network": "transfer on a drawing, 32 px",
    "architecture": "a" * 64,
    "weights": "b" * 64,
    "view": "c" * 64,
}


def unit(number: int, dimension: int = 8, seed: int = 0) -> NDArray[np.float32]:
    """(number, dimension) random directions."""
    vectors = np.random.default_rng(seed).normal(size=(number, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def entry(name: str, content: str = "", **known: Any) -> Entry:
    """A picture at /photographs/<name>, whose file holds this."""
    held = (content or name).encode("utf-8", "surrogateescape")
    return Entry(f"/photographs/{name}", hashlib.sha256(held).hexdigest(), **known)


def gallery_in(place: Path | str, number: int = 0, dimension: int = 8) -> Gallery:
    """A gallery, open for writing, with the pictures 0, 1, 2, …"""
    gallery = Gallery.make(place, MAKER, dimension)
    gallery.add([entry(str(k)) for k in range(number)], unit(number, dimension))
    return gallery


_WRITER = """
import sys
from support.galleries import entry, gallery_in, unit
gallery = gallery_in(sys.argv[1], dimension=64)
vectors = unit(8, 64)
for batch in range(10_000):
    gallery.add([entry(f"{sys.argv[2]}-{batch}-{k}") for k in range(8)], vectors)
    print(batch, flush=True)
"""


def killed_while_adding(place: Path | str, attempt: int) -> set[str]:
    """Let a process of its own add pictures until it is killed at a random moment; the names that it acknowledged."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", _WRITER, str(place), str(attempt)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
    ) as writer:
        assert writer.stdout is not None
        told = [writer.stdout.readline() for _ in range(random.Random(attempt).randrange(1, 60))]
        writer.kill()
        told += writer.communicate()[0].splitlines()
    return {f"{attempt}-{int(batch)}-{k}" for batch in told if batch.strip() for k in range(8)}
