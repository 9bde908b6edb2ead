"""`build_store`: one pass over a catalogue that decodes every image, fingerprints it and keeps the pixels for training.

A store on disk is a folder named by its key, a hash of all that decides the pixels: the side, the versions of the
decoder and its libraries, every file's path, size and time of change, and which rows are kept.

    <cache>/pixels/
      <key>/pixels.bin    the kept images' bytes, one after the other
      <key>/index.npz     where each lies, sizes, fingerprints, what could not be read; its time is that of the last use
      <key>.part/         a store being built, renamed when it is complete
      <key>.lock          locked by the process that builds it, so a `.part` whose lock is free was left by a dead one

Shapes: N rows of the catalogue, R of them readable.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import features

from fieldmark.data import decode as decoding
from fieldmark.data import duplicates
from fieldmark.data.catalog import Catalog
from fieldmark.data.decode import Decoded, decode, read_bytes
from fieldmark.data.duplicates import Fingerprints, fingerprint
from fieldmark.errors import ImageError, StorageError
from fieldmark.storage import cache_folder, make_folder

__all__ = ["PixelStore", "build_store"]

_SPARE_BYTES = 2**30
"""Left free on the disk: checkpoints and reports need room too."""
_BLOCK = 256
"""Images decoded ahead of the one being written: what bounds memory."""
_NOTHING = -1
"""Offset of an image whose pixels are not stored."""


@dataclass(frozen=True, eq=False)
class PixelStore:
    """The pixels of a catalogue's images, from disk where they are cached and decoded afresh where not: bit for bit
    the same. It can be sent to worker processes, which read the same file and get no fingerprints.
    """

    catalog: Catalog
    side: int
    """The shorter side of an image has at most this many pixels."""
    fingerprints: Fingerprints
    """(R) those of `readable`, in that order."""
    unreadable: Mapping[int, str]
    """Row → the reason, a whole sentence that names the file."""
    notes: tuple[str, ...] = ()
    """What the user should know: why images are not cached."""
    file: Path | None = None
    """Holds the cached pixels."""
    offsets: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """(N,) where each image starts in `file`, −1 where it is not there."""
    shapes: NDArray[np.int32] = field(default_factory=lambda: np.empty((0, 4), np.int32))
    """(N, 4) height and width of the pixels, width and height of the upright original; zeros where unreadable."""

    def __len__(self) -> int:
        return len(self.catalog)

    def __getitem__(self, row: int) -> Decoded:
        """The pixels of a row (h, w, 3) and the original's size; ImageError where it cannot be read."""
        if self.file is not None and self.offsets[row] != _NOTHING:
            height, width, *size = (int(n) for n in self.shapes[row])
            # Opened for each image: nothing to share between processes, and a store that was evicted meanwhile (or a
            # file cut short) is noticed here, where a memory map would end the process.
            with contextlib.suppress(OSError):
                flat = np.fromfile(self.file, np.uint8, height * width * 3, offset=int(self.offsets[row]))
                if flat.size == height * width * 3:
                    return Decoded(flat.reshape(height, width, 3), (size[0], size[1]))
        return decode(self.catalog.file(row), short_side=self.side)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "fingerprints": self.fingerprints.select(np.empty(0, np.int64))}

    @property
    def readable(self) -> NDArray[np.int64]:
        """(R,) the rows that can be read."""
        return np.flatnonzero(~np.isin(np.arange(len(self)), list(self.unreadable)))

    @property
    def cached(self) -> NDArray[np.bool_]:
        """(N,) whose pixels are on disk."""
        return self.offsets != _NOTHING

    def select(self, rows: NDArray[np.int64]) -> Self:
        """The store of `catalog.select(rows)`."""
        places = np.searchsorted(self.readable, [row for row in rows if row not in self.unreadable])
        return replace(
            self,
            catalog=self.catalog.select(rows),
            fingerprints=self.fingerprints.select(places),
            unreadable={new: self.unreadable[row] for new, row in enumerate(rows) if row in self.unreadable},
            offsets=self.offsets[rows],
            shapes=self.shapes[rows],
        )


def build_store(
    catalog: Catalog,
    *,
    side: int,
    keep: NDArray[np.bool_] | None = None,
    limit_gb: float = 8.0,
    folder: Path | None = None,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> PixelStore:
    """Decode every image once, unless a store of the very same images is there already.

    `keep` (N,) marks the rows whose pixels are stored; the others are fingerprinted only. All stores in `folder`
    together take at most `limit_gb`, and a gigabyte of the disk stays free: the stores not used for longest give way,
    then images are left out. Where `folder` cannot be written nothing is stored, `notes` says why, and all works the
    same, more slowly. `progress` is told (done, total). Processes that ask for the same store build it once.
    """
    keep = np.ones(len(catalog), bool) if keep is None else keep
    assert keep.shape == (len(catalog),)
    folder = cache_folder() / "pixels" if folder is None else folder
    job = _Job(catalog, side, keep, workers, progress or (lambda done, total: None))
    home = folder / _key(catalog, side, keep)
    try:
        make_folder(folder)
        with _locked(home.with_suffix(".lock")):
            return _opened(home, job) or _built(home, job, int(limit_gb * 1e9))
    except (StorageError, OSError) as error:
        return _unstored(job, f"Pixels are not cached, so every image is decoded each time: {error}")


@dataclass(frozen=True)
class _Job:
    catalog: Catalog
    side: int
    keep: NDArray[np.bool_]
    workers: int
    progress: Callable[[int, int], None]


class _Seen(NamedTuple):
    """What the pass learns of one readable image."""

    decoded: Decoded
    digest: np.uint64
    thumbnail: NDArray[np.uint8]


def _key(catalog: Catalog, side: int, keep: NDArray[np.bool_]) -> str:
    versions = [PIL.__version__, *(features.version(name) for name in ("libjpeg_turbo", "jpg", "webp", "avif"))]
    text = json.dumps([side, decoding.VERSION, duplicates.VERSION, *versions, str(catalog.root)])
    digest = hashlib.sha256(text.encode())
    for row, path in enumerate(catalog.paths):
        size, changed = 0, 0
        with contextlib.suppress(OSError, ValueError):  # a missing file is found unreadable later
            status = catalog.file(row).stat()
            size, changed = status.st_size, status.st_mtime_ns
        digest.update(f"{path}\0{size}\0{changed}\0{keep[row]:d}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]


def _see(job: _Job, row: int) -> _Seen | str:
    """One image, or why it cannot be read."""
    path = job.catalog.file(row)
    try:
        data = read_bytes(path)
        decoded = decode(data, short_side=job.side, name=str(path))
    except ImageError as error:
        return str(error)
    return _Seen(decoded, *fingerprint(data, decoded.pixels))


def _pass(job: _Job) -> Iterator[tuple[int, _Seen | str]]:
    """Every row in order, whatever the number of threads (they suffice: Pillow decodes outside the interpreter lock)."""
    total = len(job.catalog)
    with ThreadPoolExecutor(max(1, job.workers)) as pool:
        for start in range(0, total, _BLOCK):
            rows = range(start, min(start + _BLOCK, total))
            yield from zip(rows, pool.map(lambda row: _see(job, row), rows), strict=True)
            job.progress(rows.stop, total)


def _scan(job: _Job, put: Callable[[NDArray[np.uint8]], int]) -> PixelStore:
    """The pass: `put` stores the pixels of a kept image and returns where, or −1."""
    offsets = np.full(len(job.catalog), _NOTHING, np.int64)
    shapes = np.zeros((len(job.catalog), 4), np.int32)
    seen_digests: list[np.uint64] = []
    thumbnails: list[NDArray[np.uint8]] = []
    unreadable: dict[int, str] = {}
    for row, seen in _pass(job):
        if isinstance(seen, str):
            unreadable[row] = seen
            continue
        shapes[row] = (*seen.decoded.pixels.shape[:2], *seen.decoded.size)
        seen_digests.append(seen.digest)
        thumbnails.append(seen.thumbnail)
        if job.keep[row]:
            offsets[row] = put(seen.decoded.pixels)
    stacked = np.array(thumbnails, np.uint8).reshape(-1, duplicates.SIDE, duplicates.SIDE, 3)
    prints = Fingerprints(np.array(seen_digests, np.uint64), stacked)
    return PixelStore(job.catalog, job.side, prints, unreadable, offsets=offsets, shapes=shapes)


def _unstored(job: _Job, note: str) -> PixelStore:
    return replace(_scan(job, lambda pixels: _NOTHING), notes=(note,))


def _built(home: Path, job: _Job, limit: int) -> PixelStore:
    """Build the store beside its place and move it there. The caller holds its lock."""
    _sweep(home.parent)
    part = home.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)  # of a build that died
    part.mkdir()
    try:
        with (part / "pixels.bin").open("wb") as file:
            writer = _Writer(home.parent, file, limit)
            store = _scan(job, writer.put)
            os.fsync(file.fileno())
        _write_index(part / "index.npz", store)
        shutil.rmtree(home, ignore_errors=True)  # a damaged one
        part.rename(home)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return replace(store, file=home / "pixels.bin", notes=_notes(store, job.keep))


class _Writer:
    """Appends pixels to a file until there is no room left."""

    def __init__(self, folder: Path, file: IO[bytes], limit: int) -> None:
        self._folder, self._file, self._limit = folder, file, limit
        self._others = sum(_bytes_of(store) for store in _stores(folder))
        self._written = 0
        self._checked = 0
        self._full = False

    def put(self, pixels: NDArray[np.uint8]) -> int:
        """Where the pixels lie in the file, or −1 where there was no room."""
        if self._full or not self._room_for(pixels.nbytes):
            return _NOTHING
        offset = self._written
        try:
            self._file.write(pixels.data)
        except OSError:  # the disk filled up faster than it was asked, or a quota did: what lies there stays good
            self._full = True
            return _NOTHING
        self._written += pixels.nbytes
        return offset

    def _room_for(self, count: int) -> bool:
        while self._written + self._others + count > self._limit or self._disk_is_full(count):
            oldest = min(_stores(self._folder), key=_last_used, default=None)
            if oldest is None or self._written + count > self._limit:
                self._full = True
                return False
            self._others -= _bytes_of(oldest)
            self._checked = 0
            shutil.rmtree(oldest)
        return True

    def _disk_is_full(self, count: int) -> bool:
        """Asked every 64 MB."""
        if self._checked and self._written + count < self._checked + 2**26:
            return False
        self._checked = max(1, self._written)
        return shutil.disk_usage(self._folder).free < _SPARE_BYTES + 2**26
