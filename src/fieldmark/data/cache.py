"""`build_store`: one pass over a catalogue that decodes every image, fingerprints it and keeps the pixels for training.

A store on disk is a folder named by its key, a hash of all that decides the pixels: the side, the depth of greyscale,
the versions of the decoder and its libraries, every file's path, size, times and number, and which rows are kept.

    <cache>/pixels/
      <key>/pixels.bin    the kept images' bytes, one after the other
      <key>/index.npz     where each lies, sizes, checksums, fingerprints, what could not be read, and of which of
                          these the files could not; its time is that of the last use
      <key>.part/         a store being built, renamed when it is complete
      <key>.lock          locked by the process that builds it, so a `.part` whose lock is free was left by a dead one

A damaged picture stays damaged for as long as its file is the same. A file that could not be read may be readable the
next time: it is tried again, and if one can be read, the store is built anew.

Shapes: N rows of the catalogue, R of them readable.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import features

from fieldmark.core.errors import ImageError, StorageError
from fieldmark.core.locks import lock
from fieldmark.core.storage import cache_folder, make_folder, replacing
from fieldmark.data import decode as decoding
from fieldmark.data import duplicates
from fieldmark.data.catalog import Catalog
from fieldmark.data.decode import Decoded, decode, read_bytes
from fieldmark.data.duplicates import Fingerprints, fingerprint
from fieldmark.data.remote import WAITING, Entry, below, is_remote
from fieldmark.data.shards import stamp_of

__all__ = ["DECODERS", "PixelStore", "build_store"]

DECODERS = 2
"""The threads that decode pictures, unless another number is asked for."""

_SPARE_BYTES = 2**30
"""Left free on the disk: checkpoints and reports need room too."""
_INDEX_BYTES = 1024
"""What an image takes in the index, at most; counted before there is one."""
_ASK_EVERY = 2**26
"""Bytes written between two looks at the disk."""
_BLOCK = 256
"""Images decoded ahead of the one being written: what bounds memory."""
_KEY = re.compile("[0-9a-f]{32}")
"""The name of a store."""
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
    grey_bits: int | None
    """The depth of 16-bit greyscale; None for each picture's own."""
    fingerprints: Fingerprints
    """(R) those of `readable`, in that order."""
    unreadable: Mapping[int, str]
    """Row → the reason, a whole sentence that names the file."""
    notes: tuple[str, ...] = ()
    """What the user should know, such as why images are not cached."""
    file: Path | None = None
    """Holds the cached pixels."""
    offsets: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """(N,) where each image starts in `file`, −1 where it is not there."""
    shapes: NDArray[np.int32] = field(default_factory=lambda: np.empty((0, 4), np.int32))
    """(N, 4) height and width of the pixels, width and height of the upright original; zeros where unreadable."""
    checksums: NDArray[np.uint32] = field(default_factory=lambda: np.empty(0, np.uint32))
    """(N,) the CRC-32 of each image's bytes in `file`, 0 where it is not there."""

    def __len__(self) -> int:
        return len(self.catalog)

    def __getitem__(self, row: int) -> Decoded:
        """The pixels of a row (h, w, 3) and the original's size; ImageError where it cannot be read."""
        if self.file is not None and self.offsets[row] != _NOTHING:
            height, width, *size = (int(n) for n in self.shapes[row])
            # Opened for each image: nothing to share between processes, and a store that was evicted or damaged
            # meanwhile is noticed here, where a memory map would end the process.
            with contextlib.suppress(OSError):
                flat = np.fromfile(self.file, np.uint8, height * width * 3, offset=int(self.offsets[row]))
                if flat.size == height * width * 3 and zlib.crc32(flat.data) == self.checksums[row]:
                    return Decoded(flat.reshape(height, width, 3), (size[0], size[1]))
        return decode(self.catalog.file(row), short_side=self.side, grey_bits=self.grey_bits)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "fingerprints": self.fingerprints.select(np.empty(0, np.int64))}

    @property
    def readable(self) -> NDArray[np.int64]:
        """(R,) the rows that can be read."""
        return np.delete(np.arange(len(self)), np.array(list(self.unreadable), np.int64))

    @property
    def cached(self) -> NDArray[np.bool_]:
        """(N,) whose pixels are on disk."""
        return self.offsets != _NOTHING

    def clusters(self, progress: Callable[[int, int], None] | None = None) -> NDArray[np.int64]:
        """(R,) of `readable`, images that show the same picture share a number; see `data/duplicates.py`.

        It is kept beside the pixels: comparing 100,000 images would take most of a start. `progress` gets (done, total)
        of the images compared.
        """
        if self.file is None or not self.file.exists():
            return duplicates.clusters(self.fingerprints, progress=progress)
        place = self.file.with_name(f"clusters-{self.fingerprints.key()}.npz")
        # a damaged archive raises nearly anything
        with contextlib.suppress(Exception), place.open("rb") as file, np.load(file, allow_pickle=False) as saved:
            kept: NDArray[np.int64] = saved["clusters"]
            return kept
        found = duplicates.clusters(self.fingerprints, progress=progress)
        with contextlib.suppress(StorageError), replacing(place) as writing:  # a full cache, or one to read only
            np.savez(writing, clusters=found)
        return found

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
            checksums=self.checksums[rows],
        )


def build_store(
    catalog: Catalog,
    *,
    side: int,
    grey_bits: int | None = None,
    keep: NDArray[np.bool_] | None = None,
    limit_gb: float = 8.0,
    folder: Path | None = None,
    workers: int = DECODERS,
    progress: Callable[[int, int], None] | None = None,
) -> PixelStore:
    """Decode every image once, unless a store of the very same images is there already.

    `grey_bits` is the depth of 16-bit greyscale, None for each picture's own. `keep` (N,) marks the rows whose pixels
    are stored; the others are fingerprinted only. All stores in `folder` together take at most `limit_gb`, and a
    gigabyte of the disk stays free: the stores not used for longest give way, then images are left out. Where `folder`
    cannot be written nothing is stored, `notes` says why, and all works the same, more slowly. `progress` gets (done,
    total). Processes that ask for the same store build it once.
    """
    keep = np.ones(len(catalog), bool) if keep is None else keep
    assert keep.shape == (len(catalog),)
    folder = cache_folder() / "pixels" if folder is None else folder
    job = _Job(catalog, side, grey_bits, keep, int(limit_gb * 1e9), workers, progress or (lambda done, total: None))
    home = folder / _key(job)
    if (store := _opened(home, job)) is not None:
        return store
    try:
        make_folder(folder)
        with lock(home.with_suffix(".lock")):  # another process may have built it while this one waited
            return _built(home, job) if (store := _opened(home, job)) is None else store
    except (StorageError, OSError) as error:
        note = f"Pixels are not cached, so every image is decoded each time: {error}"
        store, _ = _scan(job, lambda pixels: _NOTHING)
        return replace(store, notes=(note,))


@dataclass(frozen=True)
class _Job:
    catalog: Catalog
    side: int
    grey_bits: int | None
    keep: NDArray[np.bool_]
    limit: int
    workers: int
    progress: Callable[[int, int], None]


class _Seen(NamedTuple):
    """What the pass learns of one readable image."""

    decoded: Decoded
    digest: np.uint64
    thumbnail: NDArray[np.uint8]


class _Unseen(NamedTuple):
    """Why an image cannot be read."""

    reason: str
    is_unread: bool
    """Whether its file could not be read, so that nothing is known of what is in it."""


def _key(job: _Job) -> str:
    libraries = [PIL.__version__, *(features.version(name) for name in ("libjpeg_turbo", "jpg", "webp", "avif"))]
    head = [job.side, job.grey_bits, decoding.VERSION, duplicates.VERSION, *libraries, str(job.catalog.root)]
    digest = hashlib.sha256(json.dumps(head).encode())
    shards: dict[str, Entry | None] = {}
    root = str(job.catalog.root)
    for path, kept in zip(job.catalog.paths, job.keep.tolist(), strict=True):
        try:
            known = stamp_of(below(root, path), shards)
        except (OSError, ValueError):  # a missing file is found unreadable later
            known = ()
        digest.update(f"{path}\0{known}\0{kept:d}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]


def _see(job: _Job, row: int) -> _Seen | _Unseen:
    """One image, or why it cannot be read."""
    path = job.catalog.file(row)
    try:
        data = read_bytes(path)
    except ImageError as error:
        return _Unseen(str(error), is_unread=True)
    try:
        decoded = decode(data, short_side=job.side, grey_bits=job.grey_bits, name=str(path))
    except ImageError as error:
        return _Unseen(str(error), is_unread=False)
    return _Seen(decoded, *fingerprint(data, decoded.pixels))


def _pass(job: _Job) -> Iterator[tuple[int, _Seen | _Unseen]]:
    """Every row in order, whatever the number of threads. They suffice: Pillow decodes outside the interpreter lock."""
    total = len(job.catalog)
    threads = WAITING if is_remote(job.catalog.root) else job.workers
    with ThreadPoolExecutor(max(1, threads)) as pool:
        for start in range(0, total, _BLOCK):
            rows = range(start, min(start + _BLOCK, total))
            yield from zip(rows, pool.map(lambda row: _see(job, row), rows), strict=True)
            job.progress(rows.stop, total)


def _scan(job: _Job, put: Callable[[NDArray[np.uint8]], int]) -> tuple[PixelStore, list[int]]:
    """The pass: `put` stores the pixels of a kept image and returns where, or −1. With the store come the rows whose
    files could not be read."""
    offsets = np.full(len(job.catalog), _NOTHING, np.int64)
    shapes = np.zeros((len(job.catalog), 4), np.int32)
    checksums = np.zeros(len(job.catalog), np.uint32)
    seen_digests: list[np.uint64] = []
    thumbnails: list[NDArray[np.uint8]] = []
    unreadable: dict[int, str] = {}
    unread: list[int] = []
    for row, seen in _pass(job):
        if isinstance(seen, _Unseen):
            unreadable[row] = seen.reason
            if seen.is_unread:
                unread.append(row)
            continue
        shapes[row] = (*seen.decoded.pixels.shape[:2], *seen.decoded.size)
        seen_digests.append(seen.digest)
        thumbnails.append(seen.thumbnail)
        if job.keep[row]:
            offsets[row] = put(seen.decoded.pixels)
            checksums[row] = zlib.crc32(np.ascontiguousarray(seen.decoded.pixels).data)
    stacked = np.array(thumbnails, np.uint8).reshape(-1, duplicates.SIDE, duplicates.SIDE, 3)
    prints = Fingerprints(np.array(seen_digests, np.uint64), stacked)
    store = PixelStore(
        job.catalog,
        job.side,
        job.grey_bits,
        prints,
        unreadable,
        offsets=offsets,
        shapes=shapes,
        checksums=checksums,
    )
    return store, unread


def _built(home: Path, job: _Job) -> PixelStore:
    """Build the store beside its place and move it there. The caller holds its lock."""
    _sweep(home.parent)
    part = home.with_suffix(".part")
    _remove(part)  # of a build that died
    part.mkdir()
    _remove(home)  # damaged, or of another limit
    try:
        with (part / "pixels.bin").open("wb", buffering=0) as file:
            store, unread = _scan(job, _Writer(home.parent, file, job.limit - _INDEX_BYTES * len(job.catalog)).put)
            os.fsync(file.fileno())
        _write_index(part / "index.npz", store, unread, job)
        part.rename(home)
    finally:
        _remove(part)
    return replace(store, file=home / "pixels.bin", notes=_notes(store, job))


def _notes(store: PixelStore, job: _Job) -> tuple[str, ...]:
    wanted = np.intersect1d(store.readable, np.flatnonzero(job.keep))
    missing = int((~store.cached[wanted]).sum())
    note = (
        f"{missing:,} of {len(wanted):,} images did not fit into the pixel cache and are decoded each time. "
        f"Allow it more than {job.limit / 1e9:g} GB, or free some disk space."
    )
    return (note,) if missing else ()


def _write_index(path: Path, store: PixelStore, unread: list[int], job: _Job) -> None:
    with path.open("wb") as file:
        np.savez(
            file,
            offsets=store.offsets,
            shapes=store.shapes,
            checksums=store.checksums,
            digests=store.fingerprints.digests,
            thumbnails=store.fingerprints.thumbnails,
            unreadable=np.array(json.dumps(list(store.unreadable.items()))),
            unread=np.array(unread, np.int64),
            limit=np.array(job.limit),
        )
        file.flush()
        os.fsync(file.fileno())


def _opened(home: Path, job: _Job) -> PixelStore | None:
    """The store at `home`; None where there is none, it is damaged, another limit makes a difference, or a file can be
    read that could not."""
    index, file = home / "index.npz", home / "pixels.bin"
    try:
        # opened here: of a damaged file, numpy would leave its own open
        with index.open("rb") as archive, np.load(archive, allow_pickle=False) as saved:
            store = PixelStore(
                job.catalog,
                job.side,
                job.grey_bits,
                Fingerprints(saved["digests"], saved["thumbnails"]),
                {int(row): str(reason) for row, reason in json.loads(str(saved["unreadable"]))},
                file=file,
                offsets=saved["offsets"],
                shapes=saved["shapes"],
                checksums=saved["checksums"],
            )
            limit = int(saved["limit"])
            unread = saved["unread"].tolist()
        size = 3 * int(np.prod(store.shapes[store.cached, :2], axis=1, dtype=np.int64).sum())
        if len(store.offsets) != len(job.catalog) or file.stat().st_size < size:
            return None
        notes = _notes(store, job)
    except Exception:  # a damaged archive raises nearly anything, and whatever it is, the store is built anew
        return None
    if size + _INDEX_BYTES * len(store) > job.limit or (notes and limit != job.limit):
        return None
    if any(_can_be_read(job.catalog.file(row)) for row in unread):
        return None
    with contextlib.suppress(OSError):  # a cache that may only be read
        os.utime(index)
    job.progress(len(store), len(store))
    return replace(store, notes=notes)


def _can_be_read(file: Path) -> bool:
    try:
        read_bytes(file)
    except ImageError:
        return False
    return True


class _Writer:
    """Appends pixels to a file until there is no room; the stores not used for longest make room first."""

    def __init__(self, folder: Path, file: IO[bytes], limit: int) -> None:
        self._folder, self._file, self._limit = folder, file, limit
        found = [index for index in folder.glob("*/index.npz") if _KEY.fullmatch(index.parent.name)]
        stores = [index.parent for index in sorted(found, key=lambda path: path.stat().st_mtime)]
        self._others = [(store, sum(file.stat().st_size for file in store.iterdir())) for store in stores]
        self._written = self._asked = 0
        self._full = False

    def put(self, pixels: NDArray[np.uint8]) -> int:
        """Where the pixels lie in the file, or −1 where there was no room."""
        if self._full or not self._make_room(pixels.nbytes):
            return _NOTHING
        offset = self._written
        try:
            self._written += self._file.write(pixels.data)
        except OSError:  # a quota, or a disk that filled up faster than it was asked: what was written is good
            self._full = True
        self._full = self._full or self._written < offset + pixels.nbytes
        return _NOTHING if self._full else offset

    def _make_room(self, count: int) -> bool:
        while self._too_much(count):
            self._full = not self._others or self._written + count > self._limit
            if self._full:
                return False
            _remove(self._others.pop(0)[0])
        return True

    def _too_much(self, count: int) -> bool:
        if self._written + count + sum(size for _, size in self._others) > self._limit:
            return True
        if self._written < self._asked:
            return False
        if shutil.disk_usage(self._folder).free < _SPARE_BYTES + _ASK_EVERY:
            return True
        self._asked = self._written + _ASK_EVERY
        return False


def _sweep(folder: Path) -> None:
    """Remove what dead builds left."""
    for part in folder.glob("*.part"):
        if _KEY.fullmatch(part.stem):
            with contextlib.suppress(OSError), lock(part.with_suffix(".lock"), wait=False) as held:
                if held:
                    _remove(part)


def _remove(store: Path) -> None:
    """Remove a store, whole or half built. Whatever else lies in the folder is not ours, and stays."""
    with contextlib.suppress(OSError):
        for file in (store / "index.npz", store / "pixels.bin", *store.glob("clusters-*"), *store.glob(".clusters-*")):
            file.unlink(missing_ok=True)
        store.rmdir()
